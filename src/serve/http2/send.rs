//! A response's body in DATA frames, no faster than the client makes room for them (RFC 9113 §5.2, §6.1).

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use crate::http::flow::{Cause, Fault, Stage};
use crate::http::h1::inbound::read_part;
use crate::http::h1::write::Rate;
use crate::http::{Body, Chunk, FilePart, Headers, h2 as side};
use crate::net::clock;
use crate::net::timer::within;

/// Bytes of a file that are read at once.
const PIECE: usize = 64 << 10;

/// Sends bodies.
pub struct Sender<'a> {
    stream: SendStream<Bytes>,
    timeout: Duration,
    rate: Rate,
    /// Bytes of a frame.
    chunk: usize,
    started: Instant,
    /// Bytes that were sent.
    pub sent: u64,
    /// Called when a body may have come upon something that is to be logged.
    notes: &'a dyn Fn(),
}

enum Next {
    Data(Bytes),
    File(FilePart),
    /// Nothing for now: what is held must leave.
    Pause,
    End,
}

impl<'a> Sender<'a> {
    /// A sender that has sent nothing.
    pub fn new(stream: SendStream<Bytes>, timeout: Duration, rate: Rate, chunk: usize, notes: &'a dyn Fn()) -> Self {
        Self { stream, timeout, rate, chunk, started: clock::instant(), sent: 0, notes }
    }

    /// Sends `body` and the fields behind it.
    pub async fn send(
        &mut self,
        mut body: Body,
        has_trailers: bool,
        own: impl FnOnce() -> Headers,
    ) -> Result<(), Fault> {
        // The last piece waits, so that it can say that it is the last.
        let mut held = Bytes::new();
        loop {
            let next = match std::future::poll_fn(|cx| self.next(cx, &mut body, !held.is_empty())).await {
                Ok(next) => next,
                Err(fault) => {
                    // The client still gets what came before its source failed.
                    self.data(held, false, &mut body).await?;
                    return Err(fault);
                }
            };
            match next {
                Next::Data(bytes) => {
                    let before = std::mem::replace(&mut held, bytes);
                    self.data(before, false, &mut body).await?;
                }
                Next::Pause => self.data(std::mem::take(&mut held), false, &mut body).await?,
                Next::File(part) => {
                    self.data(std::mem::take(&mut held), false, &mut body).await?;
                    if matches!(body, Body::Empty) && !has_trailers {
                        return self.file(part, &mut body).await;
                    }
                    held = self.all_but_last(part, &mut body).await?;
                }
                Next::End => break,
            }
        }
        let (own, of_body) = (has_trailers.then(own), body.trailers());
        let mut map = HeaderMap::new();
        for field in of_body.iter().chain(&own).flat_map(Headers::iter) {
            side::append(&mut map, field.name, field.value);
        }
        if map.is_empty() {
            return self.data(held, true, &mut body).await;
        }
        self.data(held, false, &mut body).await?;
        self.stream.send_trailers(map).map_err(|error| side::fault(&error))
    }

    /// The next piece; a client that leaves ends the wait for it.
    fn next(&mut self, cx: &mut Context<'_>, body: &mut Body, holds: bool) -> Poll<Result<Next, Fault>> {
        let next = body.poll_chunk(cx);
        (self.notes)();
        match next {
            Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => Poll::Ready(Ok(Next::Data(bytes))),
            Poll::Ready(Some(Ok(Chunk::File(part)))) => Poll::Ready(Ok(Next::File(part))),
            Poll::Ready(Some(Ok(Chunk::Flush))) => Poll::Ready(Ok(Next::Pause)),
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Err(fault)),
            Poll::Ready(None) => Poll::Ready(Ok(Next::End)),
            Poll::Pending if holds => Poll::Ready(Ok(Next::Pause)),
            Poll::Pending => self.stream.poll_reset(cx).map(|_| Err(Fault::client(Stage::Send, Cause::Closed))),
        }
    }

    /// Sends a file to the end of the stream.
    async fn file(&mut self, mut part: FilePart, body: &mut Body) -> Result<(), Fault> {
        while part.len > 0 {
            let bytes = self.piece(&mut part, body).await?;
            self.data(bytes, part.len == 0, body).await?;
        }
        Ok(())
    }

    /// Sends a file but for its last piece, which is returned.
    async fn all_but_last(&mut self, mut part: FilePart, body: &mut Body) -> Result<Bytes, Fault> {
        let mut held = Bytes::new();
        while part.len > 0 {
            let before = std::mem::take(&mut held);
            self.data(before, false, body).await?;
            held = self.piece(&mut part, body).await?;
        }
        Ok(held)
    }

    /// Reads as much of a file as there is room for.
    async fn piece(&mut self, part: &mut FilePart, body: &mut Body) -> Result<Bytes, Fault> {
        let room = self.room(usize::try_from(part.len).unwrap_or(PIECE).min(PIECE), 0, body).await?;
        let bytes = read_part(part, room).map_err(Fault::here)?;
        if bytes.is_empty() {
            return Err(Fault::here(std::io::ErrorKind::UnexpectedEof.into()));
        }
        part.offset += bytes.len() as u64;
        part.len -= bytes.len() as u64;
        Ok(bytes)
    }

    /// Sends bytes, in frames of the size that was asked for; `body`, which comes next, may go on in the meantime.
    async fn data(&mut self, mut bytes: Bytes, end: bool, body: &mut Body) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let wanted = self.allowance(bytes.len(), body).await?.min(self.chunk);
            let piece = bytes.split_to(self.room(wanted, bytes.len(), body).await?);
            self.sent += piece.len() as u64;
            let last = end && bytes.is_empty();
            self.stream.send_data(piece, last).map_err(|error| side::fault(&error))?;
            if last {
                return Ok(());
            }
        }
        match end {
            true => self.stream.send_data(bytes, true).map_err(|error| side::fault(&error)),
            false => Ok(()),
        }
    }

    /// Waits until some of `wanted` bytes may be sent; as many of them as may. `queued` bytes wait in memory.
    async fn room(&mut self, wanted: usize, queued: usize, body: &mut Body) -> Result<usize, Fault> {
        self.stream.reserve_capacity(wanted);
        if self.stream.capacity() == 0 {
            let room = std::future::poll_fn(|cx| {
                let room = self.stream.poll_capacity(cx);
                if room.is_pending() {
                    body.poll_ahead(cx, queued);
                }
                room
            });
            match within(self.timeout, room).await {
                Some(Some(room)) => room.map_err(|error| side::fault(&error))?,
                Some(None) => return Err(Fault::client(Stage::Send, Cause::Closed)),
                None => return Err(Fault::client(Stage::Send, Cause::TimedOut)),
            };
        }
        Ok(wanted.min(self.stream.capacity()))
    }

    /// The bytes that may leave now; waits until there are some.
    async fn allowance(&mut self, wanted: usize, body: &mut Body) -> Result<usize, Fault> {
        loop {
            match self.rate.allows(self.started, self.sent, wanted) {
                Ok(allowed) => return Ok(allowed),
                Err(pause) => {
                    let gone = std::future::poll_fn(|cx| {
                        body.poll_ahead(cx, wanted);
                        self.stream.poll_reset(cx)
                    });
                    if tokio::time::timeout(pause, gone).await.is_ok() {
                        return Err(Fault::client(Stage::Send, Cause::Closed));
                    }
                }
            }
        }
    }
}

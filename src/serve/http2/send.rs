//! A response's body in DATA frames, no faster than the client makes room for them (RFC 9113 §5.2, §6.1).

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::http::flow::{Cause, Fault, Side, Stage};
use crate::http::h1::inbound::read_part;
use crate::http::h1::write::Rate;
use crate::http::h2::{Stream, link};
use crate::http::{Body, Chunk, FilePart, Headers};
use crate::net::timer::within;

/// Sends bodies.
pub struct Sender<'a> {
    /// Where to.
    pub stream: &'a Rc<Stream>,
    /// How long the client may make no room.
    pub timeout: Duration,
    /// How fast.
    pub rate: Rate,
    /// Bytes of a frame.
    pub chunk: usize,
    /// When it began.
    pub started: Instant,
    /// Bytes of the body that were sent.
    pub sent: u64,
    /// Called when a body may have come upon something that is to be logged.
    pub notes: &'a dyn Fn(),
}

/// What is taken from a body and not sent: bytes, and a part of a file behind them.
#[derive(Default)]
struct Held {
    pieces: VecDeque<Bytes>,
    len: usize,
    file: Option<FilePart>,
}

impl Held {
    fn total(&self) -> u64 {
        self.len as u64 + self.file.as_ref().map_or(0, |part| part.len)
    }

    /// Reads from the file until `len` bytes are there.
    fn load(&mut self, len: usize) -> Result<(), Fault> {
        while self.len < len
            && let Some(part) = &mut self.file
        {
            let bytes = read_part(part, len - self.len).map_err(Fault::here)?;
            if bytes.is_empty() {
                return Err(Fault::here(std::io::ErrorKind::UnexpectedEof.into()));
            }
            part.offset += bytes.len() as u64;
            part.len -= bytes.len() as u64;
            if part.len == 0 {
                self.file = None;
            }
            self.push(bytes);
        }
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if !bytes.is_empty() {
            self.pieces.push_back(bytes);
        }
    }
}

/// What stays behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// A frame, which may turn out to be the last.
    Frame,
    Nothing,
    /// Nothing, and nothing follows.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// More was taken.
    More,
    /// Nothing for now: what is held must leave.
    Pause,
    End,
}

impl Sender<'_> {
    /// Sends `body` and the fields behind it.
    pub async fn send(
        &mut self,
        mut body: Body,
        has_trailers: bool,
        own: impl FnOnce() -> Headers,
    ) -> Result<(), Fault> {
        let mut held = Held::default();
        loop {
            match std::future::poll_fn(|cx| self.next(cx, &mut body, &mut held)).await {
                Ok(Next::More) => self.push(&mut held, Rest::Frame, &mut body).await?,
                Ok(Next::Pause) => self.push(&mut held, Rest::Nothing, &mut body).await?,
                Ok(Next::End) => break,
                Err(fault) => {
                    // The client still gets what came before its source failed.
                    if fault.side == Side::Upstream {
                        self.push(&mut held, Rest::Nothing, &mut body).await?;
                    }
                    return Err(fault);
                }
            }
        }
        let of_body = body.trailers();
        let own = has_trailers.then(own);
        let mut fields = of_body.iter().chain(&own).flat_map(Headers::iter).peekable();
        if fields.peek().is_none() {
            return self.push(&mut held, Rest::End, &mut body).await;
        }
        self.push(&mut held, Rest::Nothing, &mut body).await?;
        self.room(0, &mut body).await?;
        self.stream.head(true, |link, out| {
            let mut encoder = link.encoder.borrow_mut();
            fields.for_each(|field| encoder.field(out, field.name, field.value));
        });
        Ok(())
    }

    /// Takes the next piece; a client that leaves ends the wait for it.
    fn next(&mut self, cx: &mut Context<'_>, body: &mut Body, held: &mut Held) -> Poll<Result<Next, Fault>> {
        let next = body.poll_chunk(cx);
        (self.notes)();
        if let Poll::Ready(Some(Ok(_))) = next {
            // What is left of a file comes before this.
            held.load(usize::try_from(held.total()).unwrap_or(usize::MAX))?;
        }
        match next {
            Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => {
                held.push(bytes);
                Poll::Ready(Ok(Next::More))
            }
            Poll::Ready(Some(Ok(Chunk::File(part)))) => {
                held.file = Some(part).filter(|part| part.len > 0);
                Poll::Ready(Ok(Next::More))
            }
            Poll::Ready(Some(Ok(Chunk::Flush))) => Poll::Ready(Ok(Next::Pause)),
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Err(fault)),
            Poll::Ready(None) => Poll::Ready(Ok(Next::End)),
            Poll::Pending if held.total() > 0 => Poll::Ready(Ok(Next::Pause)),
            Poll::Pending => self.stream.poll_gone(cx).map(|()| Err(Fault::client(Stage::Send, Cause::Closed))),
        }
    }

    /// Sends what is held as far as `rest` says; `body`, which comes next, may go on in the meantime.
    async fn push(&mut self, held: &mut Held, rest: Rest, body: &mut Body) -> Result<(), Fault> {
        loop {
            let total = held.total();
            let wanted = match rest {
                Rest::Frame => total.saturating_sub(1) / self.chunk as u64 * self.chunk as u64,
                _ => total,
            };
            if wanted == 0 && (rest != Rest::End || self.stream.is_out_closed()) {
                return Ok(());
            }
            // Whole frames, and no more than what is due at a time.
            let turn = (link::TURN / self.chunk).max(1).saturating_mul(self.chunk);
            let piece = usize::try_from(wanted).unwrap_or(turn).min(turn);
            let allowed = if piece > 0 { self.allowance(piece, body).await? } else { 0 };
            let room = self.room(allowed, body).await?;
            held.load(room)?;
            let size = room.min(held.len);
            held.len -= size;
            self.sent += size as u64;
            let end = rest == Rest::End && held.total() == 0;
            self.stream.data(&mut held.pieces, size, self.chunk, end);
        }
    }

    /// Waits until some of `wanted` bytes may be sent; as many of them as may.
    async fn room(&mut self, wanted: usize, body: &mut Body) -> Result<usize, Fault> {
        let room = std::future::poll_fn(|cx| {
            let room = self.stream.poll_room(cx, wanted);
            if room.is_pending() {
                body.poll_ahead(cx, wanted);
            }
            room
        });
        within(self.timeout, room).await.unwrap_or(Err(Fault::client(Stage::Send, Cause::TimedOut)))
    }

    /// The bytes that may leave now; waits until there are some.
    async fn allowance(&mut self, wanted: usize, body: &mut Body) -> Result<usize, Fault> {
        loop {
            match self.rate.allows(self.started, self.sent, wanted) {
                Ok(allowed) => return Ok(allowed),
                Err(pause) => {
                    let gone = std::future::poll_fn(|cx| {
                        body.poll_ahead(cx, wanted);
                        self.stream.poll_gone(cx)
                    });
                    if tokio::time::timeout(pause, gone).await.is_ok() {
                        return Err(Fault::client(Stage::Send, Cause::Closed));
                    }
                }
            }
        }
    }
}

//! A request's body on its way to an HTTP/2 server, as fast as the server makes room for it (RFC 9113 §5.2).

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;

use crate::http::flow::{Cause, Fault, Stage};
use crate::http::h1::Inbound;
use crate::http::h1::inbound::read_part;
use crate::http::{Body, FilePart};
use crate::net::timer::Limit;

/// Bytes of a file that are read at once.
const PIECE: usize = 64 << 10;

/// What is still to be sent.
pub struct Upload {
    stream: Option<SendStream<Bytes>>,
    source: Source,
    /// What was taken from the source and not sent.
    piece: Bytes,
    /// The client's body, once it goes on beside the reply.
    carried: Option<Inbound>,
    done: bool,
    /// Whether the server wants no more of it.
    stopped: bool,
    timeout: Duration,
    limit: Limit,
}

enum Source {
    /// Nothing more.
    Empty,
    File(FilePart),
    /// The client's body as it comes.
    Client,
}

impl Upload {
    /// An upload of `body`, or of what the client sends where it `streams`; `timeout` is that of a server without room.
    pub fn new(body: Body, streams: bool, timeout: Duration) -> Self {
        let done = !streams && super::is_empty(&body);
        let (source, piece) = match body {
            _ if streams => (Source::Client, Bytes::new()),
            Body::Full(bytes) => (Source::Empty, bytes),
            Body::File(part) => (Source::File(part), Bytes::new()),
            _ => (Source::Empty, Bytes::new()),
        };
        Self { stream: None, source, piece, carried: None, done, stopped: false, timeout, limit: Limit::default() }
    }

    /// Sends on this stream from now on.
    pub fn begin(&mut self, stream: SendStream<Bytes>) {
        self.stream = Some(stream);
    }

    /// Whether all of it was sent.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it is the client's body as it comes.
    pub fn is_streaming(&self) -> bool {
        matches!(self.source, Source::Client)
    }

    /// Goes on with the client's body on its own.
    pub fn carry(&mut self, inbound: Inbound) {
        self.carried = Some(inbound);
    }

    /// Sends what it can of a body that it carries.
    pub fn poll_carried(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(mut inbound) = self.carried.take() else { return self.poll_own(cx) };
        let sent = self.poll(cx, &mut inbound);
        self.carried = Some(inbound);
        sent
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.run(cx, None)
    }

    /// Sends what it can; `inbound` is the client's body.
    pub fn poll(&mut self, cx: &mut Context<'_>, inbound: &mut Inbound) -> Poll<Result<(), Fault>> {
        self.run(cx, Some(inbound))
    }

    fn run(&mut self, cx: &mut Context<'_>, mut inbound: Option<&mut Inbound>) -> Poll<Result<(), Fault>> {
        while !self.done {
            if self.stopped {
                return Poll::Pending;
            }
            let mut last = matches!(self.source, Source::Empty);
            if self.piece.is_empty() && !last {
                last = ready!(self.refill(cx, inbound.as_deref_mut()))?;
            }
            ready!(self.push(cx, last))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece; true if it is the last.
    fn refill(&mut self, cx: &mut Context<'_>, inbound: Option<&mut Inbound>) -> Poll<Result<bool, Fault>> {
        match (&mut self.source, inbound) {
            (Source::File(part), _) => {
                self.piece = read_part(part, PIECE).map_err(Fault::here)?;
                part.offset += self.piece.len() as u64;
                part.len = part.len.saturating_sub(self.piece.len() as u64);
                if self.piece.is_empty() || part.len == 0 {
                    self.source = Source::Empty;
                }
            }
            (Source::Client, Some(inbound)) => {
                let limit = inbound.timeout;
                match inbound.poll_next(cx) {
                    Poll::Ready(next) => {
                        self.limit.clear();
                        self.piece = next.map_err(|fault| Fault { stage: Stage::Send, ..fault })?.unwrap_or_default();
                        self.gather(cx, inbound);
                        if self.piece.is_empty() || inbound.is_done() {
                            self.source = Source::Empty;
                        }
                    }
                    Poll::Pending => {
                        ready!(self.limit.poll_over(cx, limit));
                        return Poll::Ready(Err(Fault::client(Stage::Send, Cause::TimedOut)));
                    }
                }
            }
            _ => self.source = Source::Empty,
        }
        Poll::Ready(Ok(matches!(self.source, Source::Empty)))
    }

    /// Adds what has come of the client's body already.
    fn gather(&mut self, cx: &mut Context<'_>, inbound: &mut Inbound) {
        let mut more = Vec::new();
        let mut len = self.piece.len();
        while len > 0 && len < PIECE && !inbound.is_done() {
            // A failure shows itself again.
            let Poll::Ready(Ok(Some(bytes))) = inbound.poll_next(cx) else { break };
            len += bytes.len();
            more.push(bytes);
        }
        if !more.is_empty() {
            more.insert(0, std::mem::take(&mut self.piece));
            self.piece = more.concat().into();
        }
    }

    /// Sends the piece as far as there is room for it.
    fn push(&mut self, cx: &mut Context<'_>, last: bool) -> Poll<Result<(), Fault>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        loop {
            let mut room = 0;
            if !self.piece.is_empty() {
                stream.reserve_capacity(self.piece.len());
                room = stream.capacity();
                if room == 0 {
                    match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        // The server wants no more of it; its reply says what it thinks.
                        Poll::Ready(_) => break,
                        Poll::Pending => {
                            ready!(self.limit.poll_over(cx, self.timeout));
                            return Poll::Ready(Err(Fault::upstream(Stage::Send, Cause::TimedOut)));
                        }
                    }
                }
            }
            self.limit.clear();
            let piece = self.piece.split_to(room.min(self.piece.len()));
            let end = last && self.piece.is_empty();
            if stream.send_data(piece, end).is_err() {
                break;
            }
            if self.piece.is_empty() {
                self.done = end;
                return Poll::Ready(Ok(()));
            }
        }
        self.stopped = true;
        Poll::Pending
    }
}

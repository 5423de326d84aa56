//! A request's body on its way to an HTTP/2 server: where it comes from, and what of it is next.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::http::flow::{Cause, Fault, Stage};
use crate::http::h1::Inbound;
use crate::http::h1::inbound::read_part;
use crate::http::{Body, FilePart};
use crate::net::timer::Limit;

/// Bytes that are taken at once.
const PIECE: usize = 64 << 10;

/// What is still to be sent.
pub struct Upload {
    source: Source,
    /// What was taken from the source and not sent.
    pub piece: Bytes,
    /// The client's body, once it goes on beside the reply.
    carried: Option<Inbound>,
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
    /// An upload of `body`, or of what the client sends where it `streams`.
    pub fn new(body: Body, streams: bool) -> Self {
        let (source, piece) = match body {
            _ if streams => (Source::Client, Bytes::new()),
            Body::Full(bytes) => (Source::Empty, bytes),
            Body::File(part) if part.len > 0 => (Source::File(part), Bytes::new()),
            _ => (Source::Empty, Bytes::new()),
        };
        Self { source, piece, carried: None, limit: Limit::default() }
    }

    /// Whether all of it was taken from the source.
    pub fn is_taken(&self) -> bool {
        matches!(self.source, Source::Empty)
    }

    /// Goes on with the client's body on its own, if there is more of it to come.
    pub fn carry(&mut self, take: impl FnOnce() -> Inbound) {
        if matches!(self.source, Source::Client) {
            self.carried = Some(take());
        }
    }

    /// Takes the next piece; `inbound` is the client's body where it is not carried.
    pub fn refill(&mut self, cx: &mut Context<'_>, inbound: Option<&mut Inbound>) -> Poll<Result<(), Fault>> {
        let mut carried = self.carried.take();
        let refilled = self.take(cx, carried.as_mut().or(inbound));
        self.carried = carried;
        refilled
    }

    fn take(&mut self, cx: &mut Context<'_>, inbound: Option<&mut Inbound>) -> Poll<Result<(), Fault>> {
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
        Poll::Ready(Ok(()))
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
}

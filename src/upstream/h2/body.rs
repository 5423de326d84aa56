//! The body of an HTTP/2 server's reply, with what is left of the request (RFC 9113 §8.1).

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;

use super::{Upload, fault, headers};
use crate::http::attempts::Attempts;
use crate::http::{Body, Cause, Chunk, Fault, Headers, Source, Stage};
use crate::net::timer::Limit;
use crate::upstream::Shared;
use crate::upstream::ahead::{Ahead, Feed};
use crate::upstream::reply::End;
use crate::upstream::shared::{Limits, Names};

/// A stream whose head was read.
pub struct Frames {
    incoming: RecvStream,
    upload: Upload,
}

impl Frames {
    /// The rest of an exchange.
    pub fn new(incoming: RecvStream, upload: Upload) -> Self {
        Self { incoming, upload }
    }
}

/// The body of a reply, and what becomes of its connection.
pub fn body(frames: Frames, end: End, shared: &Shared, buffered: bool) -> Body {
    let conf = &shared.conf;
    Body::Stream(Box::new(Stream {
        frames,
        end,
        timeout: conf.read_timeout,
        limit: Limit::default(),
        flush: (!buffered).then_some(false),
        limits: buffered.then(|| Arc::clone(&shared.limits)),
        hidden: conf.pass_trailers.then(|| Arc::clone(&shared.hidden)),
        read: false,
        done: false,
        ahead: None,
    }))
}

struct Stream {
    frames: Frames,
    end: End,
    timeout: Duration,
    limit: Limit,
    /// Whether what was passed on must leave before more comes; nothing where it may wait.
    flush: Option<bool>,
    /// Trailers that are kept back, where others pass.
    hidden: Option<Arc<Names>>,
    /// Whether all of the body came, and perhaps not its trailers.
    read: bool,
    done: bool,
    /// What may be held for a client that is slower than the upstream; nothing without buffering.
    limits: Option<Arc<Limits>>,
    /// What came before the client wanted it, once it was slower.
    ahead: Option<Box<Ahead>>,
}

impl Source for Stream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        if let Some(next) = self.ahead.as_mut().and_then(|ahead| ahead.take()) {
            return Poll::Ready(Some(next));
        }
        match self.poll_next(cx, usize::MAX) {
            Poll::Pending if self.flush == Some(true) => {
                self.flush = Some(false);
                Poll::Ready(Some(Ok(Chunk::Flush)))
            }
            next => {
                self.flush = self.flush.map(|due| due || next.is_ready());
                next.map_ok(Chunk::Data)
            }
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        let Some(limits) = self.limits.clone() else { return };
        let mut ahead = self.ahead.take().unwrap_or_default();
        ahead.read(cx, queued, &limits, self);
        self.ahead = Some(ahead);
    }

    fn batch(&self) -> usize {
        if self.ahead.is_some() { 1 } else { 64 << 10 }
    }

    fn trailers(&mut self) -> Option<Headers> {
        let hidden = self.hidden.as_ref()?;
        let mut fields = self.end.attempts.trailers.borrow().clone();
        fields.retain(|field| !hidden.has(field.known, field.name));
        Some(fields)
    }
}

impl Feed for Stream {
    fn is_done(&self) -> bool {
        self.done
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _free: usize) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Err(fault)) = self.frames.upload.poll_carried(cx) {
            return Poll::Ready(Some(Err(fault)));
        }
        let next = self.poll_data(cx);
        if next.is_ready() {
            self.limit.clear();
            return next;
        }
        self.limit.poll_over(cx, self.timeout).map(|()| Some(Err(Fault::upstream(Stage::Body, Cause::TimedOut))))
    }

    fn attempts(&self) -> &Attempts {
        &self.end.attempts
    }
}

impl Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let broken = |error: h2::Error| Poll::Ready(Some(Err(fault(Stage::Body, &error))));
        let incoming = &mut self.frames.incoming;
        while !self.read {
            match ready!(incoming.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // A stream that has ended in the meantime needs no room.
                    let _ = incoming.flow_control().release_capacity(bytes.len());
                    self.end.received(bytes.len() as u64);
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(error)) => return broken(error),
                None => self.read = true,
            }
        }
        match ready!(incoming.poll_trailers(cx)) {
            Ok(map) => {
                *self.end.attempts.trailers.borrow_mut() = map.as_ref().map(headers).unwrap_or_default();
                self.done = true;
                self.end.keep_alive = self.frames.upload.is_done();
                self.end.finish();
                Poll::Ready(None)
            }
            Err(error) => broken(error),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.done {
            self.end.keep_alive = false;
            self.end.finish();
        }
    }
}

//! The body of an HTTP/2 server's reply, with what is left of the request (RFC 9113 §8.1).

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::RecvStream;

use super::{Upload, fault, headers};
use crate::http::{Body, Cause, Chunk, Fault, Headers, Source, Stage};
use crate::net::timer::Limit;
use crate::upstream::Shared;
use crate::upstream::reply::End;
use crate::upstream::shared::Names;

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
pub fn body(frames: Frames, end: End, shared: &Shared) -> Body {
    let conf = &shared.conf;
    Body::Stream(Box::new(Stream {
        frames,
        end,
        timeout: conf.read_timeout,
        limit: Limit::default(),
        flush: (!conf.buffering).then_some(false),
        hidden: conf.pass_trailers.then(|| Arc::clone(&shared.hidden)),
        read: false,
        done: false,
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
}

impl Source for Stream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Err(fault)) = self.frames.upload.poll_carried(cx) {
            return Poll::Ready(Some(Err(fault)));
        }
        match self.poll_data(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.limit.clear();
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Pending if self.flush == Some(true) => {
                self.flush = Some(false);
                Poll::Ready(Some(Ok(Chunk::Flush)))
            }
            Poll::Pending => {
                ready!(self.limit.poll_over(cx, self.timeout));
                Poll::Ready(Some(Err(Fault::upstream(Stage::Body, Cause::TimedOut))))
            }
            ready => ready,
        }
    }

    fn trailers(&mut self) -> Option<Headers> {
        let hidden = self.hidden.as_ref()?;
        let mut fields = self.end.attempts.trailers.borrow().clone();
        fields.retain(|field| !hidden.has(field.known, field.name));
        Some(fields)
    }
}

impl Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        let broken = |error: h2::Error| Poll::Ready(Some(Err(fault(Stage::Body, &error))));
        let incoming = &mut self.frames.incoming;
        while !self.read {
            match ready!(incoming.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // A stream that has ended in the meantime needs no room.
                    let _ = incoming.flow_control().release_capacity(bytes.len());
                    self.end.received(bytes.len() as u64);
                    if !bytes.is_empty() {
                        self.flush = self.flush.map(|_| true);
                        return Poll::Ready(Some(Ok(Chunk::Data(bytes))));
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

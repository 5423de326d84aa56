//! Bodies compressed as they pass: <https://nginx.org/en/docs/http/ngx_http_gzip_module.html#gzip_buffers>

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Conf;
use crate::http::flow::Fault;
use crate::http::zlib::{Encoder, Flush};
use crate::http::{Body, Chunk, Headers, Pieces, Source};

/// A body that is being compressed.
pub(super) struct Deflated {
    body: Pieces,
    encoder: Encoder,
    input: Bytes,
    out: Vec<u8>,
    /// Bytes of a piece.
    room: usize,
    flush: Flush,
    no_buffer: bool,
    /// What stands behind the piece that was given last.
    then: Then,
    counts: Rc<Cell<(u64, u64)>>,
}

enum Then {
    More,
    Flush,
    End,
}

impl Deflated {
    /// The compressed `body`; `counts` follows the bytes before and after.
    pub(super) fn new(body: Body, conf: &Conf, counts: Rc<Cell<(u64, u64)>>) -> Self {
        let room = usize::try_from(conf.buffer).unwrap_or(4096).max(64);
        Self {
            body: Pieces::new(body),
            encoder: Encoder::new(conf.effort),
            input: Bytes::new(),
            out: Vec::new(),
            room,
            flush: Flush::None,
            no_buffer: conf.no_buffer,
            then: Then::More,
            counts,
        }
    }

    /// What is ready, where that is anything.
    fn take(&mut self) -> Option<Poll<Option<Result<Chunk, Fault>>>> {
        let out = std::mem::take(&mut self.out);
        (!out.is_empty()).then(|| Poll::Ready(Some(Ok(Chunk::Data(out.into())))))
    }

    /// Compresses what is there; true where the buffer must be emptied first.
    fn run(&mut self) -> Result<bool, Fault> {
        if self.out.capacity() == 0 {
            self.out.reserve_exact(self.room);
        }
        let more = self.encoder.run(&mut self.input, &mut self.out, self.flush).map_err(Fault::here)?;
        self.counts.set(self.encoder.counts());
        if more {
            return Ok(true);
        }
        self.then = match self.flush {
            Flush::None => Then::More,
            Flush::Sync => Then::Flush,
            Flush::Finish => Then::End,
        };
        self.flush = Flush::None;
        Ok(false)
    }
}

impl Source for Deflated {
    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        self.body.poll_ahead(cx, queued);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        loop {
            match self.then {
                Then::More => {}
                Then::Flush => {
                    if let Some(ready) = self.take() {
                        return ready;
                    }
                    self.then = Then::More;
                    return Poll::Ready(Some(Ok(Chunk::Flush)));
                }
                Then::End => return self.take().unwrap_or(Poll::Ready(None)),
            }
            if self.input.is_empty() && self.flush == Flush::None {
                match self.body.poll_chunk(cx) {
                    Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => self.input = bytes,
                    Poll::Ready(Some(Ok(_))) => self.flush = Flush::Sync,
                    Poll::Ready(None) => self.flush = Flush::Finish,
                    Poll::Pending if self.no_buffer => return self.take().unwrap_or(Poll::Pending),
                    other => return other,
                }
            }
            match self.run() {
                Ok(true) => {
                    if let Some(full) = self.take() {
                        return full;
                    }
                }
                Ok(false) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
        }
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}

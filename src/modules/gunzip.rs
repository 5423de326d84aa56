//! Responses decompressed for clients that do not take gzip: <https://nginx.org/en/docs/http/ngx_http_gunzip_module.html>

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::field::Buffers;
use crate::conf::{Contexts, Diag, Directive, on};
use crate::http::flow::Fault;
use crate::http::zlib::Decoder;
use crate::http::{Body, Chunk, Head, Headers, Known, Method, Pieces, Request, Source, gzip};

/// `ngx_http_gunzip_filter_module`.
pub struct Module;

/// Bytes that are decompressed at a time.
const ROOM: usize = 32 << 10;

impl super::Module for Module {
    /// Whether it is on.
    type Conf = bool;
    type Main = ();
    type Loc = bool;
    const PHASES: Phases = Phases::FILTER;

    const DIRECTIVES: &'static [Directive<bool>] = &[
        on("gunzip", Contexts::SCOPES, 1..=1, |on, a| a.set(on)),
        on("gunzip_buffers", Contexts::SCOPES, 2..=2, |_, a| a.set(&mut Buffers { number: 32, size: 4096 })),
    ];

    fn seal(conf: bool, (): &(), _: &mut Seal<'_>) -> Result<bool, Diag> {
        Ok(conf)
    }

    fn filter(on: &bool, request: &Request, head: &mut Head, body: Body) -> Body {
        let coding = head.headers.get(Known::ContentEncoding);
        if !*on || !coding.is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip")) {
            return body;
        }
        request.gzip.vary.set(true);
        if gzip::accepted(request, head) {
            return body;
        }
        head.headers.remove(Known::ContentEncoding);
        gzip::recode(head);
        match body {
            body if request.method == Method::Head => body,
            body => Body::Stream(Box::new(Inflated {
                body: Pieces::new(body),
                decoder: Decoder::default(),
                input: Bytes::new(),
                more: false,
            })),
        }
    }
}

struct Inflated {
    body: Pieces,
    decoder: Decoder,
    input: Bytes,
    /// Whether more is to come out before more goes in.
    more: bool,
}

impl Source for Inflated {
    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        self.body.poll_ahead(cx, queued);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        loop {
            if !self.more {
                match ready!(self.body.poll_chunk(cx)) {
                    Some(Ok(Chunk::Data(bytes))) => self.input = bytes,
                    None => return Poll::Ready(self.decoder.finish().err().map(Err)),
                    other => return Poll::Ready(other),
                }
            }
            let mut out = Vec::with_capacity(ROOM);
            match self.decoder.run(&mut self.input, &mut out) {
                Ok(more) => self.more = more,
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Chunk::Data(out.into()))));
            }
        }
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}

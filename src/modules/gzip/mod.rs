//! Compressed responses: <https://nginx.org/en/docs/http/ngx_http_gzip_module.html>

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use super::{Phases, Seal};
use crate::conf::field::{Buffers, Size};
use crate::conf::{Args, Contexts, Diag, Directive, Problem, many, on};
use crate::http::mime::{NamedTypes, TypeSet};
use crate::http::variable::variable;
use crate::http::zlib::{self, Effort};
use crate::http::{Body, Head, Known, Method, Request, Variable, gzip};

mod deflate;

use deflate::Deflated;

/// `ngx_http_gzip_filter_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone)]
pub struct Conf {
    on: bool,
    effort: Effort,
    /// Bytes; a response that is known to be shorter stays as it is.
    min_length: u64,
    /// Whether what came out leaves before a buffer is full.
    no_buffer: bool,
    /// Bytes that are gathered before they leave.
    buffer: u64,
    types: NamedTypes,
}

impl Default for Conf {
    fn default() -> Self {
        let effort = Effort::default();
        Self { on: false, effort, min_length: 20, no_buffer: false, buffer: LARGEST, types: NamedTypes::default() }
    }
}

/// What requests read.
pub struct Loc {
    conf: Conf,
    types: Arc<TypeSet>,
}

/// A piece of the response has at most so many bytes, however many buffers there may be.
const LARGEST: u64 = 32 << 10;

const SCOPES: Contexts = Contexts::SCOPES;

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Loc;
    const PHASES: Phases = Phases::FILTER;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("gzip", Contexts::SCOPES_IF, 1..=1, |c, a| a.set(&mut c.on)),
        on("gzip_buffers", SCOPES, 2..=2, |c, a| {
            let mut buffers = Buffers { number: 32, size: 4096 };
            a.set(&mut buffers)?;
            c.buffer = buffers.total().min(LARGEST);
            Ok(())
        }),
        many("gzip_types", SCOPES, 1..=255, |c, a| {
            c.types.add(a);
            Ok(())
        }),
        on("gzip_comp_level", SCOPES, 1..=1, |c, a| {
            let mut level = 0;
            a.set_in(&mut level, 1..=9)?;
            c.effort.level = u8::try_from(level).unwrap_or_default();
            Ok(())
        }),
        on("gzip_window", SCOPES, 1..=1, |c, a| {
            c.effort.window = power(a, 9..=15, "must be 512, 1k, 2k, 4k, 8k, 16k, or 32k")?;
            Ok(())
        }),
        // The size of the hash follows from the level, and memory is kept from one response to the next.
        on("gzip_hash", SCOPES, 1..=1, |_, a| {
            power(a, 9..=17, "must be 512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k").map(drop)
        }),
        on("postpone_gzipping", SCOPES, 1..=1, |_, a| a.set(&mut Size(0))),
        on("gzip_min_length", SCOPES, 1..=1, |c, a| {
            let mut length = Size(0);
            a.set(&mut length)?;
            c.min_length = length.0;
            Ok(())
        }),
        on("gzip_no_buffer", SCOPES, 1..=1, |c, a| a.set(&mut c.no_buffer)),
    ];

    const VARIABLES: &'static [Variable<Loc>] = &[variable("gzip_ratio", |_, r, _, out| ratio(r, out))];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Loc, Diag> {
        let types = conf.types.or(&["text/html"]);
        Ok(Loc { conf, types })
    }

    fn filter(loc: &Loc, request: &Request, head: &mut Head, body: Body) -> Body {
        if !loc.conf.on || !loc.wants(request, head) {
            return body;
        }
        request.gzip.vary.set(true);
        if !gzip::accepted(request, head) {
            return body;
        }
        head.headers.push(b"Content-Encoding", b"gzip");
        gzip::recode(head);
        if request.method == Method::Head {
            return body;
        }
        let counts = Rc::clone(request.gzip.counts.get_or_init(Rc::default));
        match body {
            Body::Full(bytes) if bytes.len() as u64 <= loc.conf.buffer => {
                let before = bytes.len() as u64;
                match zlib::member(loc.conf.effort, bytes.clone()) {
                    Ok(packed) => {
                        counts.set((before, packed.len() as u64));
                        Body::Full(packed.into())
                    }
                    Err(_) => Body::Stream(Box::new(Deflated::new(Body::Full(bytes), &loc.conf, counts))),
                }
            }
            body => Body::Stream(Box::new(Deflated::new(body, &loc.conf, counts))),
        }
    }
}

impl Loc {
    fn wants(&self, request: &Request, head: &Head) -> bool {
        let kind = head.content_type.as_deref().unwrap_or_default();
        matches!(head.status, 200 | 403 | 404)
            && head.headers.get(Known::ContentEncoding).is_none_or(<[u8]>::is_empty)
            && head.content_length.is_none_or(|length| length >= self.conf.min_length)
            && self.types.has(bare(request, kind))
    }
}

/// A type without its parameters. Only an upstream's type is taken apart; one of `default_type` is what it is.
fn bare<'a>(request: &Request, kind: &'a [u8]) -> &'a [u8] {
    match request.upstream.headers {
        Some(_) => kind.split(|&b| b == b';').next().unwrap_or_default().trim_ascii(),
        None => kind,
    }
}

/// The binary logarithm of a size, which is a power of two.
fn power(args: &mut Args<'_>, range: RangeInclusive<u8>, otherwise: &'static str) -> Result<u8, Problem> {
    let mut size = Size(0);
    args.set(&mut size)?;
    range.into_iter().find(|&bits| size.0 == 1 << bits).ok_or_else(|| Problem::tail(otherwise).at(0))
}

/// How many times shorter the response became, with two digits.
fn ratio(request: &Request, out: &mut Vec<u8>) -> bool {
    let (before, after) = request.gzip.counts.get().map(|counts| counts.get()).unwrap_or_default();
    let Some(thousandths) = before.saturating_mul(1000).checked_div(after) else { return false };
    let rounded = thousandths / 10 + u64::from(thousandths % 10 > 4);
    out.extend_from_slice(format!("{}.{:02}", rounded / 100, rounded % 100).as_bytes());
    true
}

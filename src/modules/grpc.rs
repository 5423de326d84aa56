//! Passing requests to gRPC servers: <https://nginx.org/en/docs/http/ngx_http_grpc_module.html>

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Phases, Seal};
use crate::conf::hash::Hash;
use crate::conf::{Contexts, Diag, Directive, List, Local, many, on};
use crate::http::escape::{self, Set};
use crate::http::h1::write::field;
use crate::http::{Flow, Known, Request, Value};
use crate::upstream::conf::{CONNECTING, NEXT_HTTP, REPLIES};
use crate::upstream::fields::{Fields, Sent};
use crate::upstream::secure::{Dialer, SECURE};
use crate::upstream::protocol::{Outgoing, Protocol, ReplyHead};
use crate::upstream::target::{Destination, Pass, Prefix, Scheme};
use crate::upstream::{self, Mount, Shared, Target, answer, inlet};

/// `ngx_http_grpc_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    upstream: upstream::Conf,
    pass: Local<Option<Pass>>,
    set_header: List<(Bytes, Value)>,
}

/// What requests read.
pub struct Loc {
    shared: Shared,
    target: Target,
    dialer: Option<Arc<Dialer>>,
    fields: Fields,
    /// Whether the configuration sets `TE`.
    sets_te: bool,
}

const SCOPES: Contexts = Contexts::SCOPES;
const PLACES: Contexts = Contexts(Contexts::LOCATION.0 | Contexts::LOCATION_IF.0);
const SCHEME: Scheme = Scheme { name: "grpc://", prefix: Prefix::May, uri: false, port: 0, secure: Some(("grpcs://", 0)) };
const HIDDEN: [&str; 7] = [
    "Date",
    "Server",
    "X-Accel-Expires",
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
];
/// Fields that are not passed on as they come.
const DEFAULTS: [&str; 9] = [
    "Host",
    "Connection",
    "Proxy-Connection",
    "Content-Length",
    "Transfer-Encoding",
    "TE",
    "Keep-Alive",
    "Expect",
    "Upgrade",
];

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Option<Box<Loc>>;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("grpc_pass", PLACES, 1..=1, |c, a| {
            c.pass.0 = Some(Pass::read(&SCHEME, a)?);
            Ok(())
        }),
        many("grpc_set_header", SCOPES, 2..=2, |c, a| {
            let value = Value::defer(a.word(1), a)?;
            c.set_header.push((Bytes::copy_from_slice(a.word(0)), value));
            Ok(())
        }),
    ];

    const UPSTREAM: Option<Mount<Conf>> = Some(("grpc_", &[CONNECTING, REPLIES, NEXT_HTTP, SECURE], |conf| &mut conf.upstream));

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Option<Box<Loc>>, Diag> {
        cx.know(conf.set_header.iter().map(|(_, value)| value))?;
        let hidden = conf.upstream.hide_header.iter().map(Bytes::len);
        let keys = conf.set_header.iter().map(|(name, _)| name.len()).chain(hidden);
        Hash::new(512).hold("grpc_headers_hash", keys).map_err(|problem| Diag::general(problem, None))?;
        let Some(pass) = &conf.pass.0 else { return Ok(None) };
        let mut buffers = conf.upstream.buffers;
        buffers.size = buffers.size.max(conf.upstream.buffer_size);
        // Calls are streams: nothing waits for more on its way, and the status of a call is a trailer.
        let upstream =
            upstream::Conf { buffering: false, request_buffering: false, pass_trailers: true, buffers, ..conf.upstream };
        Ok(Some(Box::new(Loc {
            target: pass.seal(&SCHEME, cx.upstreams)?,
            dialer: pass.dialer(&SCHEME, &upstream, ("grpc_", true), cx.env)?,
            fields: Fields::new(&conf.set_header, &DEFAULTS),
            sets_te: conf.set_header.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"te")),
            shared: Shared::seal(upstream, "grpc", &HIDDEN, cx.env)?,
        })))
    }

    fn enter_unnamed(outer: &Conf, inner: &mut Conf) {
        inner.pass.0.clone_from(&outer.pass.0);
    }

    fn passes(loc: &Option<Box<Loc>>) -> bool {
        loc.is_some()
    }

    async fn content(loc: &Option<Box<Loc>>, request: &mut Request) -> Flow {
        match loc {
            Some(loc) => pass(loc, request).await.unwrap_or_else(Flow::Fail),
            None => Flow::Next,
        }
    }
}

async fn pass(loc: &Loc, request: &mut Request) -> Result<Flow, u16> {
    let to = loc.target.resolve(&SCHEME, request).await?;
    to.dial(loc.dialer.as_ref(), request)?;
    let body = inlet::body(&loc.shared.conf, true, request).await?;
    let head = head(loc, &to, request).into();
    Ok(answer::respond(&mut Grpc, &loc.shared, &to.peers, &Outgoing { head, body }, request).await)
}

/// The head, as HTTP/1 would have it.
fn head(loc: &Loc, to: &Destination, request: &Request) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&request.method_name);
    out.push(b' ');
    if request.is_target {
        out.extend_from_slice(&request.target);
    } else {
        escape::escape(&request.uri, Set::Uri, &mut out);
        if !request.args.is_empty() {
            out.push(b'?');
            out.extend_from_slice(&request.args);
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = loc.fields.host.as_ref().map(|value| value.bytes(request)).filter(|host| !host.is_empty());
    field(&mut out, b"Host", host.as_ref().unwrap_or(&to.host));
    let te = request.headers.get(Known::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
    if te && !loc.sets_te {
        field(&mut out, b"TE", b"trailers");
    }
    let length = request.headers.get(Known::ContentLength).and(request.content_length);
    loc.fields.write(length.map_or(Sent::Nothing, Sent::Length), true, request, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// HTTP/2, whose every reply is framed.
struct Grpc;

impl Protocol for Grpc {
    const SCHEME: &'static str = SCHEME.name;

    fn is_http2(&self) -> bool {
        true
    }

    fn head(&mut self, _: &mut BytesMut, _: &Request) -> Result<Option<ReplyHead>, String> {
        Ok(None)
    }

    fn uri(sent: &[u8]) -> &[u8] {
        sent.split(|&b| b == b' ').nth(1).unwrap_or_default()
    }
}

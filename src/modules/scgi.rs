//! Passing requests to SCGI servers: <https://nginx.org/en/docs/http/ngx_http_scgi_module.html>
//!
//! The protocol: <https://python.ca/scgi/protocol.txt>

use bytes::{Bytes, BytesMut};

use super::{Phases, Seal};
use crate::conf::{Contexts, Diag, Directive, List, Local, many, on};
use crate::http::{Flow, Request};
use crate::upstream::uncached::UNCACHED;
use crate::upstream::conf::{CONNECTING, NEXT_CGI, PASSING};
use crate::upstream::params::{self, Framing, Param, Params};
use crate::upstream::protocol::{Outgoing, Protocol, ReplyHead};
use crate::upstream::target::{Pass, Prefix, Scheme};
use crate::upstream::{self, Mount, Shared, Target, answer, inlet, shared, wire};

/// `ngx_http_scgi_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    upstream: upstream::Conf,
    pass: Local<Option<Pass>>,
    params: List<Param>,
}

/// What requests read.
pub struct Loc {
    shared: Shared,
    target: Target,
    params: Params,
}

const SCOPES: Contexts = Contexts::SCOPES;
const PLACES: Contexts = Contexts(Contexts::LOCATION.0 | Contexts::LOCATION_IF.0);
const SCHEME: Scheme = Scheme { name: "scgi://", prefix: Prefix::Never, uri: false, port: 0, secure: None };

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Option<Box<Loc>>;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("scgi_pass", PLACES, 1..=1, |c, a| {
            c.pass.0 = Some(Pass::read(&SCHEME, a)?);
            Ok(())
        }),
        many("scgi_param", SCOPES, 2..=3, |c, a| params::param(&mut c.params, a)),
    ];

    const UPSTREAM: Option<Mount<Conf>> = Some(("scgi_", &[CONNECTING, PASSING, NEXT_CGI, UNCACHED], |conf| &mut conf.upstream));

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Option<Box<Loc>>, Diag> {
        shared::check(&conf.upstream, "scgi", cx.env)?;
        cx.know(conf.params.iter().map(|param| &param.value))?;
        let Some(pass) = &conf.pass.0 else { return Ok(None) };
        Ok(Some(Box::new(Loc {
            target: pass.seal(&SCHEME, cx.upstreams)?,
            params: Params::seal(&conf.params, conf.upstream.pass_request_headers),
            shared: Shared::seal(conf.upstream, "scgi", &wire::CGI_HIDDEN, cx.env)?,
        })))
    }

    fn enter_unnamed(outer: &Conf, inner: &mut Conf) {
        inner.pass.0.clone_from(&outer.pass.0);
    }

    fn passes(loc: &Option<Box<Loc>>) -> bool {
        loc.as_ref().is_some_and(|loc| matches!(loc.target, Target::Fixed(_)))
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
    let body = inlet::body(&loc.shared.conf, false, request).await?;
    let outgoing = Outgoing { head: head(loc, request), body };
    Ok(answer::respond(&mut Scgi, &loc.shared, &to.peers, &outgoing, request).await)
}

/// The parameters as a netstring, the length of the body first.
fn head(loc: &Loc, request: &Request) -> Bytes {
    let chunked = || request.body.is_chunked().then(|| request.body.kept().len()).flatten();
    let length = request.content_length.or_else(chunked).unwrap_or_default();
    let mut params = format!("CONTENT_LENGTH\0{length}\0").into_bytes();
    params.reserve(1024);
    loc.params.append::<Ended>(request, &mut params);
    let mut out = format!("{}:", params.len()).into_bytes();
    out.extend_from_slice(&params);
    out.push(b',');
    out.into()
}

/// Names and values that a zero ends.
struct Ended;

impl Framing for Ended {
    fn open(name: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(name);
        out.push(0);
    }

    fn close(_: &[u8], out: &mut Vec<u8>, _: usize) {
        out.push(0);
    }
}

/// The protocol: parameters, then the body as it is; replies are those of CGI or HTTP.
struct Scgi;

impl Protocol for Scgi {
    const SCHEME: &'static str = SCHEME.name;

    fn head(&mut self, buf: &mut BytesMut, _: &Request) -> Result<Option<ReplyHead>, String> {
        wire::cgi(buf, true)
    }
}

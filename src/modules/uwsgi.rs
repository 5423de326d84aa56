//! Passing requests to uwsgi servers: <https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html>
//!
//! The protocol: <https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html>

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Phases, Seal};
use crate::conf::{Args, Contexts, Diag, Directive, List, Local, Problem, many, on};
use crate::http::{Flow, Request};
use crate::net::Level;
use crate::upstream::uncached::UNCACHED;
use crate::upstream::conf::{CONNECTING, NEXT_CGI, PASSING};
use crate::upstream::secure::{Dialer, SECURE};
use crate::upstream::params::{self, Framing, Param, Params};
use crate::upstream::protocol::{Outgoing, Protocol, ReplyHead};
use crate::upstream::target::{Pass, Prefix, Scheme};
use crate::upstream::{self, Mount, Shared, Target, answer, inlet, shared, wire};

/// `ngx_http_uwsgi_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    upstream: upstream::Conf,
    pass: Local<Option<Pass>>,
    params: List<Param>,
    modifiers: [u64; 2],
    string: Bytes,
}

/// What requests read.
pub struct Loc {
    shared: Shared,
    target: Target,
    dialer: Option<Arc<Dialer>>,
    params: Params,
    modifiers: [u8; 2],
    string: Bytes,
}

const SCOPES: Contexts = Contexts::SCOPES;
const PLACES: Contexts = Contexts(Contexts::LOCATION.0 | Contexts::LOCATION_IF.0);
const SCHEME: Scheme = Scheme { name: "uwsgi://", prefix: Prefix::May, uri: false, port: 0, secure: Some(("suwsgi://", 0)) };
const HIDDEN: [&str; 5] =
    ["X-Accel-Expires", "X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"];

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Option<Box<Loc>>;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("uwsgi_pass", PLACES, 1..=1, |c, a| {
            c.pass.0 = Some(Pass::read(&SCHEME, a)?);
            Ok(())
        }),
        many("uwsgi_param", SCOPES, 2..=3, |c, a| params::param(&mut c.params, a)),
        on("uwsgi_modifier1", SCOPES, 1..=1, |c, a| modifier(&mut c.modifiers, 0, a)),
        on("uwsgi_modifier2", SCOPES, 1..=1, |c, a| modifier(&mut c.modifiers, 1, a)),
        on("uwsgi_string", SCOPES, 1..=1, |c, a| a.set(&mut c.string)),
    ];

    const UPSTREAM: Option<Mount<Conf>> = Some(("uwsgi_", &[CONNECTING, PASSING, NEXT_CGI, SECURE, UNCACHED], |conf| &mut conf.upstream));

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Option<Box<Loc>>, Diag> {
        shared::check(&conf.upstream, "uwsgi", cx.env)?;
        cx.know(conf.params.iter().map(|param| &param.value))?;
        let Some(pass) = &conf.pass.0 else { return Ok(None) };
        let byte = |modifier: u64| u8::try_from(modifier).unwrap_or(u8::MAX);
        Ok(Some(Box::new(Loc {
            target: pass.seal(&SCHEME, cx.upstreams)?,
            dialer: pass.dialer(&SCHEME, &conf.upstream, ("uwsgi_", false), cx.env)?,
            params: Params::seal(&conf.params, conf.upstream.pass_request_headers),
            shared: Shared::seal(conf.upstream, "uwsgi", &HIDDEN, cx.env)?,
            modifiers: conf.modifiers.map(byte),
            string: conf.string,
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

fn modifier(modifiers: &mut [u64; 2], index: usize, args: &mut Args<'_>) -> Result<(), Problem> {
    match modifiers.get_mut(index) {
        Some(modifier) => args.set_in(modifier, 0..=255),
        None => Ok(()),
    }
}

async fn pass(loc: &Loc, request: &mut Request) -> Result<Flow, u16> {
    let to = loc.target.resolve(&SCHEME, request).await?;
    to.dial(loc.dialer.as_ref(), request)?;
    let body = inlet::body(&loc.shared.conf, false, request).await?;
    let outgoing = Outgoing { head: packet(loc, request)?, body };
    Ok(answer::respond(&mut Uwsgi, &loc.shared, &to.peers, &outgoing, request).await)
}

/// The request's parameters, behind their modifiers and length.
fn packet(loc: &Loc, request: &Request) -> Result<Bytes, u16> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&[0; 4]);
    loc.params.append::<Sized>(request, &mut out);
    out.extend_from_slice(&loc.string);
    let length = out.len() - 4;
    let Ok(short) = u16::try_from(length) else {
        request.log(Level::Alert, &format!("uwsgi request is too big: {length}"));
        return Err(500);
    };
    let ([first, second], [low, high]) = (loc.modifiers, short.to_le_bytes());
    for (to, from) in out.iter_mut().zip([first, low, high, second]) {
        *to = from;
    }
    Ok(out.into())
}

/// Names and values with their lengths in front.
struct Sized;

impl Framing for Sized {
    fn open(name: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&size(name.len()));
        out.extend_from_slice(name);
        out.extend_from_slice(&[0; 2]);
    }

    fn close(_: &[u8], out: &mut Vec<u8>, at: usize) {
        let size = size(out.len() - at);
        if let Some(place) = out.get_mut(at - 2..at) {
            place.copy_from_slice(&size);
        }
    }
}

fn size(length: usize) -> [u8; 2] {
    // What is longer makes the whole too long, which is found at its end.
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

/// The protocol: parameters, then the body as it is; replies are those of CGI or HTTP.
struct Uwsgi;

impl Protocol for Uwsgi {
    const SCHEME: &'static str = SCHEME.name;

    fn head(&mut self, buf: &mut BytesMut, _: &Request) -> Result<Option<ReplyHead>, String> {
        wire::cgi(buf, true)
    }
}

//! Passing requests to another server: <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>

use bytes::Bytes;
use parser::ast::Span;

use super::{Phases, Seal};
use crate::conf::hash::Hash;
use crate::conf::args::text;
use crate::conf::field::{Size, one_of};
use crate::conf::{Args, Contexts, Diag, Directive, Field, List, Local, Place, Problem, many, on};
use crate::http::variable::variable;
use crate::http::{Flow, Request, Value, Variable};
use crate::upstream::uncached::UNCACHED;
use crate::upstream::conf::{CONNECTING, NEXT_HTTP, PASSING};
use crate::upstream::secure::SECURE;
use crate::upstream::{self, Mount, shared};

mod cookie;
mod head;
mod pass;
mod redirect;
mod respond;

pub use pass::Loc;

/// `ngx_http_proxy_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    /// What all upstream protocols share.
    pub upstream: upstream::Conf,
    pass: Local<Option<Pass>>,
    place: Local<Place>,
    set_header: List<(Bytes, Value)>,
    set_body: Option<Value>,
    method: Option<Value>,
    http_version: HttpVersion,
    redirects: List<redirect::Rule>,
    cookies: cookie::Conf,
    hash: Option<Hash>,
}

/// What `proxy_pass` says, and where it stands.
#[derive(Clone)]
pub struct Pass {
    url: Bytes,
    value: Value,
    at: Span,
    /// The place whose prefix the URI replaces.
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HttpVersion {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// The hash of header names where nothing is said.
const HASH: Hash = Hash::new(512);
/// The longest name among those that nginx has in that hash anyway, in bytes.
const LONGEST_NAME: usize = 18;
const SCOPES: Contexts = Contexts::SCOPES;
const PLACES: Contexts = Contexts(Contexts::LOCATION.0 | Contexts::LOCATION_IF.0 | Contexts::LIMIT_EXCEPT.0);

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Option<Box<Loc>>;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("proxy_pass", PLACES, 1..=1, proxy_pass),
        many("proxy_set_header", SCOPES, 2..=2, |c, a| {
            let value = Value::defer(a.word(1), a)?;
            c.set_header.push((Bytes::copy_from_slice(a.word(0)), value));
            Ok(())
        }),
        on("proxy_set_body", SCOPES, 1..=1, |c, a| {
            c.set_body = Some(Value::defer(a.word(0), a)?);
            Ok(())
        }),
        on("proxy_method", SCOPES, 1..=1, |c, a| a.set(&mut c.method)),
        on("proxy_http_version", SCOPES, 1..=1, |c, a| {
            let versions = [("1.0", HttpVersion::Http10), ("1.1", HttpVersion::Http11), ("2", HttpVersion::Http2)];
            c.http_version = one_of(a.word(0), &versions).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        many("proxy_redirect", SCOPES, 1..=2, proxy_redirect),
        many("proxy_cookie_domain", SCOPES, 1..=2, |c, a| cookie::domain(&mut c.cookies, a)),
        many("proxy_cookie_path", SCOPES, 1..=2, |c, a| cookie::path(&mut c.cookies, a)),
        many("proxy_cookie_flags", SCOPES, 1..=4, |c, a| cookie::flags(&mut c.cookies, a)),
        on("proxy_pass_trailers", SCOPES, 1..=1, |c, a| a.set(&mut c.upstream.pass_trailers)),
        // A low-water mark for sending is not known to Linux.
        on("proxy_send_lowat", SCOPES, 1..=1, |_, a| a.pass_by(&mut Size(0))),
        on("proxy_headers_hash_max_size", SCOPES, 1..=1, |c, a| a.set(&mut c.hash.get_or_insert(HASH).max)),
        on("proxy_headers_hash_bucket_size", SCOPES, 1..=1, |c, a| a.set(&mut c.hash.get_or_insert(HASH).bucket)),
    ];

    const VARIABLES: &'static [Variable<Option<Box<Loc>>>] = &[
        variable("proxy_host", |loc, r, _, out| pass::host(loc.as_deref(), r, out)),
        variable("proxy_port", |loc, r, _, out| pass::port(loc.as_deref(), r, out)),
        variable("proxy_add_x_forwarded_for", |_, r, _, out| head::forwarded_for(r, out)),
        variable("proxy_internal_body_length", |_, _, _, _| false),
        variable("proxy_internal_chunked", |_, _, _, _| false),
    ];

    const UPSTREAM: Option<Mount<Conf>> = Some(("proxy_", &[CONNECTING, PASSING, NEXT_HTTP, SECURE, UNCACHED], |conf| &mut conf.upstream));

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Option<Box<Loc>>, Diag> {
        shared::check(&conf.upstream, "proxy", cx.env)?;
        cx.know(conf.set_header.iter().map(|(_, value)| value).chain(&conf.set_body))?;
        // nginx makes the hash of a server, and that of a location with names of its own.
        let is_server = conf.place.name.is_empty() && !conf.place.unnamed;
        if is_server || conf.set_header.is_own() || conf.upstream.hide_header.is_own() {
            let hidden = conf.upstream.hide_header.iter().map(Bytes::len).chain([LONGEST_NAME]);
            let keys = conf.set_header.iter().map(|(name, _)| name.len()).chain(hidden);
            let held = conf.hash.unwrap_or(HASH).hold("proxy_headers_hash", keys);
            held.map_err(|problem| Diag::general(problem, None))?;
        }
        match conf.pass.0.clone() {
            Some(pass) => pass::seal(conf, &pass, cx).map(|loc| Some(Box::new(loc))),
            None => Ok(None),
        }
    }

    fn enter_unnamed(outer: &Conf, inner: &mut Conf) {
        inner.pass.0.clone_from(&outer.pass.0);
    }

    fn enter(conf: &mut Conf, place: &Place) {
        conf.place.0 = place.clone();
    }

    fn passes(loc: &Option<Box<Loc>>) -> bool {
        loc.is_some()
    }

    async fn content(loc: &Option<Box<Loc>>, request: &mut Request) -> Flow {
        match loc {
            Some(loc) => respond::respond(loc, request).await,
            None => Flow::Next,
        }
    }
}

fn proxy_pass(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let value = Value::read(word, args)?;
    let place = &conf.place;
    if value.as_literal().is_some() {
        let url = pass::SCHEME.check(word)?;
        if !url.uri.is_empty() && (place.is_regex || place.unnamed || place.name.first() == Some(&b'@')) {
            return Err(Problem::new(
                "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named location, \
                 or inside \"if\" statement, or inside \"limit_except\" block",
            )
            .at(0));
        }
    }
    let (url, at) = (Bytes::copy_from_slice(word), args.directive().end);
    conf.pass.0 = Some(Pass { url, value, at, place: place.0.clone() });
    Ok(())
}

fn proxy_redirect(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    if redirect::contradicts(&conf.redirects, args) {
        return Err(Problem::tail("is duplicate"));
    }
    let rule = match (args.len(), args.word(0)) {
        (1, b"off") => redirect::Rule::Off,
        (1, b"default") => match &conf.pass.0 {
            Some(pass) if pass.value.as_literal().is_none() => {
                let problem = "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables";
                return Err(Problem::new(problem));
            }
            Some(pass) => redirect::Rule::default_of(pass),
            None => {
                let problem = "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive";
                return Err(Problem::new(problem));
            }
        },
        (1, other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(0)),
        _ => redirect::read(args)?,
    };
    conf.redirects.push(rule);
    Ok(())
}

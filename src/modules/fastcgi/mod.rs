//! Passing requests to FastCGI servers: <https://nginx.org/en/docs/http/ngx_http_fastcgi_module.html>

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Phases, Seal, rewrite};
use crate::conf::args::text;
use crate::conf::field::Size;
use crate::conf::{Args, Contexts, Diag, Directive, List, Local, Problem, many, on};
use crate::http::h1::write::Writer;
use crate::http::pattern::Pattern;
use crate::http::variable::variable;
use crate::http::{Body, Flow, Request, Variable};
use crate::net::Level;
use crate::upstream::uncached::UNCACHED;
use crate::upstream::conf::{CONNECTING, NEXT_CGI, PASSING};
use crate::upstream::params::{self, Param, Params};
use crate::upstream::protocol::{Length, Outgoing, Protocol, ReplyHead};
use crate::upstream::target::{Pass, Prefix, Scheme};
use crate::upstream::{self, Mount, Shared, Target, answer, inlet, reply, shared, wire};

mod record;

use record::{Piece, Records, Stdin, Stdout};

/// `ngx_http_fastcgi_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    upstream: upstream::Conf,
    pass: Local<Option<Pass>>,
    params: List<Param>,
    index: Bytes,
    split: Option<Arc<Pattern>>,
    keep_conn: bool,
    catch_stderr: List<Bytes>,
}

/// What requests read.
pub struct Loc {
    pass: Option<Box<Passing>>,
    index: Bytes,
    split: Option<Arc<Pattern>>,
}

struct Passing {
    shared: Shared,
    target: Target,
    params: Params,
    keep_conn: bool,
    catch_stderr: Vec<Bytes>,
}

const SCOPES: Contexts = Contexts::SCOPES;
const PLACES: Contexts = Contexts(Contexts::LOCATION.0 | Contexts::LOCATION_IF.0);
const SCHEME: Scheme = Scheme { name: "fastcgi://", prefix: Prefix::Never, uri: false, port: 0, secure: None };

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Loc;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("fastcgi_pass", PLACES, 1..=1, |c, a| {
            c.pass.0 = Some(Pass::read(&SCHEME, a)?);
            Ok(())
        }),
        many("fastcgi_param", SCOPES, 2..=3, |c, a| params::param(&mut c.params, a)),
        on("fastcgi_index", SCOPES, 1..=1, |c, a| a.set(&mut c.index)),
        many("fastcgi_split_path_info", SCOPES, 1..=1, split_path_info),
        // A low-water mark for sending is not known to Linux.
        on("fastcgi_send_lowat", SCOPES, 1..=1, |_, a| a.pass_by(&mut Size(0))),
        on("fastcgi_keep_conn", SCOPES, 1..=1, |c, a| a.set(&mut c.keep_conn)),
        many("fastcgi_catch_stderr", SCOPES, 1..=1, |c, a| {
            c.catch_stderr.push(Bytes::copy_from_slice(a.word(0)));
            Ok(())
        }),
    ];

    const VARIABLES: &'static [Variable<Loc>] =
        &[variable("fastcgi_script_name", script_name), variable("fastcgi_path_info", path_info)];

    const UPSTREAM: Option<Mount<Conf>> =
        Some(("fastcgi_", &[CONNECTING, PASSING, NEXT_CGI, UNCACHED], |conf| &mut conf.upstream));

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Loc, Diag> {
        shared::check(&conf.upstream, "fastcgi", cx.env)?;
        cx.know(conf.params.iter().map(|param| &param.value))?;
        let pass = match &conf.pass.0 {
            None => None,
            Some(pass) => Some(Box::new(Passing {
                target: pass.seal(&SCHEME, cx.upstreams)?,
                params: Params::seal(&conf.params, conf.upstream.pass_request_headers),
                shared: Shared::seal(conf.upstream, "fastcgi", &wire::CGI_HIDDEN, cx.env)?,
                keep_conn: conf.keep_conn,
                catch_stderr: conf.catch_stderr.to_vec(),
            })),
        };
        Ok(Loc { pass, index: conf.index, split: conf.split })
    }

    fn enter_unnamed(outer: &Conf, inner: &mut Conf) {
        inner.pass.0.clone_from(&outer.pass.0);
    }

    fn passes(loc: &Loc) -> bool {
        loc.pass.is_some()
    }

    async fn content(loc: &Loc, request: &mut Request) -> Flow {
        match &loc.pass {
            Some(passing) => pass(passing, request).await.unwrap_or_else(Flow::Fail),
            None => Flow::Next,
        }
    }
}

fn split_path_info(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let pattern = rewrite::pattern(args.word(0), false, args).map_err(|problem| problem.at(0))?;
    if pattern.groups() != 2 {
        return Err(Problem::new(format!("pattern \"{}\" must have 2 captures", text(args.word(0)))).at(0));
    }
    conf.split = Some(pattern);
    Ok(())
}

/// The script's name and the path behind it.
fn split<'a>(loc: &Loc, uri: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let part = |range: Option<(u32, u32)>| {
        range.and_then(|(start, end)| uri.get(start as usize..end as usize)).unwrap_or_default()
    };
    match loc.split.as_ref().and_then(|pattern| pattern.captures(uri)).as_deref() {
        Some([_, script, path, ..]) => (part(*script), part(*path)),
        _ => (uri, b""),
    }
}

fn script_name(loc: &Loc, request: &Request, _: &[u8], out: &mut Vec<u8>) -> bool {
    let (script, _) = split(loc, &request.uri);
    out.extend_from_slice(script);
    if script.last() == Some(&b'/') {
        out.extend_from_slice(&loc.index);
    }
    true
}

fn path_info(loc: &Loc, request: &Request, _: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(split(loc, &request.uri).1);
    true
}

async fn pass(passing: &Passing, request: &mut Request) -> Result<Flow, u16> {
    let to = passing.target.resolve(&SCHEME, request).await?;
    let body = inlet::body(&passing.shared.conf, true, request).await?;
    let outgoing = Outgoing { head: head(passing, request)?, body };
    let mut protocol = FastCgi { passing, records: Records::default(), text: BytesMut::new() };
    Ok(answer::respond(&mut protocol, &passing.shared, &to.peers, &outgoing, request).await)
}

/// The records in front of the body.
fn head(passing: &Passing, request: &Request) -> Result<Bytes, u16> {
    let mut params = Vec::with_capacity(1024);
    passing.params.append::<record::Pairs>(request, &mut params);
    let mut out = Vec::with_capacity(params.len() + 64);
    if record::open(passing.keep_conn, &params, &mut out).is_none() {
        request.log(Level::Alert, &format!("fastcgi request record is too big: {}", params.len()));
        return Err(500);
    }
    Ok(out.into())
}

/// The protocol as one request speaks it.
struct FastCgi<'a> {
    passing: &'a Passing,
    records: Records,
    /// What came of the head.
    text: BytesMut,
}

impl FastCgi<'_> {
    /// Logs what the application complains of; true if that is taken for a failure.
    fn complain(&self, text: &[u8], request: &Request) -> bool {
        let text = record::complaint(text);
        let shown = String::from_utf8_lossy(text);
        let message = format!("FastCGI sent in stderr: \"{shown}\" while reading response header from upstream");
        request.log(Level::Error, &message);
        self.passing.catch_stderr.iter().any(|word| memchr::memmem::find(text, word).is_some())
    }
}

impl Protocol for FastCgi<'_> {
    const SCHEME: &'static str = SCHEME.name;

    fn head(&mut self, buf: &mut BytesMut, request: &Request) -> Result<Option<ReplyHead>, String> {
        loop {
            match self.records.next(buf)? {
                Piece::Stdout(bytes) => self.text.extend_from_slice(&bytes),
                Piece::Stderr(text) if self.complain(&text, request) => return Err(String::new()),
                Piece::Stderr(_) => continue,
                Piece::Closed => return Err("upstream prematurely closed FastCGI stdout".to_owned()),
                Piece::Ending | Piece::Ended => {
                    return Err(format!("upstream sent unexpected FastCGI record: {}", self.records.kind()));
                }
                Piece::More => return Ok(None),
            }
            let Some(mut head) = wire::cgi(&mut self.text, false)? else {
                if self.text.len() as u64 >= self.passing.shared.conf.buffer_size {
                    return Err("upstream sent too big header".to_owned());
                }
                continue;
            };
            let rest = match head.length {
                Length::Known(length) => Some(length),
                _ => None,
            };
            let (records, first) = (std::mem::take(&mut self.records), self.text.split().freeze());
            let buffered = reply::is_buffered(&head.headers, &self.passing.shared.conf);
            let keep = self.passing.keep_conn;
            head.length = Length::Coded(Box::new(Stdout { records, first, rest, keep, buffered }));
            head.keep_alive = keep;
            return Ok(Some(head));
        }
    }

    fn restart(&mut self) {
        self.records = Records::default();
        self.text.clear();
    }

    fn body(&self, body: Body) -> Body {
        match body {
            Body::Empty => Body::Full(Bytes::from_static(record::LAST)),
            body => Body::Stream(Box::new(Stdin::new(body))),
        }
    }

    fn piece(&self, bytes: Bytes, last: bool, to: &mut Writer<'_>) {
        record::stdin(bytes, |piece| to.push(piece));
        if last {
            to.push(Bytes::from_static(record::LAST));
        }
    }
}

//! The rows that all upstream protocols share, and those of `upstream { }`.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>, <https://nginx.org/en/docs/http/ngx_http_upstream_module.html>

use std::time::Duration;

use bytes::Bytes;
use parser::ast::Span;

use super::connect::Bind;
use super::method::Method;
use super::resolver;
use super::sticky::Sticky;
use super::store::Store;
use crate::conf::args::text;
use crate::conf::field::{Buffers, Seconds, Size, TempPath, one_of};
use crate::conf::units;
use crate::conf::{Args, Bits, Contexts, Directive, Field, List, Problem, many, on};
use crate::http::Value;
use crate::net::addr::Host;

const SCOPES: Contexts = Contexts::SCOPES;

/// What may make another server be tried, as bits (`proxy_next_upstream`).
#[derive(Clone, Debug)]
pub struct NextUpstream(Bits);

impl NextUpstream {
    /// Connecting, sending or reading the head failed.
    pub const ERROR: u32 = 1;
    /// One of them took too long.
    pub const TIMEOUT: u32 = 1 << 1;
    /// The head was malformed or empty.
    pub const INVALID_HEADER: u32 = 1 << 2;
    /// Also requests that may not be repeated.
    pub const NON_IDEMPOTENT: u32 = 1 << 3;
    /// Never.
    pub const OFF: u32 = 1 << 4;
    const HTTP_500: u32 = 1 << 5;
    const HTTP_502: u32 = 1 << 6;
    const HTTP_503: u32 = 1 << 7;
    const HTTP_504: u32 = 1 << 8;
    const HTTP_403: u32 = 1 << 9;
    const HTTP_404: u32 = 1 << 10;
    const HTTP_429: u32 = 1 << 11;
    const UPDATING: u32 = 1 << 12;
    const STATUS: [(u16, u32); 7] = [
        (500, Self::HTTP_500),
        (502, Self::HTTP_502),
        (503, Self::HTTP_503),
        (504, Self::HTTP_504),
        (403, Self::HTTP_403),
        (404, Self::HTTP_404),
        (429, Self::HTTP_429),
    ];
    const HTTP: [(&'static str, u32); 13] = [
        ("error", Self::ERROR),
        ("timeout", Self::TIMEOUT),
        ("invalid_header", Self::INVALID_HEADER),
        ("non_idempotent", Self::NON_IDEMPOTENT),
        ("http_500", Self::HTTP_500),
        ("http_503", Self::HTTP_503),
        ("http_403", Self::HTTP_403),
        ("http_404", Self::HTTP_404),
        ("http_429", Self::HTTP_429),
        ("updating", Self::UPDATING),
        ("off", Self::OFF),
        ("http_502", Self::HTTP_502),
        ("http_504", Self::HTTP_504),
    ];
    const CGI: &'static [(&'static str, u32)] = Self::HTTP.split_at(11).0;
    const MEMCACHED: [(&'static str, u32); 5] = [
        ("error", Self::ERROR),
        ("timeout", Self::TIMEOUT),
        ("invalid_response", Self::INVALID_HEADER),
        ("not_found", Self::HTTP_404),
        ("off", Self::OFF),
    ];

    /// Whether any of these bits is set.
    pub fn has(&self, bits: u32) -> bool {
        self.0.get() & bits != 0 && self.0.get() & Self::OFF == 0
    }

    /// Whether all of these bits are set.
    pub fn has_all(&self, bits: u32) -> bool {
        self.0.get() & bits == bits && self.0.get() & Self::OFF == 0
    }

    /// Whether a response of this status sends the request on.
    pub fn has_status(&self, status: u16) -> bool {
        Self::STATUS.iter().any(|&(code, bit)| code == status && self.has(bit))
    }
}

/// Settings shared by `proxy_`, `uwsgi_`, `fastcgi_`, … Each field has the name of its directive.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field has the name of the directive that documents it")]
pub struct Conf {
    pub connect_timeout: Duration,
    pub send_timeout: Duration,
    pub read_timeout: Duration,
    pub buffer_size: u64,
    pub buffers: Buffers,
    pub busy_buffers_size: Option<u64>,
    pub buffering: bool,
    pub request_buffering: bool,
    pub ignore_client_abort: bool,
    pub intercept_errors: bool,
    pub pass_request_headers: bool,
    pub pass_request_body: bool,
    pub socket_keepalive: bool,
    pub force_ranges: bool,
    pub limit_rate: Option<Value>,
    pub max_temp_file_size: u64,
    pub temp_file_write_size: Option<u64>,
    pub temp_path: Option<TempPath>,
    /// Where the last of the sizes stands.
    pub sized: Option<Span>,
    pub next_upstream: NextUpstream,
    pub next_upstream_tries: u64,
    pub next_upstream_timeout: Duration,
    pub hide_header: List<Bytes>,
    pub pass_header: List<Bytes>,
    pub ignore_headers: List<Bytes>,
    pub bind: Option<Bind>,
    pub socket_rcvbuf: Option<Size>,
    pub socket_sndbuf: Option<Size>,
    pub pass_trailers: bool,
    pub store: Store,
    pub secure: super::secure::Conf,
    /// What must be the same for places to share idle connections; the same settings have the same number after a reload.
    pub tag: u64,
}

impl Default for Conf {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connect_timeout: minute,
            send_timeout: minute,
            read_timeout: minute,
            buffer_size: 4096,
            buffers: Buffers { number: 8, size: 4096 },
            busy_buffers_size: None,
            buffering: true,
            request_buffering: true,
            ignore_client_abort: false,
            intercept_errors: false,
            pass_request_headers: true,
            pass_request_body: true,
            socket_keepalive: false,
            force_ranges: false,
            limit_rate: None,
            max_temp_file_size: 1 << 30,
            temp_file_write_size: None,
            temp_path: None,
            sized: None,
            next_upstream: NextUpstream(Bits::new(NextUpstream::ERROR | NextUpstream::TIMEOUT)),
            next_upstream_tries: 0,
            next_upstream_timeout: Duration::ZERO,
            hide_header: List::default(),
            pass_header: List::default(),
            ignore_headers: List::default(),
            bind: None,
            socket_rcvbuf: None,
            socket_sndbuf: None,
            pass_trailers: false,
            store: Store::default(),
            secure: super::secure::Conf::default(),
            tag: 0,
        }
    }
}

/// Rows without their prefix (`proxy_`, `uwsgi_`, …) that every protocol has.
pub const CONNECTING: &[Directive<Conf>] = &[
    on("bind", SCOPES, 1..=2, |c, a| Bind::read(&mut c.bind, a)),
    on("socket_keepalive", SCOPES, 1..=1, |c, a| a.set(&mut c.socket_keepalive)),
    on("connect_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.connect_timeout)),
    on("send_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.send_timeout)),
    on("read_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.read_timeout)),
    on("buffer_size", SCOPES, 1..=1, |c, a| sized(c, a, |c| &mut c.buffer_size)),
    on("next_upstream_tries", SCOPES, 1..=1, |c, a| a.set(&mut c.next_upstream_tries)),
    on("next_upstream_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.next_upstream_timeout)),
];

const INTERCEPT: Directive<Conf> = on("intercept_errors", SCOPES, 1..=1, |c, a| a.set(&mut c.intercept_errors));
const HIDE: Directive<Conf> = many("hide_header", SCOPES, 1..=1, |c, a| name(a, &mut c.hide_header));
const PASS: Directive<Conf> = many("pass_header", SCOPES, 1..=1, |c, a| name(a, &mut c.pass_header));
const IGNORE: Directive<Conf> = many("ignore_headers", SCOPES, 1..=255, ignore_headers);

const RECEIVE: Directive<Conf> = on("socket_rcvbuf", SCOPES, 1..=1, |c, a| a.set(&mut c.socket_rcvbuf));
const SEND: Directive<Conf> = on("socket_sndbuf", SCOPES, 1..=1, |c, a| a.set(&mut c.socket_sndbuf));

/// What protocols that gather nothing have of the rows below.
pub const REPLIES: &[Directive<Conf>] = &[RECEIVE, SEND, INTERCEPT, HIDE, PASS, IGNORE];

/// Rows of the protocols that pass HTTP requests on.
pub const PASSING: &[Directive<Conf>] = &[
    on("buffers", SCOPES, 2..=2, |c, a| {
        c.sized = Some(a.directive().name.span);
        a.set(&mut c.buffers)
    }),
    on("busy_buffers_size", SCOPES, 1..=1, |c, a| sized(c, a, |c| c.busy_buffers_size.insert(0))),
    on("buffering", SCOPES, 1..=1, |c, a| a.set(&mut c.buffering)),
    on("request_buffering", SCOPES, 1..=1, |c, a| a.set(&mut c.request_buffering)),
    on("ignore_client_abort", SCOPES, 1..=1, |c, a| a.set(&mut c.ignore_client_abort)),
    INTERCEPT,
    on("pass_request_headers", SCOPES, 1..=1, |c, a| a.set(&mut c.pass_request_headers)),
    on("pass_request_body", SCOPES, 1..=1, |c, a| a.set(&mut c.pass_request_body)),
    RECEIVE,
    SEND,
    on("store", SCOPES, 1..=1, |c, a| c.store.read(a)),
    on("store_access", SCOPES, 1..=3, |c, a| c.store.read_access(a)),
    on("force_ranges", SCOPES, 1..=1, |c, a| a.set(&mut c.force_ranges)),
    on("limit_rate", SCOPES, 1..=1, |c, a| Value::size(&mut c.limit_rate, a)),
    on("max_temp_file_size", SCOPES, 1..=1, |c, a| sized(c, a, |c| &mut c.max_temp_file_size)),
    on("temp_file_write_size", SCOPES, 1..=1, |c, a| sized(c, a, |c| c.temp_file_write_size.insert(0))),
    on("temp_path", SCOPES, 1..=4, |c, a| a.set(&mut c.temp_path)),
    HIDE,
    PASS,
    IGNORE,
];

/// What may send a request to another server, for HTTP.
pub const NEXT_HTTP: &[Directive<Conf>] =
    &[many("next_upstream", SCOPES, 1..=255, |c, a| a.add(&mut c.next_upstream.0, &NextUpstream::HTTP))];

/// The same for protocols in the way of CGI.
pub const NEXT_CGI: &[Directive<Conf>] =
    &[many("next_upstream", SCOPES, 1..=255, |c, a| a.add(&mut c.next_upstream.0, NextUpstream::CGI))];

/// The same for memcached.
pub const NEXT_MEMCACHED: &[Directive<Conf>] =
    &[many("next_upstream", SCOPES, 1..=255, |c, a| a.add(&mut c.next_upstream.0, &NextUpstream::MEMCACHED))];

fn sized(conf: &mut Conf, args: &mut Args<'_>, field: fn(&mut Conf) -> &mut u64) -> Result<(), Problem> {
    let mut size = Size(0);
    args.set(&mut size)?;
    *field(conf) = size.0;
    conf.sized = Some(args.directive().name.span);
    Ok(())
}

fn name(args: &mut Args<'_>, list: &mut List<Bytes>) -> Result<(), Problem> {
    list.push(Bytes::copy_from_slice(args.word(0)));
    Ok(())
}

fn ignore_headers(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    const NAMES: [(&str, &str); 9] = [
        ("X-Accel-Redirect", "x-accel-redirect"),
        ("X-Accel-Expires", "x-accel-expires"),
        ("X-Accel-Limit-Rate", "x-accel-limit-rate"),
        ("X-Accel-Buffering", "x-accel-buffering"),
        ("X-Accel-Charset", "x-accel-charset"),
        ("Expires", "expires"),
        ("Cache-Control", "cache-control"),
        ("Set-Cookie", "set-cookie"),
        ("Vary", "vary"),
    ];
    for (index, word) in args.words().enumerate() {
        let name = one_of(word, &NAMES).map_err(|problem| problem.at(index))?;
        if conf.ignore_headers.is_own() && conf.ignore_headers.iter().any(|other| *other == name) {
            args.warn(format!("duplicate value \"{}\"", text(word)));
        } else {
            conf.ignore_headers.push(Bytes::from_static(name.as_bytes()));
        }
    }
    Ok(())
}

/// nginx's room for a route, and one more.
const LONGEST_ROUTE: usize = 33;

/// One `server` of a group, before its name is resolved.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each field has the name of the parameter that documents it")]
pub struct Server {
    pub name: Bytes,
    pub weight: u64,
    pub max_conns: u64,
    pub max_fails: u64,
    pub fail_timeout: u64,
    pub backup: bool,
    pub down: bool,
    pub drain: bool,
    pub route: Option<Bytes>,
    pub service: Option<Bytes>,
    pub resolve: bool,
    /// Where it stands.
    pub at: Span,
}

impl Server {
    /// A server without parameters.
    pub fn new(name: Bytes, at: Span) -> Self {
        Self { name, weight: 1, max_conns: 0, max_fails: 1, fail_timeout: 10, at, ..Self::default() }
    }
}

/// A group of servers: an `upstream` block, or the host of a `proxy_pass`.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Bytes,
    /// The port of an implicit group; blocks have none.
    pub port: Option<u16>,
    /// Whether an `upstream` block made it.
    pub explicit: bool,
    /// Its servers.
    pub servers: Vec<Server>,
    /// How they take turns.
    pub method: Method,
    /// What binds clients to servers.
    pub sticky: Option<Sticky>,
    /// Whether it has a zone, without which nginx looks up no names while serving.
    pub zone: bool,
    /// Who looks names up while serving.
    pub resolver: Option<resolver::Conf>,
    /// `resolver_timeout`.
    pub resolver_timeout: Option<Duration>,
    /// Idle connections a worker keeps.
    pub keepalive: u64,
    /// Whether they are used only by the place that opened them.
    pub keepalive_local: bool,
    /// Requests a connection serves.
    pub keepalive_requests: u64,
    /// How long a connection is used.
    pub keepalive_time: Duration,
    /// How long a connection may be idle.
    pub keepalive_timeout: Duration,
    /// Where it stands.
    pub at: Option<Span>,
}

impl Group {
    /// A group without servers.
    pub fn new(name: Bytes, at: Option<Span>) -> Self {
        Self {
            name,
            port: None,
            explicit: true,
            servers: Vec::new(),
            method: Method::RoundRobin,
            sticky: None,
            zone: false,
            resolver: None,
            resolver_timeout: None,
            keepalive: 32,
            keepalive_local: true,
            keepalive_requests: 1000,
            keepalive_time: Duration::from_secs(3600),
            keepalive_timeout: Duration::from_secs(60),
            at,
        }
    }
}

/// Rows of `upstream { }`.
pub const GROUP: &[Directive<Group>] = &[
    many("server", Contexts::UPSTREAM, 1..=255, server),
    many("zone", Contexts::UPSTREAM, 1..=2, zone),
    on("resolver", Contexts::UPSTREAM, 1..=255, |g, a| {
        g.resolver = Some(resolver::read(a)?);
        Ok(())
    }),
    on("resolver_timeout", Contexts::UPSTREAM, 1..=1, |g, a| a.set(&mut g.resolver_timeout)),
    on("keepalive", Contexts::UPSTREAM, 1..=2, |g, a| {
        let word = a.word(0);
        g.keepalive = units::number(word).ok_or_else(|| {
            Problem::new(format!("invalid value \"{}\" in \"%DIRECTIVE%\" directive", text(word))).at(0)
        })?;
        match a.get(1) {
            None | Some(b"local") => g.keepalive_local = a.len() > 1,
            Some(other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(1)),
        }
        Ok(())
    }),
    on("keepalive_requests", Contexts::UPSTREAM, 1..=1, |g, a| a.set(&mut g.keepalive_requests)),
    on("keepalive_time", Contexts::UPSTREAM, 1..=1, |g, a| a.set(&mut g.keepalive_time)),
    on("keepalive_timeout", Contexts::UPSTREAM, 1..=1, |g, a| a.set(&mut g.keepalive_timeout)),
];

/// Peers are shared by all threads already; the zone's size is checked and otherwise without effect.
fn zone(group: &mut Group, args: &mut Args<'_>) -> Result<(), Problem> {
    let invalid = |what: &str, word: &[u8]| Problem::new(format!("invalid zone {what} \"{}\"", text(word)));
    match args.get(1).map(|word| (word, units::size(word))) {
        _ if args.word(0).is_empty() => Err(invalid("name", args.word(0)).at(0)),
        Some((word, None | Some(0))) => Err(invalid("size", word).at(1)),
        Some((_, Some(size))) if size < 8 * 4096 => {
            Err(Problem::new(format!("zone \"{}\" is too small", text(args.word(0)))).at(1))
        }
        found => {
            group.zone = true;
            let size = found.and_then(|(_, size)| size).unwrap_or_default();
            args.zone("upstream", args.word(0), size)
        }
    }
}

fn server(group: &mut Group, args: &mut Args<'_>) -> Result<(), Problem> {
    let mut server = Server::new(Bytes::copy_from_slice(args.word(0)), args.directive().end);
    for (index, word) in args.words().enumerate().skip(1) {
        let problem = |what: String| Problem::new(what).at(index);
        if let Some(route) = word.strip_prefix(b"route=") {
            match route.len() {
                0 => return Err(problem("route is empty".to_owned())),
                LONGEST_ROUTE.. => return Err(problem(format!("route is longer than {}", LONGEST_ROUTE - 1))),
                _ => {}
            }
        }
        if word == b"service=" {
            return Err(problem("service is empty".to_owned()));
        }
        if word == b"backup" && !group.method.takes_backups() {
            return Err(problem(format!("balancing method does not support parameter \"{}\"", text(word))));
        }
        parameter(&mut server, word, args).ok_or_else(|| problem(format!("invalid parameter \"{}\"", text(word))))?;
    }
    let about = |what: &str| Err(Problem::new(format!("service upstream \"{}\" {what}", text(&server.name))).at(0));
    if server.service.is_some() && !server.resolve {
        return about("requires \"resolve\" parameter");
    }
    let url = crate::net::addr::peer(&server.name)
        .map_err(|error| Problem::new(format!("{error} in upstream \"{}\"", text(&server.name))).at(0))?;
    if server.service.is_some() && url.port.is_some() {
        return about("may not have port");
    }
    let is_name = matches!(url.host, Host::Name(_));
    if server.service.is_some() && !is_name {
        return about("requires domain name");
    }
    server.resolve &= is_name;
    group.servers.push(server);
    Ok(())
}

fn parameter(server: &mut Server, word: &[u8], args: &mut Args<'_>) -> Option<()> {
    if let Some(value) = word.strip_prefix(b"weight=") {
        server.weight = units::number(value).filter(|&weight| weight > 0)?;
    } else if let Some(value) = word.strip_prefix(b"max_conns=") {
        server.max_conns = units::number(value)?;
    } else if let Some(value) = word.strip_prefix(b"max_fails=") {
        server.max_fails = units::number(value)?;
    } else if let Some(value) = word.strip_prefix(b"fail_timeout=") {
        server.fail_timeout = Seconds::read(value, args).ok()?.0;
    } else if let Some(value) = word.strip_prefix(b"route=") {
        server.route = Some(Bytes::copy_from_slice(value));
    } else if let Some(value) = word.strip_prefix(b"service=") {
        server.service = Some(Bytes::copy_from_slice(value));
    } else {
        match word {
            b"backup" => server.backup = true,
            // The last of the two counts.
            b"down" | b"drain" => (server.down, server.drain) = (word == b"down", word == b"drain"),
            b"resolve" => server.resolve = true,
            _ => return None,
        }
    }
    Some(())
}

//! `listen`: <https://nginx.org/en/docs/http/ngx_http_core_module.html#listen>

use parser::ast::Span;

use super::Conf;
use crate::conf::args::text;
use crate::conf::{Args, Problem, units};
use crate::net::addr::{self, Endpoint};
use crate::net::addr::Options;

/// One `listen`.
#[derive(Clone, Debug)]
pub struct ListenArg {
    /// The addresses it names: several for a host name or a range of ports.
    pub addrs: Vec<Endpoint>,
    /// Whether its server is the default there.
    pub default_server: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether HTTP/2 may be spoken.
    pub http2: bool,
    /// Whether connections begin with a TLS handshake.
    pub ssl: bool,
    /// Options of the socket.
    pub options: Options,
    /// Where it stands.
    pub at: Span,
}

impl ListenArg {
    /// An address without options.
    pub fn new(addrs: Vec<Endpoint>, at: Span) -> Self {
        Self {
            addrs,
            default_server: false,
            proxy_protocol: false,
            http2: false,
            ssl: false,
            options: Options::default(),
            at,
        }
    }
}

/// `listen address[:port] [parameters]`.
pub fn listen(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let addrs = addr::listen(word)
        .and_then(|url| url.endpoints(80, |name| args.env.files.lookup(name)))
        .map_err(|error| Problem::new(format!("{error} in \"{}\" of the \"listen\" directive", text(word))).at(0))?;
    let mut listen = ListenArg::new(addrs, args.directive().end);
    for (index, word) in args.words().enumerate().skip(1) {
        if word.starts_with(b"accept_filter=") {
            args.warn(format!("accept filters \"{}\" are not supported on this platform, ignored", text(word)));
            continue;
        }
        parameter(&mut listen, word).map_err(|problem| problem.at(index))?;
        if word == b"http2" {
            args.warn("the \"listen ... http2\" directive is deprecated, use the \"http2\" directive instead");
        }
    }
    let inet6 = listen.addrs.iter().all(|addr| matches!(addr, Endpoint::Inet(at) if at.is_ipv6()));
    if listen.options.ipv6only.is_some() && !inet6 {
        let problem = format!("ipv6only is not supported on addr \"{}\", ignored", text(word));
        args.warn(problem);
        listen.options.ipv6only = None;
    }
    conf.listens.push(listen);
    Ok(())
}

fn parameter(listen: &mut ListenArg, word: &[u8]) -> Result<(), Problem> {
    let options = &mut listen.options;
    match word {
        b"default" | b"default_server" => {
            listen.default_server = true;
            return Ok(());
        }
        b"proxy_protocol" => {
            listen.proxy_protocol = true;
            return Ok(());
        }
        b"ssl" => {
            listen.ssl = true;
            return Ok(());
        }
        b"quic" | b"multipath" => {
            let problem = format!("the parameter \"{}\" of \"listen\" is not supported yet", text(word));
            return Err(Problem::new(problem));
        }
        b"http2" => {
            listen.http2 = true;
            return Ok(());
        }
        b"bind" => options.bind = true,
        b"deferred" => options.deferred = true,
        b"reuseport" => options.reuseport = true,
        _ => value(options, word)?,
    }
    options.set = true;
    options.bind = true;
    Ok(())
}

fn value(options: &mut Options, word: &[u8]) -> Result<(), Problem> {
    let unknown = || Problem::new(format!("invalid parameter \"{}\"", text(word)));
    let at = word.iter().position(|&b| b == b'=').ok_or_else(unknown)?;
    let (name, value) = (word.get(..at).unwrap_or_default(), word.get(at + 1..).unwrap_or_default());
    let invalid = || Problem::new(format!("invalid {} \"{}\"", text(name), text(word)));
    let number = || units::number(value).and_then(|n| i32::try_from(n).ok()).ok_or_else(invalid);
    match name {
        b"backlog" => options.backlog = Some(number().ok().filter(|&n| n != 0).ok_or_else(invalid)?),
        b"fastopen" => options.fastopen = Some(number()?),
        b"rcvbuf" => options.rcvbuf = Some(units::size(value).ok_or_else(invalid)?),
        b"sndbuf" => options.sndbuf = Some(units::size(value).ok_or_else(invalid)?),
        b"ipv6only" if value.starts_with(b"o") => {
            options.ipv6only = Some(match value {
                b"on" => true,
                b"off" => false,
                _ => return Err(Problem::new(format!("invalid ipv6only flags \"{}\"", text(value)))),
            });
        }
        b"so_keepalive" => {
            let bad = || Problem::new(format!("invalid so_keepalive value: \"{}\"", text(value)));
            options.so_keepalive = Some(keepalive(value).ok_or_else(bad)?);
        }
        _ => return Err(unknown()),
    }
    Ok(())
}

fn keepalive(value: &[u8]) -> Option<(bool, [Option<u32>; 3])> {
    match value {
        b"on" => return Some((true, [None; 3])),
        b"off" => return Some((false, [None; 3])),
        _ => {}
    }
    let mut parts = [None; 3];
    let fields: Vec<&[u8]> = value.split(|&b| b == b':').collect();
    for (index, field) in fields.iter().enumerate() {
        let parse = if index < 2 { units::sec } else { units::number };
        if !field.is_empty() {
            *parts.get_mut(index)? = Some(u32::try_from(parse(field)?).ok()?);
        }
    }
    (fields.len() <= 3 && parts.iter().any(Option::is_some)).then_some((true, parts))
}

//! `set_real_ip_from`, `real_ip_header`, `real_ip_recursive`: the client's address behind trusted proxies.
//!
//! <https://nginx.org/en/docs/http/ngx_http_realip_module.html>

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Diag, Directive, List, Problem, many, on};
use crate::http::forwarded::{self, Real};
use crate::http::headers::Known;
use crate::http::variable::variable;
use crate::http::{Flow, Request, Variable};
use crate::net::addr;
use crate::net::cidr::Cidr;

/// `ngx_http_realip_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    /// Who is trusted; `None` stands for unix sockets.
    from: List<Option<Cidr>>,
    header: Header,
    recursive: bool,
}

/// Where the address is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Header {
    #[default]
    RealIp,
    ForwardedFor,
    ProxyProtocol,
    Field(Bytes),
}

const SCOPES: Contexts = Contexts::SCOPES;

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Conf;
    const PHASES: Phases = Phases(Phases::POST_READ.0 | Phases::PREACCESS.0);

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        many("set_real_ip_from", SCOPES, 1..=1, from),
        on("real_ip_header", SCOPES, 1..=1, |c, a| {
            c.header = match a.word(0) {
                b"X-Real-IP" => Header::RealIp,
                b"X-Forwarded-For" => Header::ForwardedFor,
                b"proxy_protocol" => Header::ProxyProtocol,
                other => Header::Field(Bytes::copy_from_slice(other)),
            };
            Ok(())
        }),
        on("real_ip_recursive", SCOPES, 1..=1, |c, a| a.set(&mut c.recursive)),
    ];

    const VARIABLES: &'static [Variable<Conf>] = &[
        variable("realip_remote_addr", |_, r, _, out| {
            out.extend_from_slice(&r.client.peer_text);
            true
        }),
        variable("realip_remote_port", |_, r, _, out| {
            let port = r.client.peer.map(|peer| peer.port().to_string());
            out.extend_from_slice(port.unwrap_or_default().as_bytes());
            true
        }),
    ];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Conf, Diag> {
        Ok(conf)
    }

    fn post_read(conf: &Conf, request: &mut Request) -> Flow {
        conf.apply(request);
        Flow::Next
    }

    async fn preaccess(conf: &Conf, request: &mut Request) -> Flow {
        conf.apply(request);
        Flow::Next
    }
}

impl Conf {
    /// Gives the request its real address, once.
    fn apply(&self, request: &mut Request) {
        if self.from.is_empty() || request.real.is_some() {
            return;
        }
        let headers = &request.headers;
        let proxied = request.client.proxied.get();
        let values: Vec<&[u8]> = match &self.header {
            Header::ForwardedFor => headers.all(Known::XForwardedFor).collect(),
            Header::RealIp => headers.named(b"X-Real-IP").take(1).collect(),
            Header::ProxyProtocol => proxied.iter().map(|header| &header.source[..]).collect(),
            Header::Field(name) => headers.named(name).take(1).collect(),
        };
        let trusts = |peer| match peer {
            Some(ip) => self.from.iter().flatten().any(|net| net.contains(ip)),
            None => self.from.contains(&None),
        };
        let found = forwarded::client(request.peer_ip(), values.into_iter(), trusts, self.recursive);
        let Some((ip, port)) = found else { return };
        let port = match (&self.header, proxied) {
            (Header::ProxyProtocol, Some(header)) => header.source_port,
            _ => port.unwrap_or_default(),
        };
        request.real = Some(Real { addr: SocketAddr::new(ip, port), text: addr::text(ip).into() });
    }
}

fn from(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    if word == b"unix:" {
        conf.from.push(None);
        return Ok(());
    }
    if let Some((net, low)) = Cidr::parse(word) {
        if low {
            args.warn(format!("low address bits of {} are meaningless", text(word)));
        }
        conf.from.push(Some(net));
        return Ok(());
    }
    let found = args.env.files.lookup(&text(word));
    let found = found
        .ok_or_else(|| Problem::new(format!("host not found in set_real_ip_from \"{}\"", text(word))).at(0))?;
    for addr in found {
        conf.from.push(Some(Cidr { addr, bits: if addr.is_ipv4() { 32 } else { 128 } }));
    }
    Ok(())
}

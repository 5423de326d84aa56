//! Where requests are passed to: the address of a `*_pass`, fixed or made of variables.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_pass>

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parser::ast::Span;

use super::conf::Server;
use super::groups::{Sealed, Upstreams};
use super::peer::Tier;
use super::secure::Dialer;
use super::{Peer, Peers};
use crate::conf::{Args, Diag, Env, Field, Problem};
use crate::http::{Request, Value};
use crate::net::Level;
use crate::net::addr::{self, AddrError, Endpoint, Host, Url};

/// How the addresses of a protocol are written.
pub struct Scheme {
    /// Its name with its `://`.
    pub name: &'static str,
    /// Whether addresses begin with it.
    pub prefix: Prefix,
    /// Whether a URI may follow.
    pub uri: bool,
    /// The port where none is written; 0 if one must be.
    pub port: u16,
    /// Its name under TLS, and the port there.
    pub secure: Option<(&'static str, u16)>,
}

/// Whether an address begins with its scheme.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Always.
    Must,
    /// If it likes.
    May,
    /// Never.
    Never,
}

/// An address without its scheme.
pub struct Bare<'a> {
    /// What follows the scheme.
    pub rest: &'a [u8],
    /// The scheme, if it is the one under TLS.
    pub secure: Option<&'static str>,
    /// The port where none is written.
    port: u16,
}

impl Scheme {
    /// Takes the scheme off; nothing where it is missing and required.
    pub fn strip<'a>(&self, text: &'a [u8]) -> Option<Bare<'a>> {
        let after = |name: &str| {
            let (scheme, rest) = text.split_at_checked(name.len())?;
            scheme.eq_ignore_ascii_case(name.as_bytes()).then_some(rest)
        };
        if let Some((name, port)) = self.secure
            && let Some(rest) = after(name)
        {
            return Some(Bare { rest, secure: Some(name), port });
        }
        let rest = match (self.prefix, after(self.name)) {
            (Prefix::Must | Prefix::May, Some(rest)) => rest,
            (Prefix::Must, None) => return None,
            _ => text,
        };
        Some(Bare { rest, secure: None, port: self.port })
    }

    /// Reads what follows the scheme.
    pub fn parse(&self, rest: &[u8]) -> Result<Url, AddrError> {
        if self.uri { addr::url(rest) } else { addr::peer(rest) }
    }

    /// Holds an address without variables against the rules.
    pub fn check(&self, text: &[u8]) -> Result<Url, Problem> {
        let rest = self.strip(text).ok_or_else(|| Problem::new("invalid URL prefix").at(0))?.rest;
        self.parse(rest)
            .map_err(|error| Problem::new(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(rest))).at(0))
    }

    /// Whether what `pass` says may lead to a server under TLS.
    pub fn may_be_secure(&self, pass: &Value) -> bool {
        match pass.as_literal() {
            Some(text) => self.strip(text).is_some_and(|bare| bare.secure.is_some()),
            None => self.secure.is_some(),
        }
    }
}

/// What a `*_pass` says, and where it stands.
#[derive(Clone)]
pub struct Pass {
    value: Value,
    at: Span,
}

impl Pass {
    /// Reads the argument of the directive.
    pub fn read(scheme: &Scheme, args: &mut Args<'_>) -> Result<Self, Problem> {
        let value = Value::read(args.word(0), args)?;
        if value.as_literal().is_some() {
            scheme.check(args.word(0))?;
        }
        Ok(Self { value, at: args.directive().end })
    }

    /// Reads the argument of a directive that has no variables.
    pub fn fixed(scheme: &Scheme, args: &mut Args<'_>) -> Result<Self, Problem> {
        let word = args.word(0);
        scheme.check(word)?;
        Ok(Self { value: Value::literal(Bytes::copy_from_slice(word)), at: args.directive().end })
    }

    /// What it talks TLS with, where it may have to; `http2` says that HTTP/2 must be agreed on.
    pub fn dialer(
        &self,
        scheme: &Scheme,
        conf: &super::Conf,
        (prefix, http2): (&str, bool),
        env: &mut Env,
    ) -> Result<Option<Arc<Dialer>>, Diag> {
        scheme.may_be_secure(&self.value).then(|| conf.secure.seal(prefix, http2, env)).transpose()
    }

    /// Resolves where it leads.
    pub fn seal(&self, scheme: &Scheme, upstreams: &mut Upstreams) -> Result<Target, Diag> {
        Target::seal(scheme, &self.value, upstreams, self.at)
    }
}

/// Where requests go.
pub enum Target {
    /// To a group known from the start.
    Fixed(Destination),
    /// To what variables say.
    Variable {
        /// The URL.
        url: Value,
        /// The groups it may name.
        groups: Arc<OnceLock<Sealed>>,
    },
}

/// A group, its host as `$proxy_host` prints it, and the URI.
#[derive(Clone)]
pub struct Destination {
    /// The servers.
    pub peers: Arc<Peers>,
    /// `$proxy_host`.
    pub host: Bytes,
    /// `$proxy_port`.
    pub port: Bytes,
    /// The URI, where the address has one.
    pub uri: Option<Bytes>,
    /// The scheme, if TLS is spoken there.
    pub secure: Option<&'static str>,
}

impl Destination {
    /// Has the exchange that follows speak TLS, where that is spoken there; the error is the status to answer with.
    pub fn dial(&self, dialer: Option<&Arc<Dialer>>, request: &mut Request) -> Result<(), u16> {
        if let (Some(scheme), Some(dialer)) = (self.secure, dialer) {
            let secure = dialer.prepare(scheme, &self.host, request)?;
            request.upstream.secure = Some(Rc::new(secure));
        }
        Ok(())
    }
}

impl Target {
    /// What the `*_pass` at `at` says.
    pub fn seal(scheme: &Scheme, pass: &Value, upstreams: &mut Upstreams, at: Span) -> Result<Self, Diag> {
        let Some(text) = pass.as_literal() else {
            return Ok(Target::Variable { url: pass.clone(), groups: upstreams.known() });
        };
        let problem = |text: String| Diag::error(text, at, at);
        let bare = scheme.strip(text).ok_or_else(|| problem("invalid URL prefix".to_owned()))?;
        let url = scheme
            .parse(bare.rest)
            .map_err(|error| problem(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(bare.rest))))?;
        let host = host_of(&url);
        // nginx's name of such a server ends in the colon that stood before the URI.
        let unix_with_uri = matches!(url.host, Host::Unix(_)) && !url.uri.is_empty();
        let name = if unix_with_uri { Bytes::from([&host[..], b":"].concat()) } else { host };
        let peers = upstreams.find(&name, url.port, bare.port, at)?;
        Ok(Target::Fixed(destination(&url, peers, bare.secure)))
    }

    /// Where this request goes; the error is the status to answer with.
    pub async fn resolve(&self, scheme: &Scheme, request: &mut Request) -> Result<Destination, u16> {
        let (url, groups) = match self {
            Target::Fixed(fixed) => return Ok(fixed.clone()),
            Target::Variable { url, groups } => (url.get(request), groups),
        };
        let Some(bare) = scheme.strip(&url).filter(|bare| !bare.rest.is_empty()) else {
            request.log(Level::Error, &format!("invalid URL prefix in \"{}\"", String::from_utf8_lossy(&url)));
            return Err(500);
        };
        let (secure, port) = (bare.secure, bare.port);
        let url = scheme.parse(bare.rest).map_err(|error| {
            request.log(Level::Error, &format!("{error} in upstream \"{}\"", String::from_utf8_lossy(bare.rest)));
            500u16
        })?;
        request.upstream.host = Some(named(&url, secure));
        let host = host_of(&url);
        let group = |port| groups.get()?.get(&(host.to_ascii_lowercase().into(), port));
        // Without a port it is a group of that name, or one that another URL made for the default port.
        if let Some(peers) = group(url.port).or_else(|| group(Some(url.port.unwrap_or(port)))) {
            return Ok(destination(&url, Arc::clone(peers), secure));
        }
        let found = match &url.host {
            Host::Unix(path) => vec![Endpoint::Unix(path.clone())],
            _ if url.port.is_none() && port == 0 => {
                request.log(Level::Error, &format!("no port in upstream \"{}\"", String::from_utf8_lossy(&host)));
                return Err(500);
            }
            Host::Name(name) => lookup(request, name, url.port.unwrap_or(port)).await?,
            Host::Ip(_) => url.endpoints(port, |_| None).map_err(|_| 502u16)?,
        };
        let server = Server::new(Bytes::new(), Span::default());
        let peers = found.into_iter().map(|address| {
            let name = address.to_string().into();
            Peer::new(&server, address, name)
        });
        let tiers = [Tier::new(peers.collect()), Tier::default()];
        Ok(destination(&url, Arc::new(Peers::dynamic(host, tiers)), secure))
    }
}

/// The host of a URL as groups are named.
fn host_of(url: &Url) -> Bytes {
    match &url.host {
        Host::Unix(path) => format!("unix:{}", path.display()).into(),
        _ => Bytes::from(url.text.clone().into_bytes()),
    }
}

fn destination(url: &Url, peers: Arc<Peers>, secure: Option<&'static str>) -> Destination {
    let uri = match url.uri.first() {
        None => None,
        Some(b'?') => Some([b"/", url.uri.as_slice()].concat().into()),
        Some(_) => Some(Bytes::copy_from_slice(&url.uri)),
    };
    let (host, port) = named(url, secure);
    Destination { peers, host, port, uri, secure }
}

/// `$proxy_host` and `$proxy_port`.
fn named(url: &Url, secure: Option<&'static str>) -> (Bytes, Bytes) {
    let usual: u16 = if secure.is_some() { 443 } else { 80 };
    match (&url.host, url.port) {
        (Host::Unix(_), _) => (Bytes::from_static(b"localhost"), Bytes::new()),
        (_, None) => (Bytes::from(url.text.clone().into_bytes()), usual.to_string().into()),
        (_, Some(port)) if port == usual => (Bytes::from(url.text.clone().into_bytes()), usual.to_string().into()),
        (_, Some(port)) => (format!("{}:{port}", url.text).into(), port.to_string().into()),
    }
}

/// The addresses of a host name that variables named.
async fn lookup(request: &mut Request, name: &str, port: u16) -> Result<Vec<Endpoint>, u16> {
    let Some(resolver) = request.core().resolver.clone() else {
        request.log(Level::Error, &format!("no resolver defined to resolve {name}"));
        return Err(502);
    };
    match resolver.resolve(name).await {
        Ok(found) => Ok(found.iter().map(|ip| Endpoint::Inet((*ip, port).into())).collect()),
        Err(error) => {
            request.log(Level::Error, &format!("{name} could not be resolved ({error})"));
            Err(502)
        }
    }
}

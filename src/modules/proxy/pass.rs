//! Where a request is passed to: the forms of `proxy_pass`, and which part of the URI it replaces.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Conf, HttpVersion, Pass, cookie, head, redirect};
use crate::conf::{Diag, Place};
use crate::http::headers::Known;
use crate::http::{Request, Value};
use crate::modules::Seal;
use crate::modules::seal::Sealed;
use crate::net::Level;
use crate::net::addr::{self, Host, Url};
use crate::upstream::peer::Tier;
use crate::upstream::{self, Peer, Peers};

/// What requests read.
pub struct Loc {
    /// What all upstream protocols share.
    pub upstream: upstream::Conf,
    /// Where to.
    pub target: Target,
    /// The bytes of the path that a URI of `proxy_pass` replaces.
    pub replaced: usize,
    /// `proxy_method`.
    pub method: Option<Value>,
    /// `proxy_set_body`.
    pub set_body: Option<Value>,
    /// Whether HTTP/1.0 is spoken.
    pub http10: bool,
    /// The fields that are sent.
    pub fields: head::Fields,
    /// The fields of responses that are kept back.
    pub hidden: Names,
    /// Fields of responses that have no effect.
    pub ignored: Names,
    /// `proxy_redirect`.
    pub redirects: Vec<redirect::Rule>,
    /// `proxy_cookie_*`.
    pub cookies: cookie::Conf,
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
    /// The URI, where `proxy_pass` has one.
    pub uri: Option<Bytes>,
}

/// A set of field names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: Vec<Known>,
    others: Vec<Vec<u8>>,
}

impl Names {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        match Known::of(name) {
            Known::Other => self.others.push(name.to_ascii_lowercase()),
            known => self.known.push(known),
        }
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) {
        let known = Known::of(name);
        self.known.retain(|other| *other != known || known == Known::Other);
        self.others.retain(|other| !other.eq_ignore_ascii_case(name));
    }

    /// Whether it holds this field.
    pub fn has(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Other => self.others.iter().any(|other| other.eq_ignore_ascii_case(name)),
            known => self.known.contains(&known),
        }
    }
}

/// Fields of responses that nginx keeps to itself.
const HIDDEN: [&str; 8] = [
    "Date",
    "Server",
    "X-Pad",
    "X-Accel-Expires",
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
];

/// Resolves where requests go, and works out the fields that are sent and kept back.
pub fn seal(conf: Conf, pass: &Pass, cx: &mut Seal<'_>) -> Result<Loc, Diag> {
    let mut replaced = 0;
    let target = if pass.value.as_literal().is_some() {
        let rest = pass.url.slice(7.min(pass.url.len())..);
        let url = addr::url(&rest).map_err(|error| {
            Diag::error(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(&rest)), pass.at, pass.at)
        })?;
        let host = host_of(&url);
        // nginx's name of such a server ends in the colon that stood before the URI.
        let unix_with_uri = matches!(url.host, Host::Unix(_)) && !url.uri.is_empty();
        let name = if unix_with_uri { Bytes::from([&host[..], b":"].concat()) } else { host.clone() };
        let peers = cx.upstreams.find(&name, url.port, 80, pass.at)?;
        if !url.uri.is_empty() {
            replaced = prefix(&pass.place);
        }
        Target::Fixed(destination(&url, peers))
    } else {
        Target::Variable { url: pass.value.clone(), groups: cx.upstreams.known() }
    };
    let mut hidden = Names::default();
    HIDDEN.iter().for_each(|name| hidden.insert(name.as_bytes()));
    conf.upstream.hide_header.iter().for_each(|name| hidden.insert(name));
    conf.upstream.pass_header.iter().for_each(|name| hidden.remove(name));
    let mut ignored = Names::default();
    conf.upstream.ignore_headers.iter().for_each(|name| ignored.insert(name));
    let redirects = match conf.redirects.first() {
        Some(redirect::Rule::Off) => Vec::new(),
        Some(_) => conf.redirects.to_vec(),
        None if pass.value.as_literal().is_some() => vec![redirect::Rule::default_of(pass)],
        None => Vec::new(),
    };
    Ok(Loc {
        target,
        replaced,
        method: conf.method,
        set_body: conf.set_body,
        http10: conf.http_version == HttpVersion::Http10,
        fields: head::Fields::new(&conf.set_header),
        hidden,
        ignored,
        redirects,
        cookies: conf.cookies,
        upstream: conf.upstream,
    })
}

fn prefix(place: &Place) -> usize {
    if place.is_regex || place.unnamed { 0 } else { place.name.len() }
}

/// The host of a URL as groups are named.
fn host_of(url: &Url) -> Bytes {
    match &url.host {
        Host::Unix(path) => format!("unix:{}", path.display()).into(),
        _ => Bytes::from(url.text.clone().into_bytes()),
    }
}

fn destination(url: &Url, peers: Arc<Peers>) -> Destination {
    let uri = match url.uri.first() {
        None => None,
        Some(b'?') => Some([b"/", url.uri.as_slice()].concat().into()),
        Some(_) => Some(Bytes::copy_from_slice(&url.uri)),
    };
    let (host, port) = match (&url.host, url.port) {
        (Host::Unix(_), _) => (Bytes::from_static(b"localhost"), Bytes::new()),
        (_, None | Some(80)) => (Bytes::from(url.text.clone().into_bytes()), Bytes::from_static(b"80")),
        (_, Some(port)) => (format!("{}:{port}", url.text).into(), port.to_string().into()),
    };
    Destination { peers, host, port, uri }
}

impl Loc {
    /// Where this request goes; the error is the status to answer with.
    pub async fn destination(&self, request: &mut Request) -> Result<Destination, u16> {
        let (url, groups) = match &self.target {
            Target::Fixed(fixed) => return Ok(fixed.clone()),
            Target::Variable { url, groups } => (url.get(request), groups),
        };
        let shown = String::from_utf8_lossy(&url).into_owned();
        if !url.to_ascii_lowercase().starts_with(b"http://") {
            request.log(Level::Error, &format!("invalid URL prefix in \"{shown}\""));
            return Err(500);
        }
        let rest = url.get(7..).unwrap_or_default();
        let url = match addr::url(rest) {
            Ok(url) => url,
            Err(error) => {
                let rest = String::from_utf8_lossy(rest);
                request.log(Level::Error, &format!("{error} in upstream \"{rest}\""));
                return Err(500);
            }
        };
        let host = host_of(&url);
        let group = |port| groups.get()?.get(&(host.to_ascii_lowercase().into(), port));
        // Without a port it is a group of that name, or one that another URL made for the default port.
        if let Some(peers) = group(url.port).or_else(|| group(Some(url.port.unwrap_or(80)))) {
            return Ok(destination(&url, Arc::clone(peers)));
        }
        let found = match &url.host {
            Host::Name(name) => super::respond::resolve(request, name, url.port.unwrap_or(80)).await?,
            _ => url.endpoints(80, |_| None).map_err(|_| 502u16)?,
        };
        let peers = found.into_iter().map(|address| Peer {
            name: address.to_string().into(),
            server: Bytes::new(),
            address,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout: 10,
            down: false,
        });
        let tiers = [Tier::new(peers.collect()), Tier::default()];
        Ok(destination(&url, Arc::new(Peers::dynamic(host, tiers))))
    }
}

/// `$proxy_host`.
pub fn host(loc: Option<&Loc>, request: &Request, out: &mut Vec<u8>) -> bool {
    known(loc, request, out, |destination| &destination.host, |(host, _)| host)
}

/// `$proxy_port`.
pub fn port(loc: Option<&Loc>, request: &Request, out: &mut Vec<u8>) -> bool {
    known(loc, request, out, |destination| &destination.port, |(_, port)| port)
}

fn known(
    loc: Option<&Loc>,
    request: &Request,
    out: &mut Vec<u8>,
    fixed: fn(&Destination) -> &Bytes,
    variable: fn(&(Bytes, Bytes)) -> &Bytes,
) -> bool {
    let found = match (loc.map(|loc| &loc.target), &request.upstream.host) {
        (Some(Target::Fixed(destination)), _) => Some(fixed(destination)),
        (Some(Target::Variable { .. }), Some(found)) => Some(variable(found)),
        _ => None,
    };
    found.is_some_and(|bytes| {
        out.extend_from_slice(bytes);
        true
    })
}


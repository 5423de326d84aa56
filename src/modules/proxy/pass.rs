//! Where a request is passed to: the forms of `proxy_pass`, and which part of the URI it replaces.

use std::sync::Arc;

use bytes::Bytes;

use super::{Conf, HttpVersion, Pass, cookie, head, redirect};
use crate::conf::{Diag, Place};
use crate::http::{Request, Value};
use crate::modules::Seal;
use crate::upstream::fields::Fields;
use crate::upstream::secure::Dialer;
use crate::upstream::target::{Destination, Prefix, Scheme};
use crate::upstream::{Shared, Target};

/// How `proxy_pass` writes its addresses.
pub const SCHEME: Scheme = Scheme { name: "http://", prefix: Prefix::Must, uri: true, port: 80, secure: Some(("https://", 443)) };

/// What requests read.
pub struct Loc {
    /// What all upstream protocols share.
    pub shared: Shared,
    /// Where to.
    pub target: Target,
    /// What it talks TLS with.
    pub dialer: Option<Arc<Dialer>>,
    /// The bytes of the path that a URI of `proxy_pass` replaces.
    pub replaced: usize,
    /// `proxy_method`.
    pub method: Option<Value>,
    /// `proxy_set_body`.
    pub set_body: Option<Value>,
    /// Whether HTTP/1.0 is spoken.
    pub http10: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// The fields that are sent.
    pub fields: Fields,
    /// `proxy_redirect`.
    pub redirects: Vec<redirect::Rule>,
    /// `proxy_cookie_*`.
    pub cookies: cookie::Conf,
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
    let target = Target::seal(&SCHEME, &pass.value, cx.upstreams, pass.at)?;
    if let Target::Fixed(Destination { uri: Some(_), .. }) = &target {
        replaced = prefix(&pass.place);
    }
    let redirects = match conf.redirects.first() {
        Some(redirect::Rule::Off) => Vec::new(),
        Some(_) => conf.redirects.to_vec(),
        None if pass.value.as_literal().is_some() => vec![redirect::Rule::default_of(pass)],
        None => Vec::new(),
    };
    let secure = SCHEME.may_be_secure(&pass.value);
    let dialer = secure.then(|| conf.upstream.secure.seal("proxy_", conf.http_version == HttpVersion::Http2, cx.env)).transpose()?;
    Ok(Loc {
        target,
        dialer,
        replaced,
        method: conf.method,
        set_body: conf.set_body,
        http10: conf.http_version == HttpVersion::Http10,
        http2: conf.http_version == HttpVersion::Http2,
        fields: Fields::new(&conf.set_header, &head::DEFAULTS),
        redirects,
        cookies: conf.cookies,
        shared: Shared::seal(conf.upstream, "proxy", &HIDDEN, cx.env)?,
    })
}

fn prefix(place: &Place) -> usize {
    if place.is_regex || place.unnamed { 0 } else { place.name.len() }
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


//! The client's address behind trusted proxies: <https://nginx.org/en/docs/http/ngx_http_realip_module.html>

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::net::cidr;

/// The address that trusted proxies vouch for.
#[derive(Clone, Debug)]
pub struct Real {
    /// The address; port 0 where none is known.
    pub addr: SocketAddr,
    /// The address as `$remote_addr` prints it.
    pub text: Bytes,
}

/// The address that the proxies whom `trusts` admits vouch for, and its port where it has one. Unix sockets have no
/// address.
///
/// `values` are those of `X-Forwarded-For` in the order they came. Without `recursive` the last address is taken; with
/// it, the last one that is not itself trusted.
pub fn client<'a>(
    peer: Option<IpAddr>,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusts: impl Fn(Option<IpAddr>) -> bool,
    recursive: bool,
) -> Option<(IpAddr, Option<u16>)> {
    let mut found: Option<(IpAddr, Option<u16>)> = None;
    let addresses = values.rev().flat_map(|value| value.rsplit(|b| matches!(b, b' ' | b',')));
    for text in addresses.filter(|text| !text.is_empty()) {
        if !trusts(found.map_or(peer, |(ip, _)| Some(ip))) {
            break;
        }
        let Some(next) = parse(text) else { break };
        found = Some(next);
        if !recursive {
            break;
        }
    }
    found
}

/// An address with or without a port; an IPv6 address with a port stands in brackets.
pub fn parse(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
    if let Some(ip) = cidr::ip(bare.unwrap_or(text)) {
        return Some((ip, None));
    }
    let at: SocketAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some((at.ip(), Some(at.port())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::cidr::Cidr;

    #[test]
    fn walks_back_through_proxies() {
        let trusted = [Cidr::parse(b"10.0.0.0/8").unwrap().0, Cidr::parse(b"192.0.2.1").unwrap().0];
        let trusts = |ip: Option<IpAddr>| ip.is_some_and(|ip| trusted.iter().any(|net| net.contains(ip)));
        let table: [(&str, &[&str], bool, Option<&str>); 7] = [
            ("10.0.0.1", &["1.1.1.1, 192.0.2.1"], false, Some("192.0.2.1")),
            ("10.0.0.1", &["1.1.1.1, 192.0.2.1"], true, Some("1.1.1.1")),
            ("10.0.0.1", &["1.1.1.1", "192.0.2.1"], true, Some("1.1.1.1")),
            ("11.0.0.1", &["1.1.1.1"], true, None),
            ("10.0.0.1", &["nobody"], true, None),
            ("10.0.0.1", &["2.2.2.2,1.1.1.1:80"], true, Some("1.1.1.1")),
            ("::ffff:10.0.0.1", &["[2001:db8::1]:80"], false, Some("2001:db8::1")),
        ];
        for (peer, values, recursive, want) in table {
            let found = client(peer.parse().ok(), values.iter().map(|v| v.as_bytes()), trusts, recursive);
            assert_eq!(found.map(|(ip, _)| ip.to_string()).as_deref(), want, "{peer} {values:?}");
        }
    }
}

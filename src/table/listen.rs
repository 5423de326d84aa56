//! A listening address and the servers behind it (<https://nginx.org/en/docs/http/server_names.html>).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Server, ServerNames};
use crate::net::addr::{Endpoint, Options};

/// A listening address.
pub struct Listen {
    /// The address.
    pub addr: Endpoint,
    /// Options of its socket.
    pub options: Options,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether HTTP/2 may be spoken whatever its servers say.
    pub http2: bool,
    /// Whether connections begin with a TLS handshake.
    pub ssl: bool,
    /// Its servers by name.
    pub servers: ServerNames<Arc<Server>>,
    /// The server of requests whose name is not among them.
    pub default: Arc<Server>,
}

/// The addresses that need a socket: one that a wildcard of its port covers needs none of its own.
pub fn sockets(listens: &[Arc<Listen>]) -> Vec<&Listen> {
    let wildcards: BTreeSet<(u16, bool)> = listens.iter().filter_map(|listen| wildcard(listen)).collect();
    let covered = |listen: &Listen| match &listen.addr {
        Endpoint::Inet(addr) => !addr.ip().is_unspecified() && wildcards.contains(&(addr.port(), addr.is_ipv4())),
        Endpoint::Unix(_) => false,
    };
    listens.iter().map(AsRef::as_ref).filter(|listen| !covered(listen)).collect()
}

fn wildcard(listen: &Listen) -> Option<(u16, bool)> {
    match &listen.addr {
        Endpoint::Inet(addr) if addr.ip().is_unspecified() => Some((addr.port(), addr.is_ipv4())),
        _ => None,
    }
}

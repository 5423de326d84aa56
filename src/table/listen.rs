//! A listening address and the servers behind it (<https://nginx.org/en/docs/http/server_names.html>).

use std::sync::Arc;

use super::{Server, ServerNames};
use crate::net::addr::Endpoint;

/// Options of a listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field has the name of the parameter that documents it")]
pub struct Options {
    pub backlog: Option<i32>,
    pub rcvbuf: Option<u64>,
    pub sndbuf: Option<u64>,
    pub ipv6only: Option<bool>,
    pub reuseport: bool,
    pub deferred: bool,
    pub fastopen: Option<i32>,
    /// On or off, then idle, interval (seconds) and count where they are given.
    pub so_keepalive: Option<(bool, [Option<u32>; 3])>,
    /// Whether the address must have a socket of its own.
    pub bind: bool,
    /// Whether any of the above was said.
    pub set: bool,
}

/// A listening address.
pub struct Listen {
    /// The address.
    pub addr: Endpoint,
    /// Options of its socket.
    pub options: Options,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Its servers by name.
    pub servers: ServerNames<Arc<Server>>,
    /// The server of requests whose name is not among them.
    pub default: Arc<Server>,
}

//! A listening address and the servers behind it (<https://nginx.org/en/docs/http/server_names.html>).

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

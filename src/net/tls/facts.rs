//! What a handshake agreed on, as `$ssl_*` variables print it
//! (<https://nginx.org/en/docs/http/ngx_http_ssl_module.html#variables>).

use std::cell::OnceCell;
use std::sync::Arc;

use rustls::server::ClientHello;

use super::session::Chain;
use super::trust::{Trust, Unfit};

/// What is remembered of a handshake beyond what the connection itself knows.
#[derive(Default)]
pub struct Facts {
    /// The name the client asked for.
    pub server_name: Option<Box<str>>,
    /// Whether a server of that name was found.
    pub named: bool,
    /// The suites, groups and signature schemes the client offered.
    pub offered: Offered,
    /// The peer's certificates, its own first.
    pub peer: Option<Chain>,
    /// What the peer's certificates are held to.
    pub trust: Option<Arc<Trust>>,
    /// The outcome of that, once it was asked for.
    pub verdict: OnceCell<Result<(), Unfit>>,
}

/// The numbers of what a client offered.
#[derive(Default)]
pub struct Offered {
    /// Cipher suites.
    pub ciphers: Box<[u16]>,
    /// Key exchange groups.
    pub groups: Box<[u16]>,
    /// Signature schemes.
    pub schemes: Box<[u16]>,
}

impl Offered {
    /// What `hello` offers, without the values that only test tolerance (RFC 8701).
    pub fn of(hello: &ClientHello<'_>) -> Self {
        let grease = |number: &u16| number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff;
        let plain = |numbers: Vec<u16>| numbers.into_iter().filter(|number| !grease(number)).collect();
        let groups = hello.named_groups().unwrap_or_default();
        Self {
            ciphers: plain(hello.cipher_suites().iter().map(|suite| u16::from(*suite)).collect()),
            groups: plain(groups.iter().map(|group| u16::from(*group)).collect()),
            schemes: plain(hello.signature_schemes().iter().map(|scheme| u16::from(*scheme)).collect()),
        }
    }
}

impl Facts {
    /// Whether the peer's certificates pass; nothing where it sent none.
    pub fn verdict(&self) -> Option<Result<(), Unfit>> {
        let peer = self.peer.as_ref()?;
        let judge = || self.trust.as_ref().map_or(Ok(()), |trust| trust.judge(peer, super::trust::Purpose::Client));
        Some(*self.verdict.get_or_init(judge))
    }
}

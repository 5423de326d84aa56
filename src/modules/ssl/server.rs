//! A server as handshakes meet it, and certificates whose names hold variables.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;

use super::ocsp::Clients;
use super::{Loc, Verify};
use crate::http::Request;
use crate::http::identities::Named;
use crate::net::Level;
use crate::net::tls::Trust;
use crate::net::tls::config::Identities;
use crate::net::tls::handshake::{Chosen, Failure};
use crate::net::tls::staple::Slot;

/// A server that shakes hands.
pub struct Server {
    config: Option<Arc<ServerConfig>>,
    /// The same with HTTP/2 among its protocols.
    with_h2: OnceLock<Arc<ServerConfig>>,
    /// Whether clients must show a certificate.
    pub verify: Verify,
    /// What their certificates are held to.
    pub trust: Option<Arc<Trust>>,
    /// Whether handshakes for its names are refused.
    pub reject: bool,
    /// Whether there is no certificate at all.
    pub bare: bool,
    dynamic: Option<Named>,
    slots: Vec<Arc<Slot>>,
    /// How clients' certificates are asked about.
    pub ocsp: Option<Clients>,
}

impl Server {
    /// A server; `certificates` tells whether there are none, and those whose names hold variables.
    pub fn new(
        mut config: ServerConfig,
        verify: Verify,
        trust: Option<Arc<Trust>>,
        reject: bool,
        certificates: (bool, Option<Named>),
    ) -> Self {
        config.alpn_protocols = [&b"http/1.1"[..], b"http/1.0", b"http/0.9"].map(<[u8]>::to_vec).to_vec();
        let (bare, dynamic) = certificates;
        let (slots, ocsp, with_h2) = (Vec::new(), None, OnceLock::new());
        Self { config: Some(Arc::new(config)), with_h2, verify, trust, reject, bare, dynamic, slots, ocsp }
    }

    /// The same, asking authorities about its own certificates and those of its clients.
    pub fn asking(self, slots: Vec<Arc<Slot>>, ocsp: Option<Clients>) -> Self {
        Self { slots, ocsp, ..self }
    }

    /// The certificates whose status is to be asked for now.
    pub fn due(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.iter().filter(|slot| slot.take_due())
    }

    /// A server without certificates of its own.
    pub fn mute(verify: Verify) -> Self {
        let slots = Vec::new();
        Self { config: None, with_h2: OnceLock::new(), verify, trust: None, reject: false, bare: true, dynamic: None, slots, ocsp: None }
    }

    /// Whether it answers handshakes, be it with a refusal.
    pub fn shakes_hands(&self) -> bool {
        self.config.is_some()
    }

    /// The configuration, with HTTP/2 among its protocols or without.
    fn config(&self, h2: bool) -> Option<&Arc<ServerConfig>> {
        let plain = self.config.as_ref()?;
        if !h2 {
            return Some(plain);
        }
        Some(self.with_h2.get_or_init(|| {
            let mut config = ServerConfig::clone(plain);
            config.alpn_protocols.insert(0, b"h2".to_vec());
            Arc::new(config)
        }))
    }
}

/// How a handshake is answered: `request` stands at the server that `named` says the client's name found, and `h2` says whether
/// HTTP/2 may be agreed on.
pub fn choose(loc: &Loc, request: &Request, named: bool, h2: bool) -> Result<Chosen, Failure> {
    let Some(server) = loc else { return Err(Failure::NoCertificate) };
    if server.reject {
        return Err(Failure::Rejected);
    }
    let Some(mut config) = server.config(h2).cloned() else { return Err(Failure::NoCertificate) };
    if let Some(dynamic) = &server.dynamic {
        let loaded = dynamic.load(request).inspect_err(|problem| {
            request.log(Level::Error, &format!("{problem} while SSL handshaking"));
        });
        let identities = loaded.map_err(|_| Failure::NoCertificate)?;
        let mut own = ServerConfig::clone(&config);
        own.cert_resolver = Arc::new(Identities(identities.into_iter().map(Slot::plain).collect()));
        config = Arc::new(own);
    } else if server.bare {
        return Err(Failure::NoCertificate);
    }
    Ok(Chosen { config, trust: server.trust.clone(), named })
}

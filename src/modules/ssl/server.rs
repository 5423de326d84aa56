//! A server as handshakes meet it, and certificates whose names hold variables.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConfig;

use super::{Loc, Verify};
use crate::http::tls::{self, Reads};
use crate::http::{Request, Value};
use crate::net::tls::config::Identities;
use crate::net::tls::handshake::{Chosen, Failure};
use crate::net::tls::{Identity, Trust};
use crate::net::{Level, clock};

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
    dynamic: Option<Dynamic>,
}

/// Certificates whose names are known only when a client has come.
pub struct Dynamic {
    /// Certificate and key.
    pub pairs: Vec<(Value, Value)>,
    /// Of the keys.
    pub passwords: Arc<Vec<Vec<u8>>>,
    /// How many are kept, and how long.
    pub cache: Option<CacheLimits>,
    /// What relative names hang under.
    pub prefix: PathBuf,
}

/// `ssl_certificate_cache`.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// The directive's own number.
    pub id: u64,
    /// Certificates and keys that are kept.
    pub max: u64,
    /// Seconds without use after which one is dropped.
    pub inactive: u64,
    /// Seconds after which one is read again.
    pub valid: u64,
}

impl Server {
    /// A server; `certificates` tells whether there are none, and those whose names hold variables.
    pub fn new(
        mut config: ServerConfig,
        verify: Verify,
        trust: Option<Arc<Trust>>,
        reject: bool,
        certificates: (bool, Option<Dynamic>),
    ) -> Self {
        config.alpn_protocols = [&b"http/1.1"[..], b"http/1.0", b"http/0.9"].map(<[u8]>::to_vec).to_vec();
        let (bare, dynamic) = certificates;
        Self { config: Some(Arc::new(config)), with_h2: OnceLock::new(), verify, trust, reject, bare, dynamic }
    }

    /// A server without certificates of its own.
    pub fn mute(verify: Verify) -> Self {
        Self { config: None, with_h2: OnceLock::new(), verify, trust: None, reject: false, bare: true, dynamic: None }
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
        let Some(identities) = dynamic.load(request) else { return Err(Failure::NoCertificate) };
        let mut own = ServerConfig::clone(&config);
        own.cert_resolver = Arc::new(Identities(identities));
        config = Arc::new(own);
    } else if server.bare {
        return Err(Failure::NoCertificate);
    }
    Ok(Chosen { config, trust: server.trust.clone(), named })
}

struct Loaded {
    identity: Identity,
    read: Instant,
    used: Instant,
}

/// A directive's number, certificate and key.
type Name = (u64, Bytes, Bytes);

thread_local! {
    static LOADED: RefCell<HashMap<Name, Loaded>> = RefCell::default();
}

/// Names below the prefix, read from the disk as they are asked for.
struct Disk<'a>(&'a Path);

impl Reads for Disk<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        Ok(std::fs::read(path)?.into())
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.0.join(std::ffi::OsStr::from_bytes(name))
    }
}

impl Dynamic {
    fn load(&self, request: &Request) -> Option<Vec<Identity>> {
        self.pairs.iter().map(|(cert, key)| self.identity(cert.bytes(request), key.bytes(request), request)).collect()
    }

    fn identity(&self, cert: Bytes, key: Bytes, request: &Request) -> Option<Identity> {
        let now = clock::instant();
        let name = (self.cache.map_or(0, |limits| limits.id), cert, key);
        if let Some(found) = self.cache.and_then(|limits| cached(&name, limits, now)) {
            return Some(found);
        }
        match tls::identity((&name.1, &name.2), &self.passwords, &Disk(&self.prefix), "SSL_use_PrivateKey") {
            Ok(identity) => {
                if let Some(limits) = self.cache {
                    keep(name, &identity, limits, now);
                }
                Some(identity)
            }
            Err(problem) => {
                request.log(Level::Error, &format!("{problem} while SSL handshaking"));
                None
            }
        }
    }
}

fn cached(name: &Name, limits: CacheLimits, now: Instant) -> Option<Identity> {
    LOADED.with_borrow_mut(|loaded| {
        loaded.retain(|name, one| name.0 != limits.id || now - one.used < Duration::from_secs(limits.inactive));
        let found = loaded.get_mut(name).filter(|one| now - one.read < Duration::from_secs(limits.valid))?;
        found.used = now;
        Some(Arc::clone(&found.identity))
    })
}

fn keep(name: Name, identity: &Identity, limits: CacheLimits, now: Instant) {
    LOADED.with_borrow_mut(|loaded| {
        // A certificate and its key count as two.
        let ours = |name: &Name| name.0 == limits.id;
        while 2 * (loaded.keys().filter(|name| ours(name)).count() as u64 + 1) > limits.max {
            let oldest = loaded.iter().filter(|(name, _)| ours(name)).min_by_key(|(_, one)| one.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { return };
            loaded.remove(&oldest);
        }
        loaded.insert(name, Loaded { identity: Arc::clone(identity), read: now, used: now });
    });
}

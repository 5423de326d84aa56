//! Certificates whose names hold variables: read when a handshake asks for them, and kept for a while
//! (<https://nginx.org/en/docs/http/ngx_http_ssl_module.html#ssl_certificate_cache>).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::tls::{self, Reads};
use super::{Request, Value};
use crate::conf::args::text;
use crate::conf::{Args, Problem, units};
use crate::net::clock;
use crate::net::tls::Identity;

/// Certificates with their keys, by names that a request completes.
pub struct Named {
    /// Certificate and key.
    pub pairs: Vec<(Value, Value)>,
    /// Of the keys.
    pub passwords: Arc<Vec<Vec<u8>>>,
    /// How many are kept, and how long.
    pub cache: Option<Limits>,
    /// What relative names hang under.
    pub prefix: PathBuf,
}

/// `*_ssl_certificate_cache`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The directive's own number.
    id: u64,
    /// Certificates and keys that are kept.
    max: u64,
    /// Seconds without use after which one is dropped.
    inactive: u64,
    /// Seconds after which one is read again.
    valid: u64,
}

impl Limits {
    /// Reads the directive; nothing for `off`.
    pub fn read(args: &Args<'_>) -> Result<Option<Self>, Problem> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (mut limits, mut off) = (Self { id, max: 0, inactive: 10, valid: 60 }, false);
        for (at, word) in args.words().enumerate() {
            let invalid = || Problem::new(format!("invalid parameter \"{}\"", text(word))).at(at);
            if let Some(value) = word.strip_prefix(b"max=") {
                limits.max = units::number(value).filter(|&max| max > 0).ok_or_else(invalid)?;
            } else if let Some(value) = word.strip_prefix(b"inactive=") {
                limits.inactive = units::sec(value).ok_or_else(invalid)?;
            } else if let Some(value) = word.strip_prefix(b"valid=") {
                limits.valid = units::sec(value).ok_or_else(invalid)?;
            } else if word == b"off" {
                off = true;
            } else {
                return Err(invalid());
            }
        }
        match limits.max {
            _ if off => Ok(None),
            0 => Err(Problem::new("\"%DIRECTIVE%\" must have the \"max\" parameter")),
            _ => Ok(Some(limits)),
        }
    }
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
        Ok(crate::conf::read::read(path, std::time::Duration::ZERO)?.into())
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.0.join(std::ffi::OsStr::from_bytes(name))
    }
}

impl Named {
    /// What the names stand for, those that are empty left out. The error is nginx's sentence.
    pub fn load(&self, request: &Request) -> Result<Vec<Identity>, String> {
        let names = self.pairs.iter().map(|(cert, key)| (cert.bytes(request), key.bytes(request)));
        names.filter(|(cert, _)| !cert.is_empty()).map(|(cert, key)| self.identity(cert, key)).collect()
    }

    fn identity(&self, cert: Bytes, key: Bytes) -> Result<Identity, String> {
        let now = clock::instant();
        let name = (self.cache.map_or(0, |limits| limits.id), cert, key);
        if let Some(found) = self.cache.and_then(|limits| cached(&name, limits, now)) {
            return Ok(found);
        }
        let disk = Disk(&self.prefix);
        let identity = tls::identity((&name.1, &name.2), &self.passwords, &disk, "SSL_use_PrivateKey")?;
        // Who asks for an encrypted key must know its password each time.
        if let Some(limits) = self.cache.filter(|_| !tls::is_encrypted(&name.2, &disk)) {
            keep(name, &identity, limits, now);
        }
        Ok(identity)
    }
}

fn cached(name: &Name, limits: Limits, now: Instant) -> Option<Identity> {
    LOADED.with_borrow_mut(|loaded| {
        loaded.retain(|name, one| name.0 != limits.id || now - one.used < Duration::from_secs(limits.inactive));
        let found = loaded.get_mut(name).filter(|one| now - one.read < Duration::from_secs(limits.valid))?;
        found.used = now;
        Some(Arc::clone(&found.identity))
    })
}

fn keep(name: Name, identity: &Identity, limits: Limits, now: Instant) {
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

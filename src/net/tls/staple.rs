//! Certificates that go out with their authority's word that they still hold (RFC 6066 §8).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::sign::CertifiedKey;

use super::key::Identity;
use super::ocsp::{PATIENCE, Question, Responder, Status};
use crate::net::resolver::Resolver;
use crate::net::timer::within;

/// A certificate as handshakes find it, and where its status is asked for.
#[derive(Debug)]
pub struct Slot {
    current: RwLock<Identity>,
    staple: Option<Staple>,
}

#[derive(Debug)]
struct Staple {
    question: Question,
    responder: Responder,
    /// Whether anybody may have signed the answer.
    lax: bool,
    /// The second from which on it is asked for anew.
    due: AtomicU64,
    /// The second until which the last answer holds.
    until: AtomicU64,
}

/// Seconds between two questions: at least, and at most.
const PAUSE: (u64, u64) = (300, 3600);

impl Slot {
    /// A certificate whose status nobody asks for.
    pub fn plain(identity: Identity) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(identity), staple: None })
    }

    /// A certificate whose status `responder` tells.
    pub fn stapled(identity: Identity, question: Question, responder: Responder, lax: bool) -> Arc<Self> {
        let staple = Staple { question, responder, lax, due: AtomicU64::new(0), until: AtomicU64::new(0) };
        Arc::new(Self { current: RwLock::new(identity), staple: Some(staple) })
    }

    /// The certificate as it goes out now.
    pub fn identity(&self) -> Identity {
        let identity = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let expired = self.staple.as_ref().is_some_and(|staple| staple.until.load(Ordering::Relaxed) < seconds());
        if expired && identity.ocsp.is_some() { without(&identity) } else { identity }
    }

    /// Whether it is time to ask; true for one of those who find it so.
    pub fn take_due(&self) -> bool {
        let Some(staple) = &self.staple else { return false };
        let (due, now) = (staple.due.load(Ordering::Relaxed), seconds());
        let claim = |due| staple.due.compare_exchange(due, now + PAUSE.0, Ordering::Relaxed, Ordering::Relaxed);
        due <= now && claim(due).is_ok()
    }

    /// Asks for the status. The error is nginx's sentence.
    pub async fn renew(&self, resolver: Option<&Resolver>) -> Result<(), String> {
        let Some(staple) = &self.staple else { return Ok(()) };
        let (question, responder) = (&staple.question, &staple.responder);
        let context =
            |text: String| format!("{text} while requesting certificate status, responder: {}", responder.name);
        let asking = async {
            let at = address(responder, resolver, true).await?;
            let response = question.ask(responder, at).await?;
            let (status, until) = question.read(&response, staple.lax)?;
            if status != Status::Good {
                return Err(format!("certificate status \"{}\" in the OCSP response", status.word()));
            }
            Ok((response, until))
        };
        let late = || Err("OCSP responder timed out (110: Connection timed out)".to_owned());
        let (response, until) = within(PATIENCE, asking).await.unwrap_or_else(late).map_err(context)?;
        let until = until.map_or(u64::MAX, |until| u64::try_from(until).unwrap_or(0));
        let now = seconds();
        let due = until.saturating_sub(PAUSE.0).min(now + PAUSE.1).max(now + PAUSE.0);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = CertifiedKey { cert: current.cert.clone(), key: Arc::clone(&current.key), ocsp: Some(response) };
        *current = Arc::new(fresh);
        staple.until.store(until, Ordering::Relaxed);
        staple.due.store(due, Ordering::Relaxed);
        Ok(())
    }
}

fn without(identity: &Identity) -> Identity {
    Arc::new(CertifiedKey { cert: identity.cert.clone(), key: Arc::clone(&identity.key), ocsp: None })
}

/// The address of a responder. Without a resolver the system is asked, if it may be.
pub async fn address(responder: &Responder, resolver: Option<&Resolver>, system: bool) -> Result<SocketAddr, String> {
    let (name, port) = (responder.name.as_str(), responder.port);
    if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok((ip, port).into());
    }
    let failed = |error: String| format!("{name} could not be resolved ({error})");
    let found = match resolver {
        Some(resolver) => {
            let found = resolver.resolve(name).await.map_err(|error| failed(error.to_string()))?;
            found.iter().next().map(|ip| (*ip, port).into())
        }
        None if system => {
            tokio::net::lookup_host((name, port)).await.map_err(|error| failed(error.to_string()))?.next()
        }
        None => return Err(format!("no resolver defined to resolve {name}")),
    };
    found.ok_or_else(|| failed("no address".to_owned()))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

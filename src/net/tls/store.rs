//! Sessions that may be resumed (RFC 8446 §2.2): caches shared by name, and keys of tickets. Both outlive a reload.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, rand};
use rustls::server::{ProducesTickets, StoresServerSessions};

/// What a reload takes over: caches by name.
#[derive(Clone, Debug, Default)]
pub struct Kept(HashMap<String, Arc<Shared>>);

/// A cache with the ticket keys that belong to it.
#[derive(Debug)]
pub struct Shared {
    /// Sessions.
    pub cache: Arc<Cache>,
    keys: Mutex<Vec<(u64, Arc<Key>)>>,
}

impl Kept {
    /// The cache of this name and size, that of the configuration before if there was one.
    pub fn shared(&mut self, name: &str, size: u64) -> Arc<Shared> {
        let room = usize::try_from(size / 256).unwrap_or(usize::MAX);
        let old = self.0.get(name).filter(|old| old.cache.room == room).cloned();
        let shared =
            old.unwrap_or_else(|| Arc::new(Shared { cache: Arc::new(Cache::new(room)), keys: Mutex::default() }));
        self.0.insert(name.to_owned(), Arc::clone(&shared));
        shared
    }
}

/// Sessions by their number, a bounded many of them.
pub struct Cache {
    room: usize,
    state: Mutex<Stored>,
}

#[derive(Default)]
struct Stored {
    by_key: HashMap<Vec<u8>, (u64, Vec<u8>)>,
    order: VecDeque<Vec<u8>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("room", &self.room).finish_non_exhaustive()
    }
}

impl Cache {
    /// An empty cache for `room` sessions.
    pub fn new(room: usize) -> Self {
        Self { room: room.max(1), state: Mutex::default() }
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Stored { by_key, order } = &mut *state;
        while by_key.len() >= self.room || order.len() >= self.room.saturating_mul(2) {
            let Some(oldest) = order.pop_front() else { break };
            by_key.remove(&oldest);
        }
        if state.by_key.insert(key.clone(), (seconds(), value)).is_none() {
            state.order.push_back(key);
        }
    }

    fn get(&self, key: &[u8], timeout: Duration, take: bool) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = if take { state.by_key.remove(key)? } else { state.by_key.get(key)?.clone() };
        (seconds().saturating_sub(found.0) < timeout.as_secs()).then_some(found.1)
    }
}

/// A cache as one server uses it.
#[derive(Debug)]
pub struct View {
    /// The sessions, other servers' among them.
    pub cache: Arc<Cache>,
    /// What tells servers with other certificates apart: their sessions are not for each other.
    pub context: Vec<u8>,
    /// How long a session may be resumed.
    pub timeout: Duration,
}

impl View {
    fn own(&self, key: &[u8]) -> Vec<u8> {
        [&self.context, key].concat()
    }
}

impl StoresServerSessions for View {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.cache.put(self.own(&key), value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.get(&self.own(key), self.timeout, false)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.get(&self.own(key), self.timeout, true)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Tickets' contents are filled up to multiples of this many bytes.
const STEP: usize = 64;

/// A key that seals tickets.
pub struct Key {
    name: [u8; 16],
    sealing: RandomizedNonceKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// A key of a ticket file's 48 or 80 bytes.
    pub fn of_file(bytes: &[u8]) -> Option<Self> {
        let (name, secret) = bytes.split_at_checked(16)?;
        let sealing = digest::digest(&digest::SHA256, secret);
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, sealing.as_ref()).ok()?;
        Some(Self { name: name.try_into().ok()?, sealing })
    }

    /// A new key.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 48];
        rand::fill(&mut bytes).ok()?;
        Self::of_file(&bytes)
    }
}

/// Where tickets' keys come from.
#[derive(Debug)]
pub enum Keys {
    /// These; the first one seals.
    Fixed(Vec<Arc<Key>>),
    /// A cache's, renewed as time goes by.
    Shared(Arc<Shared>),
}

/// Sealed sessions that clients keep for us.
#[derive(Debug)]
pub struct Tickets {
    /// The keys.
    pub keys: Keys,
    /// What tells servers with other certificates apart.
    pub context: Vec<u8>,
    /// How long a ticket is good.
    pub timeout: Duration,
}

impl Tickets {
    /// The keys; the one that seals first.
    fn keys(&self) -> Vec<Arc<Key>> {
        let shared = match &self.keys {
            Keys::Fixed(keys) => return keys.clone(),
            Keys::Shared(shared) => shared,
        };
        let (now, timeout) = (seconds(), self.timeout.as_secs().max(1));
        let mut keys = shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|(made, _)| now.saturating_sub(*made) < 2 * timeout + 1);
        if keys.first().is_none_or(|(made, _)| now.saturating_sub(*made) >= timeout)
            && let Some(key) = Key::random()
        {
            keys.insert(0, (now, Arc::new(key)));
        }
        keys.iter().map(|(_, key)| Arc::clone(key)).collect()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys().into_iter().next()?;
        let length = u32::try_from(plain.len()).ok()?;
        let mut sealed = [&seconds().to_be_bytes(), &length.to_be_bytes()[..], plain].concat();
        // Steps of the length tell less of what is inside.
        sealed.resize(sealed.len().next_multiple_of(STEP), 0);
        let nonce = key.sealing.seal_in_place_append_tag(Aad::from(&self.context), &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_at_checked(16)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.keys().into_iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = key.sealing.open_in_place(nonce, Aad::from(&self.context), &mut sealed).ok()?;
        let (made, plain) = plain.split_at_checked(8)?;
        let (length, plain) = plain.split_at_checked(4)?;
        let made = u64::from_be_bytes(made.try_into().ok()?);
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let plain = plain.get(..length)?;
        (seconds().saturating_sub(made) < self.timeout.as_secs()).then(|| plain.to_vec())
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_open_with_their_key_only() {
        let tickets = |bytes: [u8; 48]| Tickets {
            keys: Keys::Fixed(vec![Arc::new(Key::of_file(&bytes).unwrap())]),
            context: Vec::new(),
            timeout: Duration::from_secs(300),
        };
        let sealed = tickets([1; 48]).encrypt(b"session").unwrap();
        assert_eq!(tickets([1; 48]).decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets([2; 48]).decrypt(&sealed), None);
        assert_eq!(tickets([1; 48]).decrypt(&sealed[..20]), None);
        let late = Tickets { timeout: Duration::ZERO, ..tickets([1; 48]) };
        assert_eq!(late.decrypt(&sealed), None);
        let other = Tickets { context: vec![1], ..tickets([1; 48]) };
        assert_eq!(other.decrypt(&sealed), None);
    }

    #[test]
    fn caches_forget_the_oldest_and_survive_by_name() {
        let mut kept = Kept::default();
        let shared = kept.shared("a", 512);
        for key in [b"1", b"2", b"3"] {
            shared.cache.put(key.to_vec(), key.to_vec());
        }
        let view =
            View { cache: kept.shared("a", 512).cache.clone(), context: Vec::new(), timeout: Duration::from_secs(9) };
        assert_eq!((view.get(b"1"), view.get(b"3")), (None, Some(b"3".to_vec())));
        assert_eq!((view.take(b"3"), view.take(b"3")), (Some(b"3".to_vec()), None));
        assert!(kept.shared("a", 1024).cache.get(b"2", Duration::from_secs(9), false).is_none());
    }
}

//! A table of counters by key that all threads share, of a fixed size: what nginx keeps in a shared memory zone.
//!
//! <https://nginx.org/en/docs/http/ngx_http_limit_req_module.html#limit_req_zone>. Entries cost what they cost in nginx's
//! slabs, so that a zone of a given size holds as many of them. Big tables are split, so that threads seldom meet.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use crate::conf::zones::PAGE;

/// Pages a part of a split table has at least.
const PART: u64 = 64;
/// Parts at most.
const PARTS: u64 = 16;
/// Bytes that nginx's tables of pages and of slots take, and per page.
const OVERHEAD: (u64, u64) = (1024, 24);
/// Pages that what does not grow takes.
const FIXED: u64 = 2;

/// The table.
#[derive(Debug)]
pub struct Shards<V> {
    parts: Vec<Mutex<Shard<V>>>,
    hasher: RandomState,
}

/// A part of it, locked; its entries are in the order of their last use.
#[derive(Debug)]
pub struct Shard<V> {
    entries: LruCache<Box<[u8]>, V>,
    /// Bytes that are left.
    free: u64,
    /// Bytes of an entry without its key.
    fixed: u64,
}

impl<V> Shards<V> {
    /// A table in a zone of `size` bytes whose entries take `fixed` bytes and their key.
    pub fn new(size: u64, fixed: u64) -> Self {
        let pages = (size.saturating_sub(OVERHEAD.0) / (PAGE + OVERHEAD.1)).saturating_sub(FIXED).max(1);
        let number = (pages / PART).clamp(1, PARTS);
        let part = || Mutex::new(Shard { entries: LruCache::unbounded(), free: pages * PAGE / number, fixed });
        Self { parts: (0..number).map(|_| part()).collect(), hasher: RandomState::new() }
    }

    /// Works on the part that `key` belongs to.
    pub fn with<R>(&self, key: &[u8], f: impl FnOnce(&mut Shard<V>) -> R) -> Option<R> {
        let number = u64::try_from(self.parts.len()).ok().filter(|&number| number > 0)?;
        let index = self.hasher.hash_one(key) % number;
        let part = self.parts.get(usize::try_from(index).ok()?)?;
        Some(f(&mut part.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<V> Shard<V> {
    /// The entry of `key`, which is now the youngest.
    pub fn get(&mut self, key: &[u8]) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Adds an entry; false if there is no room.
    pub fn insert(&mut self, key: &[u8], value: V) -> bool {
        let cost = self.cost(key.len());
        if cost > self.free {
            return false;
        }
        self.free -= cost;
        if let Some((old, _)) = self.entries.push(key.into(), value) {
            self.free += self.cost(old.len());
        }
        true
    }

    /// The oldest entry.
    pub fn oldest(&self) -> Option<&V> {
        self.entries.peek_lru().map(|(_, value)| value)
    }

    /// Removes the oldest entry.
    pub fn pop_oldest(&mut self) {
        if let Some((key, _)) = self.entries.pop_lru() {
            self.free += self.cost(key.len());
        }
    }

    /// Removes the entry of `key`.
    pub fn remove(&mut self, key: &[u8]) {
        if self.entries.pop(key).is_some() {
            self.free += self.cost(key.len());
        }
    }

    /// A slab's chunk is a power of two, or whole pages.
    fn cost(&self, key: usize) -> u64 {
        let size = self.fixed + key as u64;
        if size > PAGE / 2 { size.next_multiple_of(PAGE) } else { size.next_power_of_two() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_as_much_as_nginx() {
        let table = Shards::new(32 << 10, 80);
        let put = |n: u32| table.with(b"", |shard| shard.insert(&n.to_be_bytes(), n)).unwrap();
        let held = (0..1000).take_while(|&n| put(n)).count();
        assert_eq!(held, 5 * 32);
        table.with(b"", |shard| {
            assert_eq!(shard.oldest(), Some(&0));
            assert!(shard.get(&0u32.to_be_bytes()).is_some());
            assert_eq!(shard.oldest(), Some(&1));
            shard.pop_oldest();
            assert!(shard.insert(b"more", 0));
            assert!(!shard.insert(b"most", 0));
            shard.remove(b"more");
            assert!(shard.insert(b"most", 0));
        });
    }
}

//! Idle connections to upstream servers, kept per thread (<https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive>).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Peers;
use super::h2::Link;
use crate::net::Stream;
use crate::net::clock;
use crate::net::counts::Open;

/// How often connections that idled too long or were closed are let go.
const SWEEP: Duration = Duration::from_secs(1);

/// How long connections that a group has too many of may wait for the next request while its server has others under way.
///
/// Of a hundred requests under way at once, many end before others begin: closing what is idle in between would mean to
/// connect anew right away.
const SURPLUS: Duration = Duration::from_millis(50);

/// Idle connections of a group that end at once where there are too many.
const CROWD: usize = 32;

/// A connection that carried requests and may carry more.
pub struct Connection {
    /// The stream.
    pub stream: Rc<Stream>,
    /// When it was opened.
    pub opened: Instant,
    /// Requests it carried.
    pub requests: u64,
    /// Counts it.
    pub open: Open,
    /// Where it speaks HTTP/2.
    pub h2: Option<Rc<Link>>,
}

impl Connection {
    /// Whether it can still be used, after it was idle.
    fn is_usable(&self) -> bool {
        self.stream.is_quiet()
    }
}

struct Idle {
    key: Key,
    connection: Connection,
    since: Instant,
    until: Instant,
}

/// A group, a server in it, and who may use the connection: two numbers and a tag.
pub type Key = (u64, u64, u64);

/// The idle connections of a group, the one that was used last at the end.
#[derive(Default)]
struct Group {
    idle: VecDeque<Idle>,
    /// As many as it keeps.
    most: usize,
}

/// Groups have numbers that nobody chose: they are their own hash.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Groups = HashMap<u64, Group, BuildHasherDefault<Number>>;

thread_local! {
    /// The groups of the configuration that is served.
    static POOL: RefCell<Groups> = RefCell::default();
    /// Rings when a group has too many.
    static CROWDED: Rc<Notify> = Rc::default();
}

/// Keeps connections of these groups only, from now on: a reload has made the others useless.
pub fn keep(groups: impl Iterator<Item = u64>) {
    POOL.with_borrow_mut(|pool| {
        let mut known = std::mem::take(pool);
        *pool = groups.map(|group| (group, known.remove(&group).unwrap_or_default())).collect();
    });
}

/// Lets some idle connections go: the thread has as many connections as it may have.
pub fn make_room() {
    POOL.with_borrow_mut(|pool| {
        pool.values_mut().for_each(|group| drop(group.idle.drain(..group.idle.len().min(CROWD))));
    });
}

/// Takes the connection to `key` that was used last and can still be used, for HTTP/2 or for any other protocol.
pub fn take(key: Key, http2: bool) -> Option<Connection> {
    POOL.with_borrow_mut(|pool| {
        let idle = &mut pool.get_mut(&key.0)?.idle;
        while let Some(at) = idle.iter().rposition(|idle| idle.key == key && idle.connection.h2.is_some() == http2) {
            let found = idle.remove(at)?;
            if found.until > clock::instant() && found.connection.is_usable() {
                return Some(found.connection);
            }
        }
        None
    })
}

/// Keeps a connection, as far as its group allows; `busy` where its server has other requests under way.
pub fn put(key: Key, peers: &Peers, connection: Connection, busy: bool) {
    let now = clock::instant();
    let spent = connection.requests >= peers.keepalive_requests || now - connection.opened > peers.keepalive_time;
    // Streams of HTTP/2 connections are counted by their servers, who expect what nginx does.
    let single = connection.h2.is_some() && !peers.explicit;
    if peers.keepalive == 0 || spent || single {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        let Some(group) = pool.get_mut(&key.0) else { return };
        group.most = peers.keepalive;
        if group.idle.len() >= group.most {
            match busy {
                true => CROWDED.with(|bell| bell.notify_one()),
                // Those that were used longest ago go.
                false => drop(group.idle.drain(..=group.idle.len() - group.most)),
            }
        }
        group.idle.push_back(Idle { key, connection, since: now, until: now + peers.keepalive_timeout });
    });
}

/// Lets go of connections that are too many, whose time is up, or whose server closed them, for as long as the thread runs.
pub async fn sweep() {
    let crowded = CROWDED.with(Rc::clone);
    loop {
        tokio::select! {
            () = crowded.notified() => while thin() { tokio::time::sleep(SURPLUS / 2).await },
            () = tokio::time::sleep(SWEEP) => {}
        }
        let now = clock::instant();
        POOL.with_borrow_mut(|pool| {
            for group in pool.values_mut() {
                group.idle.retain(|idle| idle.until > now && idle.connection.is_usable());
            }
        });
    }
}

/// Lets go of what waited in vain where there are too many; true where there still are.
fn thin() -> bool {
    let now = clock::instant();
    POOL.with_borrow_mut(|pool| {
        let mut crowded = false;
        for group in pool.values_mut() {
            while group.idle.len() > group.most && group.idle.front().is_some_and(|idle| now - idle.since >= SURPLUS) {
                group.idle.pop_front();
            }
            crowded |= group.idle.len() > group.most;
        }
        crowded
    })
}

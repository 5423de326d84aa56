//! Idle connections to upstream servers, kept per thread (<https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive>).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Peers;
use super::h2::Link;
use crate::net::Stream;
use crate::net::clock;
use crate::net::counts::Open;

/// How often connections that idled too long or were closed are let go.
const SWEEP: Duration = Duration::from_secs(1);

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
    connection: Connection,
    until: Instant,
}

/// A group, a server in it, and who may use the connection: two numbers and a tag.
pub type Key = (u64, u64, u64);

thread_local! {
    static POOL: RefCell<HashMap<u64, Vec<(Key, Idle)>>> = RefCell::default();
    /// The groups of the configuration that is served.
    static GROUPS: RefCell<HashSet<u64>> = RefCell::default();
}

/// Keeps connections of these groups only, from now on: a reload has made the others useless.
pub fn keep(groups: impl Iterator<Item = u64>) {
    GROUPS.with_borrow_mut(|known| {
        *known = groups.collect();
        POOL.with_borrow_mut(|pool| pool.retain(|group, _| known.contains(group)));
    });
}

/// Lets some idle connections go: the thread has as many connections as it may have.
pub fn make_room() {
    POOL.with_borrow_mut(|pool| pool.values_mut().for_each(|idle| drop(idle.drain(..idle.len().min(CROWD)))));
}

/// Takes the connection to `key` that was used last and can still be used, for HTTP/2 or for any other protocol.
pub fn take(key: Key, http2: bool) -> Option<Connection> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.get_mut(&key.0)?;
        while let Some(at) =
            idle.iter().rposition(|(other, idle)| *other == key && idle.connection.h2.is_some() == http2)
        {
            let (_, found) = idle.remove(at);
            if found.until > clock::instant() && found.connection.is_usable() {
                return Some(found.connection);
            }
        }
        None
    })
}

/// Keeps a connection, as far as its group allows.
pub fn put(key: Key, peers: &Peers, connection: Connection) {
    let now = clock::instant();
    let spent = connection.requests >= peers.keepalive_requests || now - connection.opened > peers.keepalive_time;
    // Streams of HTTP/2 connections are counted by their servers, who expect what nginx does.
    let single = connection.h2.is_some() && !peers.explicit;
    if peers.keepalive == 0 || spent || single || !GROUPS.with_borrow(|known| known.contains(&key.0)) {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        let idle = pool.entry(key.0).or_default();
        if idle.len() >= peers.keepalive {
            // The one that was used longest ago goes.
            idle.remove(0);
        }
        idle.push((key, Idle { connection, until: now + peers.keepalive_timeout }));
    });
}

/// Lets go of connections whose time is up or whose server closed them, for as long as the thread runs.
pub async fn sweep() {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = clock::instant();
        POOL.with_borrow_mut(|pool| {
            pool.retain(|_, idle| {
                idle.retain(|(_, idle)| idle.until > now && idle.connection.is_usable());
                !idle.is_empty()
            });
        });
    }
}

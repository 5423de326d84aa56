//! A group's servers with their addresses and what is known of their health. Shared by all threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use super::conf::Server;
use super::live::Live;
use super::method::{Method, Point};
use super::sticky::Sticky;
use super::timing::Timing;
use crate::net::addr::Endpoint;

/// One server at one address.
#[derive(Clone, Debug)]
pub struct Peer {
    /// A number of its own within this run, to which idle connections belong.
    pub id: u64,
    /// Its address.
    pub address: Endpoint,
    /// The address as `$upstream_addr` prints it.
    pub name: Bytes,
    /// What its `server` says; several addresses may share it.
    pub server: Bytes,
    /// What sessions call it: its route, or the hash of its address.
    pub sid: Bytes,
    /// Its share.
    pub weight: i64,
    /// Connections at once; 0 is no limit.
    pub max_conns: u64,
    /// Failures within `fail_timeout` that take it out; 0 is never.
    pub max_fails: u64,
    /// In seconds.
    pub fail_timeout: u64,
    /// Whether it is taken out for good.
    pub down: bool,
    /// Whether it still serves sessions that are bound to it.
    pub drain: bool,
    /// Which of its group's names it was found by, where those are looked up while serving.
    pub host: Option<usize>,
}

impl Peer {
    /// What `server` says, at this address.
    pub fn new(server: &Server, address: Endpoint, name: Bytes) -> Self {
        let hash = || Bytes::from(HEXLOWER.encode(&Md5::digest(&name)).into_bytes());
        Self {
            id: number(),
            sid: server.route.clone().unwrap_or_else(hash),
            server: server.name.clone(),
            weight: i64::try_from(server.weight).unwrap_or(i64::MAX),
            max_conns: server.max_conns,
            max_fails: server.max_fails,
            fail_timeout: server.fail_timeout,
            down: server.down || server.drain,
            drain: server.drain,
            host: None,
            address,
            name,
        }
    }

    /// Whether what is known of `other` holds for this one.
    fn is_like(&self, other: &Self) -> bool {
        let limits = |peer: &Self| (peer.weight, peer.max_conns, peer.max_fails, peer.fail_timeout, peer.down);
        self.address == other.address && self.server == other.server && limits(self) == limits(other)
    }
}

/// The next number of a peer or a group; 0 is none.
pub fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What changes while requests run.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Smooth weighted round robin's running weight.
    pub current_weight: i64,
    /// The weight it has now; failures lower it.
    pub effective_weight: i64,
    /// Connections now.
    pub conns: u64,
    /// Failures within the time.
    pub fails: u64,
    /// How long it takes.
    pub timing: Timing,
    /// Second of the last failure.
    pub accessed: u64,
    /// Second of the last try.
    pub checked: u64,
    /// Tiers that have a server here: a group that changes shares the health of servers that stay.
    users: u32,
}

/// The servers of one tier: primary or backup.
#[derive(Debug, Default)]
pub struct Tier {
    /// The servers.
    pub peers: Vec<Peer>,
    /// The place of each one's health.
    seats: Vec<usize>,
    health: Arc<Mutex<Vec<Health>>>,
}

impl Tier {
    /// A tier of these servers, all of them fresh.
    pub fn new(peers: Vec<Peer>) -> Self {
        Self::after(peers, &Self::default())
    }

    /// A tier of these servers that takes the place of `old`: idle connections to addresses that stay are kept, and what is
    /// known of servers whose parameters are the same too.
    pub fn after(mut peers: Vec<Peer>, old: &Self) -> Self {
        let mut left: Vec<(&Peer, usize)> = old.peers.iter().zip(old.seats.iter().copied()).collect();
        let store = Arc::clone(&old.health);
        let mut health = store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Vec::with_capacity(peers.len());
        for peer in &mut peers {
            let same = left.iter().position(|(old, _)| old.id == peer.id);
            let found = same.or_else(|| left.iter().position(|(old, _)| old.address == peer.address));
            let found = found.map(|at| left.remove(at));
            peer.id = found.map_or(peer.id, |(old, _)| old.id);
            kept.push(found.filter(|(old, _)| old.is_like(peer)).map(|(_, seat)| seat));
        }
        let seats = peers.iter().zip(kept).map(|(peer, kept)| sit(&mut health, peer, kept)).collect();
        drop(health);
        Self { peers, seats, health: store }
    }

    /// The health of its servers.
    pub fn lock(&self) -> Board<'_> {
        Board { health: self.health.lock().unwrap_or_else(PoisonError::into_inner), seats: &self.seats }
    }
}

/// Gives a server the seat it had or a free one.
fn sit(health: &mut Vec<Health>, peer: &Peer, kept: Option<usize>) -> usize {
    let seat = kept.unwrap_or_else(|| {
        let seat = health.iter().position(|health| health.users == 0).unwrap_or(health.len());
        let fresh = Health { effective_weight: peer.weight, ..Health::default() };
        match health.get_mut(seat) {
            Some(free) => *free = fresh,
            None => health.push(fresh),
        }
        seat
    });
    if let Some(health) = health.get_mut(seat) {
        health.users += 1;
    }
    seat
}

impl Drop for Tier {
    fn drop(&mut self) {
        let mut board = self.lock();
        for index in 0..self.seats.len() {
            if let Some(health) = board.get_mut(index) {
                health.users = health.users.saturating_sub(1);
            }
        }
    }
}

/// The health of a tier's servers, by their numbers, while nobody else changes it.
pub struct Board<'a> {
    health: MutexGuard<'a, Vec<Health>>,
    seats: &'a [usize],
}

impl Board<'_> {
    /// The health of a server.
    pub fn get(&self, index: usize) -> Option<&Health> {
        self.health.get(*self.seats.get(index)?)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Health> {
        self.health.get_mut(*self.seats.get(index)?)
    }
}

/// A group ready to serve.
#[derive(Debug)]
pub struct Peers {
    /// A number of its own within this run.
    pub id: u64,
    /// The group's name, for logs: `$upstream_addr` of a request that found no live server.
    pub name: Bytes,
    /// Whether an `upstream` block made it.
    pub explicit: bool,
    /// Primary and backup servers.
    pub tiers: [Tier; 2],
    /// How they take turns.
    pub method: Method,
    /// The ring of a consistent hash.
    pub ring: Vec<Point>,
    /// What binds clients to servers.
    pub sticky: Option<Arc<Sticky>>,
    /// The names that are looked up while serving, and the group as it is now.
    pub live: Option<Live>,
    /// Whether idle connections are used only by the place that opened them.
    pub keepalive_local: bool,
    /// Idle connections a worker keeps.
    pub keepalive: usize,
    /// Requests a connection serves.
    pub keepalive_requests: u64,
    /// How long a connection is used.
    pub keepalive_time: Duration,
    /// How long a connection may be idle.
    pub keepalive_timeout: Duration,
}

impl Peers {
    /// A group that one request made; its connections are not kept.
    pub fn dynamic(name: Bytes, tiers: [Tier; 2]) -> Self {
        Self {
            id: 0,
            name,
            explicit: false,
            tiers,
            method: Method::RoundRobin,
            ring: Vec::new(),
            sticky: None,
            live: None,
            keepalive_local: false,
            keepalive: 0,
            keepalive_requests: 0,
            keepalive_time: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
        }
    }

    /// The group as it is now: itself, unless its names are looked up while serving.
    pub fn now(self: &Arc<Self>) -> Arc<Self> {
        self.live.as_ref().and_then(Live::now).unwrap_or_else(|| Arc::clone(self))
    }

    /// The group with other servers.
    pub fn with(&self, tiers: [Tier; 2]) -> Self {
        let ring = tiers.first().map(|primary| self.method.ring(&primary.peers)).unwrap_or_default();
        let (name, method, sticky) = (self.name.clone(), self.method.clone(), self.sticky.clone());
        Self { name, method, sticky, ring, tiers, live: None, ..*self }
    }

    /// Goes on where the group of this name stood before a reload: with its idle connections to addresses that are still in
    /// it, and with what is known of servers that have not changed.
    pub fn succeed(&mut self, old: &Arc<Self>) {
        let now = old.now();
        self.id = old.id;
        let mut lists = std::mem::take(&mut self.tiers).map(|mut tier| std::mem::take(&mut tier.peers));
        if let (Some(live), Some(before)) = (&self.live, &old.live) {
            live.go_on(before, &now, &mut lists);
        }
        let ([primary, backup], [before, before_backup]) = (lists, &now.tiers);
        self.ring = self.method.ring(&primary);
        self.tiers = [Tier::after(primary, before), Tier::after(backup, before_backup)];
    }

    /// Whether there is only one server.
    pub fn is_single(&self) -> bool {
        matches!(&self.tiers, [primary, backup] if primary.peers.len() == 1 && backup.peers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parser::ast::Span;

    fn peer(last: u8, weight: u64) -> Peer {
        let server = Server { weight, ..Server::new("app".into(), Span::default()) };
        let address = std::net::SocketAddr::from(([127, 0, 0, last], 80));
        Peer::new(&server, Endpoint::Inet(address), address.to_string().into())
    }

    #[test]
    fn servers_that_stay_keep_what_is_known_of_them() {
        let old = Tier::new(vec![peer(1, 1), peer(2, 1), peer(3, 1)]);
        for index in 0..3 {
            old.lock().get_mut(index).unwrap().conns = 10 + index as u64;
        }
        let new = Tier::after(vec![peer(3, 1), peer(2, 5), peer(4, 1)], &old);
        let conns = |tier: &Tier| (0..3).map(|index| tier.lock().get(index).unwrap().conns).collect::<Vec<_>>();
        assert_eq!(conns(&new), [12, 0, 0]);
        let ids = |tier: &Tier| tier.peers.iter().map(|peer| peer.id).collect::<Vec<_>>();
        assert_eq!(ids(&new).get(..2), Some(&[ids(&old)[2], ids(&old)[1]][..]));
        // A request that began before still counts where it began.
        old.lock().get_mut(2).unwrap().conns = 1;
        old.lock().get_mut(0).unwrap().conns = 0;
        assert_eq!((conns(&new), conns(&old)), (vec![1, 0, 0], vec![0, 11, 1]));
        drop(old);
        // Seats that nobody uses are taken again.
        let next = Tier::after(vec![peer(5, 1), peer(6, 1)], &new);
        drop(new);
        assert_eq!(next.health.lock().unwrap().len(), 5);
        drop(Tier::after(vec![peer(7, 1), peer(8, 1), peer(9, 1)], &next));
        assert_eq!(next.health.lock().unwrap().len(), 5);
    }
}

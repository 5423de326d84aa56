//! A group's servers with their addresses and what is known of their health. Shared by all threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::method::{Method, Point};
use super::timing::Timing;
use crate::net::addr::Endpoint;

/// One server at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: Endpoint,
    /// The address as `$upstream_addr` prints it.
    pub name: Bytes,
    /// What its `server` says; several addresses may share it.
    pub server: Bytes,
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
}

/// The servers of one tier: primary or backup.
#[derive(Debug, Default)]
pub struct Tier {
    /// The servers.
    pub peers: Vec<Peer>,
    /// Their health, by the same numbers.
    pub health: Arc<Mutex<Vec<Health>>>,
}

impl Tier {
    /// A tier of these servers, all of them fresh.
    pub fn new(peers: Vec<Peer>) -> Self {
        let health = peers.iter().map(|peer| Health { effective_weight: peer.weight, ..Health::default() }).collect();
        Self { peers, health: Arc::new(Mutex::new(health)) }
    }

    /// The health of its servers.
    pub fn lock(&self) -> MutexGuard<'_, Vec<Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
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
            keepalive_local: false,
            keepalive: 0,
            keepalive_requests: 0,
            keepalive_time: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
        }
    }

    /// Goes on where the group of this name stood before a reload: idle connections to servers that are the same ones in
    /// the same order are kept, and what is known of them where their parameters are the same too.
    pub fn succeed(&mut self, old: &Self) {
        let addresses = |tier: &Tier| tier.peers.iter().map(|peer| peer.address.clone()).collect::<Vec<_>>();
        if self.tiers.iter().zip(&old.tiers).any(|(new, old)| addresses(new) != addresses(old)) {
            return;
        }
        self.id = old.id;
        for (new, old) in self.tiers.iter_mut().zip(&old.tiers).filter(|(new, old)| new.peers == old.peers) {
            new.health = Arc::clone(&old.health);
        }
    }

    /// Whether there is only one server.
    pub fn is_single(&self) -> bool {
        matches!(&self.tiers, [primary, backup] if primary.peers.len() == 1 && backup.peers.is_empty())
    }
}

//! Groups whose names are looked up again and again while they serve.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#resolve>. A group that changes is replaced as a whole; requests
//! under way go on with the one they began with, and servers that stay keep their health and their idle connections.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::conf::Server;
use super::peer::Tier;
use super::{Peer, Peers};
use crate::net::addr::Endpoint;
use crate::net::resolver::{ResolveError, Resolver};
use crate::net::{ErrorLog, Level};

/// nginx looks again as the second after the last one ends that an answer holds for.
const GRACE: Duration = Duration::from_secs(1);
/// How soon a plain name is looked up again after a failure.
const SOON: Duration = Duration::from_secs(2);

/// The names of a group, and the group as they make it.
pub struct Live {
    hosts: Vec<Host>,
    resolver: Arc<Resolver>,
    now: Mutex<Option<Arc<Peers>>>,
}

/// A name.
#[derive(Debug)]
pub struct Host {
    /// The `server` it stands in.
    pub server: Server,
    /// What to ask for, in this order, until something is found.
    pub names: Vec<String>,
    /// The port of its addresses; a service has its own.
    pub port: u16,
    /// Whether addresses stay although the name is not found any more: a plain name, which nginx looks up only at start.
    pub plain: bool,
    /// Until when it need not be looked up.
    pub until: Mutex<Option<Instant>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// What a name stands for.
struct Found {
    address: SocketAddr,
    /// The name of a service's server.
    server: Option<Bytes>,
    weight: i64,
    /// Whether it is for when others are gone.
    spare: bool,
}

impl Live {
    /// These names, none of them looked up.
    pub fn new(hosts: Vec<Host>, resolver: Arc<Resolver>) -> Self {
        Self { hosts, resolver, now: Mutex::default() }
    }

    /// The group that has taken the place of the first one.
    pub fn now(&self) -> Option<Arc<Peers>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of its names.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether it has no names.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Adds to `tiers` what was found before a reload for the same names.
    pub fn go_on(&self, before: &Self, peers: &Peers, tiers: &mut [Vec<Peer>; 2]) {
        for (place, host) in self.hosts.iter().enumerate() {
            let same = |old: &Host| old.names == host.names && old.server.service == host.server.service;
            let Some(old) = before.hosts.iter().position(same) else { continue };
            if tiers.iter().flatten().any(|peer| peer.host == Some(place)) {
                continue;
            }
            for (tier, known) in tiers.iter_mut().zip(&peers.tiers) {
                let known = known.peers.iter().filter(|peer| peer.host == Some(old));
                tier.extend(known.filter_map(|peer| host.again(place, peer)));
            }
            if let Some(old) = before.hosts.get(old) {
                let until = *old.until.lock().unwrap_or_else(PoisonError::into_inner);
                *host.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
            }
        }
    }

    /// Lets the group have these addresses for a name.
    fn replace(&self, first: &Arc<Peers>, place: usize, found: &[Found]) {
        let Some(host) = self.hosts.get(place) else { return };
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let peers = now.as_ref().unwrap_or(first);
        let [primary, backup] = &peers.tiers;
        let own = usize::from(host.server.backup);
        let list = |tier: &Tier, number: usize| {
            let wanted = found.iter().filter(|found| match (number == own, found.spare) {
                (true, spare) => !spare,
                (false, spare) => spare && number > own && peers.method.takes_backups(),
            });
            host.merge(place, &tier.peers, wanted.collect())
        };
        let lists = [list(primary, 0), list(backup, 1)];
        let ids = |peers: &[Peer]| peers.iter().map(|peer| peer.id).collect::<Vec<_>>();
        if lists.iter().zip(&peers.tiers).all(|(list, tier)| ids(list) == ids(&tier.peers)) {
            return;
        }
        let [new, new_backup] = lists;
        *now = Some(Arc::new(peers.with([Tier::after(new, primary), Tier::after(new_backup, backup)])));
    }
}

impl Host {
    /// A server at an address.
    fn peer(&self, place: usize, found: &Found) -> Peer {
        let name = found.address.to_string().into();
        let mut peer = Peer::new(&self.server, Endpoint::Inet(found.address), name);
        peer.host = Some(place);
        if let Some(server) = &found.server {
            peer.server = server.clone();
            peer.weight = if self.server.weight == 1 { found.weight } else { peer.weight };
        }
        peer
    }

    /// A server as it was before a reload, under the parameters of now.
    fn again(&self, place: usize, old: &Peer) -> Option<Peer> {
        let Endpoint::Inet(mut address) = old.address else { return None };
        let server = self.server.service.as_ref().map(|_| old.server.clone());
        if server.is_none() {
            address.set_port(self.port);
        }
        Some(self.peer(place, &Found { address, server, weight: old.weight, spare: false }))
    }

    /// `peers` without those of this name that are not wanted any more, and with those that are new.
    fn merge(&self, place: usize, peers: &[Peer], mut wanted: Vec<&Found>) -> Vec<Peer> {
        let mut merged = Vec::with_capacity(peers.len());
        for peer in peers {
            let same = |found: &&Found| {
                let server = found.server.as_ref();
                peer.address == Endpoint::Inet(found.address)
                    && server.is_none_or(|server| *server == peer.server)
                    && (server.is_none() || self.server.weight != 1 || found.weight == peer.weight)
            };
            if peer.host != Some(place) {
                merged.push(peer.clone());
            } else if let Some(at) = wanted.iter().position(same) {
                wanted.remove(at);
                merged.push(peer.clone());
            }
        }
        merged.extend(wanted.into_iter().map(|found| self.peer(place, found)));
        merged
    }

    /// Looks it up: what was found, and until when that holds.
    async fn ask(&self, resolver: &Resolver, log: &ErrorLog) -> (Result<Vec<Found>, ResolveError>, Instant) {
        let Some(service) = &self.server.service else { return self.ask_addresses(resolver).await };
        let (service, name) = (String::from_utf8_lossy(service), self.name());
        let found = resolver.service(&service, name).await;
        for (server, error) in &found.failed {
            let problem =
                format!("{server} could not be resolved ({error}) while resolving service {service} of {name}");
            log.write(Level::Error, None, &problem);
        }
        let servers = found.servers.map(|servers| {
            let first = servers.iter().map(|server| server.priority).min();
            let found = servers.into_iter().map(|server| Found {
                address: server.address,
                server: Some(server.name.into()),
                weight: server.weight.into(),
                spare: Some(server.priority) != first,
            });
            found.collect()
        });
        (servers, found.until)
    }

    async fn ask_addresses(&self, resolver: &Resolver) -> (Result<Vec<Found>, ResolveError>, Instant) {
        let (mut last, mut until) = (ResolveError::NOT_FOUND, Instant::now());
        for name in &self.names {
            let (found, holds) = resolver.resolve_until(name).await;
            until = holds;
            match found {
                Ok(found) => {
                    let addresses = found.iter().map(|ip| (*ip, self.port).into());
                    let found = addresses.map(|address| Found { address, server: None, weight: 1, spare: false });
                    return (Ok(found.collect()), until);
                }
                Err(error) => last = error,
            }
            if last != ResolveError::NOT_FOUND {
                break;
            }
        }
        (Err(last), until)
    }

    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// Looks one name of `group` up as long as it runs.
pub async fn watch(group: Arc<Peers>, place: usize, log: ErrorLog) {
    let Some(live) = &group.live else { return };
    let Some(host) = live.hosts.get(place) else { return };
    let patience = live.resolver.timeout().max(GRACE);
    let mut told = None;
    loop {
        let until = *host.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until {
            tokio::time::sleep_until((until + GRACE).into()).await;
        }
        let (found, mut until) = host.ask(&live.resolver, &log).await;
        let failed = found.as_ref().err().copied();
        if let Some(error) = failed.filter(|_| !host.plain || told != failed) {
            let name = host.name();
            let what = host.server.service.as_ref().map(|service| String::from_utf8_lossy(service));
            let what = what.map_or_else(|| name.to_owned(), |service| format!("service {service} of {name}"));
            log.write(Level::Error, None, &format!("{what} could not be resolved ({error})"));
        }
        told = failed;
        match found {
            Ok(found) => live.replace(&group, place, &found),
            Err(_) if host.plain => until = Instant::now() + SOON,
            Err(ResolveError::NOT_FOUND) => live.replace(&group, place, &[]),
            Err(_) => until = Instant::now() + patience - GRACE,
        }
        *host.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

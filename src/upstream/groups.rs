//! The groups of a configuration: `upstream` blocks, and hosts that directives name.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#upstream>

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parser::ast::Span;

use super::conf::Server;
use super::peer::Tier;
use super::{Group, Peer, Peers};
use crate::conf::Diag;
use crate::conf::files::Files;
use crate::net::addr::{self, Endpoint};
use crate::net::resolver::{Resolver, Settings};

/// Groups by their name in lower case; implicit ones have a port.
pub type Sealed = HashMap<(Bytes, Option<u16>), Arc<Peers>>;

/// The groups of a configuration: blocks, and hosts that directives name.
pub struct Upstreams {
    files: Arc<dyn Files>,
    before: Sealed,
    groups: Vec<Group>,
    sealed: Sealed,
    known: Arc<OnceLock<Sealed>>,
    /// Resolvers by their settings.
    pub resolvers: Vec<(Settings, Arc<Resolver>)>,
}

impl Upstreams {
    /// The groups that `upstream` blocks made; `files` knows the addresses of host names, `before` the groups until now.
    pub fn new(groups: Vec<Group>, files: Arc<dyn Files>, before: Sealed) -> Self {
        Self { files, before, groups, sealed: Sealed::new(), known: Arc::default(), resolvers: Vec::new() }
    }

    /// All groups that something uses or an `upstream` block declares.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Peers>> {
        self.sealed.values()
    }

    /// Resolves every declared group, used or not, as nginx does; the last step, after which all groups are known.
    pub fn seal_declared(&mut self) -> Result<(), Diag> {
        for group in self.groups.clone() {
            self.seal(&group)?;
        }
        let _ = self.known.set(self.sealed.clone());
        Ok(())
    }

    /// All groups, once every scope is sealed: for URLs with variables, which may name any of them.
    pub fn known(&self) -> Arc<OnceLock<Sealed>> {
        Arc::clone(&self.known)
    }

    /// The groups as they are, for a reload to go on with.
    pub fn sealed(&self) -> Sealed {
        self.sealed.clone()
    }

    /// The group that an `upstream` block of this name declares.
    pub fn declared(&self, host: &[u8]) -> Option<&Group> {
        self.groups.iter().find(|group| group.name.eq_ignore_ascii_case(host))
    }

    /// The group of this name, or an implicit one for `host` and `port`.
    pub fn find(&mut self, host: &Bytes, port: Option<u16>, default_port: u16, at: Span) -> Result<Arc<Peers>, Diag> {
        if let Some(group) = self.declared(host).cloned() {
            if let Some(port) = port {
                let problem = format!("upstream \"{}\" may not have port {port}", String::from_utf8_lossy(host));
                return Err(Diag::error(problem, at, at));
            }
            return self.seal(&group);
        }
        let port = port.unwrap_or(default_port);
        let is_unix = host.starts_with(b"unix:");
        let name = if is_unix { host.to_vec() } else { [host, &b":"[..], port.to_string().as_bytes()].concat() };
        let mut group = Group::new(host.clone(), Some(at));
        (group.port, group.explicit) = (Some(port), false);
        group.servers.push(Server::new(name.into(), at));
        self.seal(&group)
    }

    fn seal(&mut self, group: &Group) -> Result<Arc<Peers>, Diag> {
        let key = (Bytes::from(group.name.to_ascii_lowercase()), group.port);
        if let Some(peers) = self.sealed.get(&key) {
            return Ok(Arc::clone(peers));
        }
        let mut peers = peers(group, &*self.files)?;
        if let Some(old) = self.before.get(&key) {
            peers.succeed(old);
        }
        let peers = Arc::new(peers);
        self.sealed.insert(key, Arc::clone(&peers));
        Ok(peers)
    }
}

/// Resolves a group's servers.
fn peers(group: &Group, files: &dyn Files) -> Result<Peers, Diag> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = String::from_utf8_lossy(&group.name).into_owned();
    if !group.servers.iter().any(|server| !server.backup) {
        let problem = format!("no servers are inside upstream \"{name}\"");
        let at = group.at.unwrap_or_default();
        return Err(Diag::error(
            if group.servers.is_empty() { problem } else { format!("no servers in upstream \"{name}\"") },
            at,
            at,
        ));
    }
    let mut tiers = [Vec::new(), Vec::new()];
    for server in &group.servers {
        let [primary, backup] = &mut tiers;
        let tier = if server.backup { backup } else { primary };
        for (address, name) in resolve(server, files)? {
            tier.push(Peer {
                address,
                name,
                server: server.name.clone(),
                weight: i64::try_from(server.weight).unwrap_or(i64::MAX),
                max_conns: server.max_conns,
                max_fails: server.max_fails,
                fail_timeout: server.fail_timeout,
                down: server.down,
            });
        }
    }
    Ok(Peers {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        name: group.name.clone(),
        explicit: group.explicit,
        method: group.method.clone(),
        ring: tiers.first().map(|primary| group.method.ring(primary)).unwrap_or_default(),
        tiers: tiers.map(Tier::new),
        keepalive_local: group.keepalive_local,
        // As nginx has it, a server that no `upstream` block names is connected to for every request.
        keepalive: if group.explicit { usize::try_from(group.keepalive).unwrap_or(usize::MAX) } else { 0 },
        keepalive_requests: group.keepalive_requests,
        keepalive_time: group.keepalive_time,
        keepalive_timeout: group.keepalive_timeout,
    })
}

fn resolve(server: &Server, files: &dyn Files) -> Result<Vec<(Endpoint, Bytes)>, Diag> {
    let name = if server.name.starts_with(b"unix:") { server.name.strip_suffix(b":") } else { None };
    let found = addr::peer(name.unwrap_or(&server.name))
        .and_then(|url| url.endpoints(80, |name| files.lookup(name)))
        .map_err(|error| {
        let problem = format!("{error} in upstream \"{}\"", String::from_utf8_lossy(&server.name));
        Diag::error(problem, server.at, server.at)
    })?;
    let text = |at: &Endpoint| name.map_or_else(|| at.to_string().into(), |_| server.name.clone());
    Ok(found.into_iter().map(|at| (at.clone(), text(&at))).collect())
}

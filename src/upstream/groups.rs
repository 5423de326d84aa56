//! The groups of a configuration: `upstream` blocks, and hosts that directives name.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#upstream>

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parser::ast::Span;

use super::conf::Server;
use super::live::{self, Host, Live};
use super::peer::{Tier, number};
use super::resolver::{self, System};
use super::{Group, Peer, Peers};
use crate::conf::files::Files;
use crate::conf::{Diag, Env};
use crate::net::ErrorLog;
use crate::net::addr::{self, Endpoint, HOST_NOT_FOUND};
use crate::net::resolver::{Resolver, Settings};

/// Groups by their name in lower case; implicit ones have a port.
pub type Sealed = HashMap<(Bytes, Option<u16>), Arc<Peers>>;

/// What a configuration says of groups.
pub struct Given {
    /// `upstream` blocks.
    pub groups: Vec<Group>,
    /// `resolver` and `resolver_timeout` around them.
    pub resolver: (Option<resolver::Conf>, Option<Duration>),
    /// `upstream_start_unresolved`.
    pub start_unresolved: bool,
}

/// The groups of a configuration: blocks, and hosts that directives name.
pub struct Upstreams {
    files: Arc<dyn Files>,
    before: Sealed,
    given: Given,
    sealed: Sealed,
    known: Arc<OnceLock<Sealed>>,
    /// Whether someone looks their names up.
    watched: AtomicBool,
    /// Resolvers by their settings.
    pub resolvers: Vec<(Settings, Arc<Resolver>)>,
    /// Names that are not found yet.
    pub warnings: Vec<Diag>,
}

impl Upstreams {
    /// The groups that `given` declares; `before` are the groups until now.
    pub fn new(mut given: Given, env: &mut Env, before: Sealed) -> Result<Self, Diag> {
        for group in &mut given.groups {
            check(group, given.resolver.0.is_some(), env)?;
            if let Some(sticky) = &mut group.sticky {
                sticky.take_zone(&group.name, env)?;
            }
        }
        Ok(Self {
            files: Arc::clone(&env.files),
            before,
            given,
            sealed: Sealed::new(),
            known: Arc::default(),
            watched: AtomicBool::new(false),
            resolvers: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// What looks the groups' names up again and again, for the first who asks; nothing for others.
    pub fn watchers(&self, log: &ErrorLog) -> Vec<impl Future<Output = ()> + use<>> {
        if self.watched.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let each = |peers: &Arc<Peers>| {
            let (peers, log, names) = (Arc::clone(peers), log.clone(), peers.live.as_ref().map_or(0, Live::len));
            (0..names).map(move |place| live::watch(Arc::clone(&peers), place, log.clone()))
        };
        self.all().flat_map(each).collect()
    }

    /// All groups that something uses or an `upstream` block declares.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Peers>> {
        self.sealed.values()
    }

    /// Resolves every declared group, used or not, as nginx does; the last step, after which all groups are known.
    pub fn seal_declared(&mut self) -> Result<(), Diag> {
        for group in self.given.groups.clone() {
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
        self.given.groups.iter().find(|group| group.name.eq_ignore_ascii_case(host))
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
        if port == 0 && !is_unix {
            let problem = format!("no port in upstream \"{}\"", String::from_utf8_lossy(host));
            return Err(Diag::error(problem, at, at));
        }
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
        let mut peers = self.peers(group)?;
        if let Some(old) = self.before.get(&key) {
            peers.succeed(old);
        }
        let peers = Arc::new(peers);
        self.sealed.insert(key, Arc::clone(&peers));
        Ok(peers)
    }

    /// Finds a group's servers.
    fn peers(&mut self, group: &Group) -> Result<Peers, Diag> {
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
        let (mut tiers, mut hosts) = ([Vec::new(), Vec::new()], Vec::new());
        let resolver = group.resolver.clone().or_else(|| self.given.resolver.0.clone());
        let system =
            if resolver.is_none() && self.given.start_unresolved { Some(System::own(&*self.files)) } else { None };
        for server in &group.servers {
            let [primary, backup] = &mut tiers;
            let tier = if server.backup { backup } else { primary };
            let shown = if group.explicit { &server.name } else { &group.name };
            let (found, host) = self.find_server(server, shown, system.as_ref())?;
            let place = host.is_some().then_some(hosts.len());
            hosts.extend(host);
            tier.extend(
                found.into_iter().map(|(address, name)| Peer { host: place, ..Peer::new(server, address, name) }),
            );
        }
        share_connections(&mut tiers);
        let timeout = group.resolver_timeout.or(self.given.resolver.1);
        let resolver = match (hosts.is_empty(), resolver, system) {
            (false, Some(resolver), _) => Some(resolver.seal(timeout, self)),
            (false, None, Some(system)) => Some(system.resolver(self)),
            _ => None,
        };
        Ok(Peers {
            id: number(),
            name: group.name.clone(),
            explicit: group.explicit,
            method: group.method.clone(),
            ring: tiers.first().map(|primary| group.method.ring(primary)).unwrap_or_default(),
            tiers: tiers.map(Tier::new),
            sticky: group.sticky.clone().map(Arc::new),
            live: resolver.map(|resolver| Live::new(hosts, resolver)),
            keepalive_local: group.keepalive_local,
            // As nginx has it, a server that no `upstream` block names is connected to for every request.
            keepalive: if group.explicit { usize::try_from(group.keepalive).unwrap_or(usize::MAX) } else { 0 },
            keepalive_requests: group.keepalive_requests,
            keepalive_time: group.keepalive_time,
            keepalive_timeout: group.keepalive_timeout,
        })
    }

    /// The addresses of a server that messages call `shown`, and its name where that is looked up while serving.
    fn find_server(
        &mut self,
        server: &Server,
        shown: &[u8],
        system: Option<&System>,
    ) -> Result<(Vec<Located>, Option<Host>), Diag> {
        let unix = if server.name.starts_with(b"unix:") { server.name.strip_suffix(b":") } else { None };
        let error = |error| {
            let problem = format!("{error} in upstream \"{}\"", String::from_utf8_lossy(shown));
            Diag::error(problem, server.at, server.at)
        };
        let url = addr::peer(unix.unwrap_or(&server.name)).map_err(error)?;
        let port = url.port.unwrap_or(80);
        let host = |names, plain| Host { server: server.clone(), names, port, plain, until: Default::default() };
        let plain = match &url.host {
            addr::Host::Name(name) if server.resolve => return Ok((Vec::new(), Some(host(vec![name.clone()], false)))),
            addr::Host::Name(name) if self.given.start_unresolved && !resolver::is_in_hosts(&*self.files, name) => {
                let names = system.map_or_else(|| vec![name.clone()], |system| system.candidates(name));
                Some(host(names, true))
            }
            _ => None,
        };
        let found = match url.endpoints(80, |name| self.files.lookup(name)) {
            Err(HOST_NOT_FOUND) if plain.is_some() => {
                self.warnings.push(error(HOST_NOT_FOUND).warning().note("it is looked up while the server runs"));
                Vec::new()
            }
            found => found.map_err(error)?,
        };
        Ok((found.into_iter().map(|at| (at.clone(), at.to_string().into())).collect(), plain))
    }
}

/// The servers of `upstream` blocks whose names are not found: nginx looks them up where it reads them, and so finds them
/// wrong before what else concerns groups.
pub fn not_found(groups: &[Group], files: &dyn Files) -> Vec<Diag> {
    let servers = groups.iter().flat_map(|group| &group.servers).filter(|server| !server.resolve);
    let missing = servers.filter(|server| {
        let found = addr::peer(&server.name).and_then(|url| url.endpoints(80, |name| files.lookup(name)));
        matches!(found, Err(HOST_NOT_FOUND))
    });
    let diag = |server: &Server| {
        let problem = format!("{HOST_NOT_FOUND} in upstream \"{}\"", String::from_utf8_lossy(&server.name));
        Diag::error(problem, server.at, server.at)
    };
    missing.map(diag).collect()
}

/// Lets servers at the same address have their idle connections in common.
fn share_connections(tiers: &mut [Vec<Peer>; 2]) {
    let mut first = HashMap::new();
    for peer in tiers.iter_mut().flatten() {
        peer.id = *first.entry(peer.address.clone()).or_insert(peer.id);
    }
}

/// An address and how it is printed.
type Located = (Endpoint, Bytes);

/// Holds a group whose names are looked up while serving against nginx's rules.
fn check(group: &Group, has_resolver: bool, env: &Env) -> Result<(), Diag> {
    if !group.servers.iter().any(|server| server.resolve) {
        return Ok(());
    }
    let (name, at) = (String::from_utf8_lossy(&group.name), group.at.unwrap_or_default());
    if !group.zone {
        let place = env.sources.place(at);
        let problem =
            format!("resolving names at run time requires upstream \"{name}\" in {place} to be in shared memory");
        return Err(Diag::general(problem, Some(at)));
    }
    if !has_resolver && group.resolver.is_none() {
        let problem = format!("no resolver defined to resolve names at run time in upstream \"{name}\"");
        return Err(Diag::error(problem, at, at));
    }
    Ok(())
}

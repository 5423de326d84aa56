//! Balancing methods other than round robin, each in nginx's own sequence.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#hash>, `ip_hash`, `least_conn`, `random`

use std::net::IpAddr;

use bytes::Bytes;

use super::balance::View;
use super::peer::{Health, Peer, Tier};
use super::{Group, sticky};
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Contexts, Directive, Field, Problem, many, on};
use crate::http::{Request, Value};
use crate::net::clock;

/// How the servers of a group take turns.
#[derive(Clone, Debug, Default)]
pub enum Method {
    /// By weight, in turn.
    #[default]
    RoundRobin,
    /// Who has the fewest connections for its weight.
    LeastConn,
    /// Who is expected to answer first.
    LeastTime {
        /// By the time to the end of the head, not to the last byte.
        by_header: bool,
        /// Whether requests under way count.
        under_way: bool,
    },
    /// By the client's address.
    IpHash,
    /// By a key; consistently where few servers change.
    Hash(Value, bool),
    /// Anyone, or the less busy one of two.
    Random(bool),
}

/// A point of the ring of a consistent hash, and the server it belongs to.
pub type Point = (u32, Bytes);

/// Points a server has on the ring for each unit of its weight.
const POINTS: i64 = 160;
/// Guesses before round robin takes over.
const GUESSES: u8 = 20;

/// The rows of `upstream { }` that choose a method, with the names of their modules.
pub const ROWS: &[(&str, Directive<Group>)] = &[
    ("upstream_hash", many("hash", Contexts::UPSTREAM, 1..=2, hash)),
    ("upstream_ip_hash", many("ip_hash", Contexts::UPSTREAM, 0..=0, |g, a| choose(g, a, Method::IpHash))),
    ("upstream_least_conn", many("least_conn", Contexts::UPSTREAM, 0..=0, |g, a| choose(g, a, Method::LeastConn))),
    ("upstream_least_time", on("least_time", Contexts::UPSTREAM, 1..=2, least_time_row)),
    ("upstream_sticky", on("sticky", Contexts::UPSTREAM, 2..=255, sticky::read)),
    ("upstream_random", many("random", Contexts::UPSTREAM, 0..=2, random)),
];

impl Method {
    /// Whether its groups may have backup servers.
    pub fn takes_backups(&self) -> bool {
        matches!(self, Method::RoundRobin | Method::LeastConn | Method::LeastTime { .. })
    }

    /// The ring of a consistent hash over `servers`, sorted; nothing for other methods.
    pub fn ring(&self, servers: &[Peer]) -> Vec<Point> {
        let Method::Hash(_, true) = self else { return Vec::new() };
        let mut points = Vec::new();
        for peer in servers {
            let (host, port) = host_and_port(&peer.server);
            let base = crc32(&[host, b"\0", port]);
            let mut last = 0u32;
            for _ in 0..peer.weight * POINTS {
                last = !last.to_le_bytes().iter().fold(base, crc32_byte);
                points.push((last, peer.server.clone()));
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        points.dedup_by_key(|(hash, _)| *hash);
        points
    }
}

/// How far a request's guesses got.
#[derive(Debug, Default)]
pub struct State {
    key: Vec<u8>,
    hash: u64,
    rehash: u64,
    guesses: u8,
}

impl State {
    /// Before the first guess.
    pub fn new(method: &Method, ring: &[Point], request: &Request) -> Self {
        match method {
            Method::RoundRobin | Method::LeastConn | Method::LeastTime { .. } | Method::Random(_) => Self::default(),
            Method::IpHash => {
                let key = match request.peer_ip() {
                    Some(IpAddr::V4(ip)) => ip.octets().iter().take(3).copied().collect(),
                    Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
                    None => vec![0; 3],
                };
                Self { key, hash: 89, ..Self::default() }
            }
            Method::Hash(key, consistent) => {
                let key = key.get(request).into_owned();
                let at = if *consistent { ring.partition_point(|(hash, _)| *hash < !crc32(&[&key])) } else { 0 };
                Self { key, hash: at as u64, ..Self::default() }
            }
        }
    }

    /// Whether servers are still guessed, and round robin does not have to find one.
    pub fn guesses(&self, method: &Method) -> bool {
        self.guesses <= GUESSES && !(matches!(method, Method::Hash(..)) && self.key.is_empty())
    }

    /// The next server of the primary tier, or `None` where round robin has to find one.
    pub fn pick(&mut self, method: &Method, ring: &[Point], view: &mut View<'_>) -> Option<usize> {
        let total = view.tier.peers.iter().map(|peer| peer.weight).sum::<i64>().unsigned_abs().max(1);
        match method {
            Method::RoundRobin | Method::LeastConn | Method::LeastTime { .. } => None,
            Method::IpHash => {
                let mut hash = self.hash;
                let found = self.guess(view, |key| {
                    hash = key.key.iter().fold(hash, |hash, &byte| (hash * 113 + u64::from(byte)) % 6271);
                    hash % total
                })?;
                self.hash = hash;
                Some(found)
            }
            Method::Hash(_, true) => self.walk(ring, view),
            Method::Hash(_, false) => self.guess(view, |state| {
                let again = Some(state.rehash.to_string()).filter(|_| state.rehash > 0).unwrap_or_default();
                let hash = !crc32(&[again.as_bytes(), &state.key]);
                state.hash += u64::from((hash >> 16) & 0x7fff);
                state.rehash += 1;
                state.hash % total
            }),
            Method::Random(false) => self.guess(view, |_| clock::random() % total),
            Method::Random(true) => self.two(view, total),
        }
    }

    /// Guesses until a server can be used; `next` says which, counted in weights.
    fn guess(&mut self, view: &View<'_>, mut next: impl FnMut(&mut Self) -> u64) -> Option<usize> {
        while self.guesses <= GUESSES {
            let index = at_weight(view.tier, next(self))?;
            if view.is_usable(index) {
                return Some(index);
            }
            self.guesses += 1;
        }
        None
    }

    /// The less busy one of two guesses.
    fn two(&mut self, view: &View<'_>, total: u64) -> Option<usize> {
        let mut first = None;
        while self.guesses <= GUESSES {
            let index = at_weight(view.tier, clock::random() % total)?;
            match first {
                _ if !view.is_usable(index) || first == Some(index) => self.guesses += 1,
                None => first = Some(index),
                Some(first) => return Some(if view.is_busier(index, first) { first } else { index }),
            }
        }
        None
    }

    /// Walks round the ring until a point's server can be used.
    fn walk(&mut self, ring: &[Point], view: &mut View<'_>) -> Option<usize> {
        while self.guesses <= GUESSES {
            let at = usize::try_from(self.hash).ok()?.checked_rem(ring.len())?;
            let (_, server) = ring.get(at)?;
            let tier = view.tier;
            let same = |index: usize, _| tier.peers.get(index).is_some_and(|peer| peer.server == *server);
            if let Some(index) = view.smooth(same) {
                return Some(index);
            }
            self.hash += 1;
            self.guesses += 1;
        }
        None
    }
}

/// The server that costs least for its weight; among equals, round robin goes on. As in nginx, those behind the one that is
/// next so far equal it where they equal the first one's cost for its own weight, if `by_first`.
pub fn least(view: &mut View<'_>, by_first: bool, cost: impl Fn(&Peer, &Health, u64) -> u64) -> Option<usize> {
    let costs: Vec<u64> = view.servers().map(|(peer, health)| cost(peer, health, view.now)).collect();
    let peers = &view.tier.peers;
    // The cost of one in the measure of another's weight.
    let weigh = |index: usize, other: usize| {
        let weight = peers.get(other).map_or(0, |peer| peer.weight.unsigned_abs());
        costs.get(index).map_or(0, |cost| cost * weight)
    };
    let usable = (0..peers.len()).filter(|&index| view.is_usable(index));
    let best = usable.reduce(|best, index| if weigh(index, best) < weigh(best, index) { index } else { best })?;
    let equals = |index, next| weigh(index, next) == weigh(if by_first { best } else { next }, index);
    if !(best + 1..peers.len()).any(|index| equals(index, best) && view.is_usable(index)) {
        return Some(best);
    }
    view.smooth(|index, next| index == best || (index > best && equals(index, next)))
}

/// The server with the fewest connections.
pub fn least_conn(view: &mut View<'_>) -> Option<usize> {
    least(view, false, |_, health, _| health.conns)
}

/// The server that is expected to answer first.
pub fn least_time(view: &mut View<'_>, by_header: bool) -> Option<usize> {
    least(view, true, |peer, health, now| {
        let untried = now.saturating_sub(health.checked);
        let halvings = if untried > peer.fail_timeout { untried / (peer.fail_timeout + 1) } else { 0 };
        health.timing.estimate(by_header, halvings, health.conns)
    })
}

/// The server that holds place `weight` when their weights stand in a row.
fn at_weight(tier: &Tier, mut weight: u64) -> Option<usize> {
    tier.peers.iter().position(|peer| {
        let own = peer.weight.unsigned_abs();
        let here = weight < own;
        weight = weight.saturating_sub(own);
        here
    })
}

/// A server's name in two, at the colon before its port.
fn host_and_port(server: &[u8]) -> (&[u8], &[u8]) {
    if let Some((_, path)) = server.split_at_checked(5).filter(|(unix, _)| unix.eq_ignore_ascii_case(b"unix:")) {
        return (path, b"");
    }
    match server.iter().rposition(|b| !b.is_ascii_digit()) {
        Some(at) if server.get(at) == Some(&b':') => {
            (server.get(..at).unwrap_or_default(), server.get(at + 1..).unwrap_or_default())
        }
        _ => (server, b""),
    }
}

/// CRC-32 (ISO-HDLC) of these bytes, before its last inversion.
fn crc32(parts: &[&[u8]]) -> u32 {
    parts.iter().flat_map(|part| part.iter()).fold(u32::MAX, crc32_byte)
}

fn crc32_byte(crc: u32, byte: &u8) -> u32 {
    (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
}

fn choose(group: &mut Group, args: &mut Args<'_>, method: Method) -> Result<(), Problem> {
    // As in nginx, a method behind `sticky` takes its place.
    if !matches!(group.method, Method::RoundRobin) || group.sticky.take().is_some() {
        args.warn("load balancing method redefined");
    }
    group.method = method;
    Ok(())
}

fn hash(group: &mut Group, args: &mut Args<'_>) -> Result<(), Problem> {
    let key = Value::read(args.word(0), args)?;
    let consistent = match args.get(1) {
        None => false,
        Some(b"consistent") => true,
        Some(other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(1)),
    };
    choose(group, args, Method::Hash(key, consistent))
}

fn least_time_row(group: &mut Group, args: &mut Args<'_>) -> Result<(), Problem> {
    let by_header = one_of(args.word(0), &[("header", true), ("last_byte", false)]).map_err(|problem| problem.at(0))?;
    let under_way = match args.get(1) {
        None => false,
        Some(b"inflight") => true,
        Some(other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(1)),
    };
    choose(group, args, Method::LeastTime { by_header, under_way })
}

fn random(group: &mut Group, args: &mut Args<'_>) -> Result<(), Problem> {
    for (index, (word, wanted)) in args.words().zip([&b"two"[..], b"least_conn"]).enumerate() {
        if word != wanted {
            return Err(Problem::new(format!("invalid parameter \"{}\"", text(word))).at(index));
        }
    }
    choose(group, args, Method::Random(!args.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_as_the_standard_has_it() {
        assert_eq!(!crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn takes_names_apart() {
        let table = [
            ("a.example:8080", "a.example", "8080"),
            ("127.0.0.1", "127.0.0.1", ""),
            ("[::1]:80", "[::1]", "80"),
            ("[::1]", "[::1]", ""),
            ("unix:/tmp/a:1", "/tmp/a:1", ""),
        ];
        for (name, host, port) in table {
            assert_eq!(host_and_port(name.as_bytes()), (host.as_bytes(), port.as_bytes()));
        }
    }
}

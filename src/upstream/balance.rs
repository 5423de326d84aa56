//! Which server is next: nginx's smooth weighted round robin, in the same sequence, for the method of the group.
//!
//! <https://nginx.org/en/docs/http/load_balancing.html>

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::method::{self, Method, State};
use super::peer::{Board, Health, Peer, Peers, Tier};
use super::sticky::{Lesson, Sticky};
use super::{Conf, pool};
use crate::http::Request;
use crate::net::clock;
use crate::net::tls::Dial;

/// What binds a request to a server.
struct Session {
    sticky: Arc<Sticky>,
    /// What the request says of it.
    id: Option<Bytes>,
    /// What is learnt when the server is given back.
    lesson: Option<Lesson>,
}

/// One request's way through a group: what was tried and what is held now.
pub struct Choice {
    peers: Arc<Peers>,
    tier: usize,
    tried: Vec<bool>,
    held: Option<usize>,
    state: State,
    /// When the request began in milliseconds since 1970, where requests under way count.
    begun: Option<u64>,
    /// Tells apart who may use the same idle connections.
    tag: u64,
    /// The client's session, where clients stay with their servers.
    session: Option<Box<Session>>,
    /// How it talks TLS, where it does.
    pub secure: Option<Rc<Dial>>,
    /// Tries that are left.
    pub tries: u64,
}

impl Choice {
    /// A request that has tried nothing, at the place of `conf`.
    pub fn new(peers: Arc<Peers>, conf: &Conf, request: &Request) -> Self {
        let [primary, backup] = &peers.tiers;
        let usable = |tier: &Tier| tier.peers.iter().filter(|peer| !peer.down).count() as u64;
        let tries = usable(primary) + usable(backup);
        let tried = vec![false; primary.peers.len()];
        let state = State::new(&peers.method, &peers.ring, request);
        let session = peers.sticky.as_ref().map(|sticky| {
            let (sticky, id) = (Arc::clone(sticky), sticky.id(request));
            Box::new(Session { sticky, id, lesson: None })
        });
        let tag = if peers.keepalive_local { conf.tag } else { 0 };
        Self { tries: tries.max(1), peers, tier: 0, tried, held: None, state, begun: None, tag, session, secure: None }
    }

    /// Has the response bind the client to the server that is held, where the group's clients stay.
    pub fn bind(&self, request: &mut Request) {
        if let (Some(session), Some(peer)) = (&self.session, self.peer()) {
            session.sticky.bind(&peer.sid, request);
        }
    }

    /// Learns the session that the reply tells of, once the server is given back or at once.
    pub fn learn(&mut self, request: &Request) {
        let held = self.peers.tiers.get(self.tier).zip(self.held);
        if let (Some(session), Some((tier, index))) = (&mut self.session, held)
            && let Some(peer) = tier.peers.get(index)
        {
            session.lesson = session.sticky.lesson(session.id.as_ref(), &peer.sid, request);
        }
    }

    /// The group.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// The server that is held.
    pub fn peer(&self) -> Option<&Peer> {
        self.tier().peers.get(self.held?)
    }

    /// Which idle connections to the server that is held may be used.
    pub fn pool_key(&self) -> pool::Key {
        let tag = match &self.secure {
            Some(secure) => self.tag ^ secure.tag,
            None => self.tag,
        };
        (self.peers.id, self.peer().map_or(0, |peer| peer.id), tag)
    }

    /// Number of the server that is held: tier and place.
    pub fn key(&self) -> (usize, usize) {
        (self.tier, self.held.unwrap_or_default())
    }

    /// Takes the next server; false when none is live.
    pub fn advance(&mut self) -> bool {
        while self.tier < self.peers.tiers.len() {
            if let Some(index) = self.pick() {
                self.held = Some(index);
                return true;
            }
            self.tier += 1;
            let count = self.peers.tiers.get(self.tier).map_or(0, |tier| tier.peers.len());
            self.tried = vec![false; count];
        }
        self.tier = 0;
        false
    }

    /// Gives the server back; `failed` counts against it. True if it has other requests under way.
    pub fn release(&mut self, failed: bool) -> bool {
        let Some(index) = self.held.take() else { return false };
        self.tries = self.tries.saturating_sub(1);
        if let Some(session) = &mut self.session
            && let Some(lesson) = session.lesson.take().filter(|_| !failed)
        {
            session.sticky.learn(lesson);
        }
        let begun = self.begun.take();
        let tier = self.tier();
        let mut health = tier.lock();
        let (Some(peer), Some(health)) = (tier.peers.get(index), health.get_mut(index)) else { return false };
        health.conns = health.conns.saturating_sub(1);
        let busy = health.conns > 0;
        if let Some(begun) = begun {
            health.timing.end(begun, millis());
        }
        if self.peers.is_single() {
            health.fails = 0;
        } else if failed {
            fail(peer, health);
        } else if health.accessed < health.checked {
            health.fails = 0;
        }
        busy
    }

    /// Notes how long the server that is held took to the end of its head. Where heads are compared and requests under way
    /// count, this one no longer is.
    pub fn heard(&mut self, header: Duration) {
        if !matches!(self.peers.method, Method::LeastTime { by_header: true, under_way: true }) {
            return;
        }
        let begun = self.begun.take();
        let mut health = self.tier().lock();
        if let Some(health) = self.held.and_then(|index| health.get_mut(index)) {
            health.timing.note_header(in_millis(header));
            if let Some(begun) = begun {
                health.timing.end(begun, millis());
            }
        }
    }

    /// Notes how long the server that is held took to the end of its head, unless that is known, and to its last byte.
    pub fn note(&self, header: Duration, whole: Duration) {
        let Method::LeastTime { by_header, under_way } = self.peers.method else { return };
        let mut health = self.tier().lock();
        if let Some(health) = self.held.and_then(|index| health.get_mut(index)) {
            health.timing.note_whole(in_millis(whole));
            if !by_header || !under_way {
                health.timing.note_header(in_millis(header));
            }
        }
    }

    /// Whether the server that is held has just failed as often as it may.
    pub fn is_disabled(&self, (tier, index): (usize, usize)) -> bool {
        let Some(tier) = self.peers.tiers.get(tier) else { return false };
        let limit = tier.peers.get(index).map_or(0, |peer| peer.max_fails);
        limit > 0 && !self.peers.is_single() && tier.lock().get(index).is_some_and(|health| health.fails >= limit)
    }

    fn tier(&self) -> &Tier {
        let [primary, backup] = &self.peers.tiers;
        if self.tier == 1 { backup } else { primary }
    }

    fn pick(&mut self) -> Option<usize> {
        let peers = Arc::clone(&self.peers);
        let tier = peers.tiers.get(self.tier)?;
        let now = clock::now().0.as_secs();
        let mut view = View { tier, health: tier.lock(), tried: &self.tried, now };
        let bound = self.session.as_ref().and_then(|session| view.bound(&session.sticky.server(session.id.as_ref()?)?));
        let index = if peers.is_single() {
            let (peer, health) = (tier.peers.first()?, view.health.get(0)?);
            bound.or_else(|| (!peer.down && has_room(peer, health)).then_some(0))?
        } else {
            let guesses = self.tier == 0 && tier.peers.len() > 1 && self.state.guesses(&peers.method);
            let index = match &peers.method {
                Method::RoundRobin => None,
                Method::LeastConn | Method::LeastTime { .. } if bound.is_some() => bound,
                _ if bound.is_some() => bound.filter(|_| guesses),
                Method::LeastConn => method::least_conn(&mut view),
                Method::LeastTime { by_header, under_way } => {
                    let usable = (0..tier.peers.len()).filter(|_| *under_way);
                    usable.for_each(|index| view.look(index, millis()));
                    method::least_time(&mut view, *by_header)
                }
                method if guesses => self.state.pick(method, &peers.ring, &mut view),
                _ => None,
            };
            let index = index.or_else(|| match bound {
                Some(bound) => view.smooth_to(bound),
                None => view.smooth(|_, _| true),
            })?;
            let health = view.health.get_mut(index)?;
            if now.saturating_sub(health.checked) > tier.peers.get(index)?.fail_timeout {
                health.checked = now;
            }
            index
        };
        let health = view.health.get_mut(index)?;
        health.conns += 1;
        if matches!(peers.method, Method::LeastTime { under_way: true, .. }) {
            let now = millis();
            health.timing.begin(now);
            self.begun = Some(now);
        }
        drop(view);
        *self.tried.get_mut(index)? = true;
        Some(index)
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        self.release(false);
    }
}

/// Milliseconds since 1970.
fn millis() -> u64 {
    in_millis(clock::now().0)
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn has_room(peer: &Peer, health: &Health) -> bool {
    peer.max_conns == 0 || health.conns < peer.max_conns
}

/// The servers of a tier as one request sees them.
pub struct View<'a> {
    /// The tier.
    pub tier: &'a Tier,
    health: Board<'a>,
    tried: &'a [bool],
    /// In seconds since 1970.
    pub now: u64,
}

impl View<'_> {
    /// Whether a server may be taken.
    pub fn is_usable(&self, index: usize) -> bool {
        self.tier.peers.get(index).is_some_and(|peer| !peer.down) && self.is_well(index)
    }

    /// The server of this name, if it may be taken by those who are bound to it.
    fn bound(&self, sid: &[u8]) -> Option<usize> {
        let index = self.tier.peers.iter().position(|peer| peer.sid == sid)?;
        let open = self.tier.peers.get(index).is_some_and(|peer| !peer.down || peer.drain);
        (open && self.is_well(index)).then_some(index)
    }

    /// Whether a server was not tried, did not fail lately and has room.
    fn is_well(&self, index: usize) -> bool {
        let (Some(peer), Some(health)) = (self.tier.peers.get(index), self.health.get(index)) else { return false };
        let failed = peer.max_fails > 0
            && health.fails >= peer.max_fails
            && self.now.saturating_sub(health.checked) <= peer.fail_timeout;
        self.tried.get(index) != Some(&true) && !failed && has_room(peer, health)
    }

    /// All servers with their health.
    pub fn servers(&self) -> impl Iterator<Item = (&Peer, &Health)> {
        self.tier.peers.iter().enumerate().filter_map(|(index, peer)| Some((peer, self.health.get(index)?)))
    }

    /// Whether one server has more connections for its weight than another.
    pub fn is_busier(&self, index: usize, other: usize) -> bool {
        let load = |one: usize, other: usize| {
            let conns = self.health.get(one).map_or(0, |health| health.conns);
            conns * self.tier.peers.get(other).map_or(0, |peer| peer.weight.unsigned_abs())
        };
        load(index, other) > load(other, index)
    }

    /// Looks at the requests a server has under way.
    fn look(&mut self, index: usize, now: u64) {
        if self.is_usable(index)
            && let Some(health) = self.health.get_mut(index)
        {
            health.timing.look(now);
        }
    }

    /// A turn of all servers that goes to this one, unless it has had so many that the others would wait too long for theirs.
    fn smooth_to(&mut self, index: usize) -> Option<usize> {
        let all: i64 = self.tier.peers.iter().map(|peer| peer.weight).sum();
        let own = self.tier.peers.get(index)?.weight;
        if self.health.get(index)?.current_weight > own - all {
            let (_, total) = self.turn(|_, _| true);
            self.health.get_mut(index)?.current_weight -= total;
        }
        Some(index)
    }

    /// The next of those servers that `among` admits, which is told besides who is next so far.
    pub fn smooth(&mut self, among: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let (best, total) = self.turn(among);
        let best = best?;
        self.health.get_mut(best)?.current_weight -= total;
        Some(best)
    }

    /// Raises the weights of those servers; the one whose turn it is, and the sum they were raised by.
    fn turn(&mut self, among: impl Fn(usize, usize) -> bool) -> (Option<usize>, i64) {
        let (mut best, mut total) = (None::<(usize, i64)>, 0);
        for index in 0..self.tier.peers.len() {
            if !among(index, best.map_or(index, |(best, _)| best)) || !self.is_usable(index) {
                continue;
            }
            let (Some(peer), Some(health)) = (self.tier.peers.get(index), self.health.get_mut(index)) else { continue };
            health.current_weight += health.effective_weight;
            total += health.effective_weight;
            if health.effective_weight < peer.weight {
                health.effective_weight += 1;
            }
            if best.is_none_or(|(_, weight)| health.current_weight > weight) {
                best = Some((index, health.current_weight));
            }
        }
        (best.map(|(index, _)| index), total)
    }
}

fn fail(peer: &Peer, health: &mut Health) {
    let now = clock::now().0.as_secs();
    health.fails += 1;
    health.accessed = now;
    health.checked = now;
    if let Some(share) = peer.weight.checked_div(i64::try_from(peer.max_fails).unwrap_or(i64::MAX)) {
        health.effective_weight = (health.effective_weight - share).max(0);
    }
}

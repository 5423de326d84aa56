//! The life of an exchange: pick a server, connect, send, read the head, and try another where that may help.
//!
//! It runs inside the request's own task. What a protocol sends and how it reads a head is its [`Protocol`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::attempt::{self, Progress};
use super::balance::Choice;
use super::conf::NextUpstream;
use super::pool::{self, Connection};
use super::protocol::{Length, Outgoing, Protocol, ReplyHead};
use super::{Conf, Peers, Shared, report};
use crate::http::flow::Side;
use crate::http::request::{Attempt, Attempts};
use crate::http::{Cause, Fault, Method, Request, Stage};
use crate::net::Level;
use crate::net::addr::Endpoint;
use crate::net::clock;

/// A reply whose body has not been read.
pub struct Reply {
    /// Its head.
    pub head: ReplyHead,
    /// What came behind the head.
    pub rest: BytesMut,
    /// The connection it comes on.
    pub connection: Connection,
    /// The server.
    pub choice: Choice,
    /// The tries so far; the last one is this reply's.
    pub attempts: Rc<Attempts>,
    /// When that one began.
    pub started: Instant,
}

/// Runs an exchange; the error is the status to answer with.
pub async fn run<P: Protocol>(
    protocol: &mut P,
    shared: &Shared,
    peers: &Arc<Peers>,
    outgoing: &Outgoing,
    request: &mut Request,
) -> Result<Reply, u16> {
    let conf = &shared.conf;
    let begun = clock::instant();
    let mut choice = Choice::new(peers.now(), conf, request);
    choice.secure = request.upstream.secure.take();
    if conf.next_upstream_tries > 0 {
        choice.tries = choice.tries.min(conf.next_upstream_tries);
    }
    loop {
        if !choice.advance() {
            return Err(no_live::<P>(request, peers, outgoing));
        }
        choice.bind(request);
        let mut idle = None;
        let tried = attempt::run(protocol, shared, &mut choice, outgoing, request).await;
        let (failure, status) = match tried {
            Ok(tried) if late(conf, begun) || !again(conf, &choice, outgoing, request, tried.head.status) => {
                choice.heard(clock::since(tried.started));
                return Ok(tried.with(choice, request));
            }
            Ok(tried) => {
                if matches!(tried.head.status, 403 | 404) && tried.is_whole(request) {
                    idle = Some(tried.connection);
                }
                if let Some(attempt) = request.upstream.attempts.borrow_mut().last_mut() {
                    attempt.response_time = Some(clock::since(tried.started));
                }
                (None, tried.head.status)
            }
            Err(failed) => {
                let status = failed.status();
                (Some(failed), status)
            }
        };
        let key = choice.key();
        if failure.as_ref().is_some_and(|failed| failed.reused && matches!(failed.kind, NextUpstream::ERROR)) {
            // A connection that died while it was idle says nothing about its server.
            choice.tries += 1;
        }
        // A client that leaves says nothing about the server.
        let failed = failure.as_ref().map_or(!matches!(status, 403 | 404), |failed| !failed.is_hopeless());
        let place = choice.pool_key();
        let busy = choice.release(failed);
        if let Some(connection) = idle {
            pool::put(place, choice.peers(), connection, busy);
        }
        if failed && choice.is_disabled(key) {
            request.log(
                Level::Warn,
                &format!("upstream server temporarily disabled while {}", report::stage_of(&failure)),
            );
        }
        let Some(failed) = failure else { continue };
        if let Some((fault, at)) = &failed.silent {
            report::log(request, fault, at);
        }
        let mut kind = failed.kind;
        if failed.sent && matches!(request.method, Method::Post | Method::Lock | Method::Patch) {
            kind |= NextUpstream::NON_IDEMPOTENT;
        }
        let streamed = failed.sent && outgoing.streams();
        let over = choice.tries == 0 || late(conf, begun);
        if failed.is_hopeless() || over || !conf.next_upstream.has_all(kind) || streamed {
            return Err(status);
        }
    }
}

/// Why a try failed.
pub struct Failed {
    /// The bit of `proxy_next_upstream` it counts as.
    kind: u32,
    /// Whether any of the request had been sent.
    sent: bool,
    /// Whether the connection had been used before.
    reused: bool,
    /// What was being done, in nginx's words.
    pub stage: &'static str,
    /// The status where another server cannot help: the client left or sends what it must not, or no connection is to spare.
    hopeless: Option<u16>,
    /// A time limit that is still to be told to the log.
    pub silent: Option<(Fault, Endpoint)>,
}

impl Failed {
    /// A failure before anything was sent.
    pub fn new(kind: u32, stage: Stage) -> Self {
        Self { kind, sent: false, reused: false, stage: report::stage(stage), hopeless: None, silent: None }
    }

    /// The failure that a fault is.
    pub fn of(fault: &Fault, progress: &Progress) -> Self {
        let kind = match fault.cause {
            Cause::TimedOut => NextUpstream::TIMEOUT,
            _ if matches!((fault.stage, &fault.cause), (Stage::Handshake, Cause::Protocol(_))) => NextUpstream::ERROR,
            Cause::Protocol(_) | Cause::TooLarge => NextUpstream::INVALID_HEADER,
            Cause::Io(_) | Cause::Closed | Cause::Short(_) => NextUpstream::ERROR,
        };
        let reused = progress.reused && progress.received == 0;
        let hopeless = match fault.side {
            Side::Client => Some(match fault.cause {
                Cause::Protocol(_) => 400,
                Cause::TooLarge => 413,
                Cause::TimedOut => 408,
                _ => 499,
            }),
            Side::Here => Some(500),
            Side::Upstream => None,
        };
        Self { sent: progress.sent, reused, hopeless, ..Self::new(kind, fault.stage) }
    }

    /// Whether no other server can help.
    pub fn is_hopeless(&self) -> bool {
        self.hopeless.is_some()
    }

    /// Whether it was a time limit of the server's.
    pub fn is_timeout(&self) -> bool {
        self.kind == NextUpstream::TIMEOUT && !self.is_hopeless()
    }

    /// The status to answer with.
    pub fn status(&self) -> u16 {
        self.hopeless.unwrap_or(if self.kind == NextUpstream::TIMEOUT { 504 } else { 502 })
    }
}

/// A reply before its server is settled.
pub struct Tried {
    /// Its head.
    pub head: ReplyHead,
    /// What came behind the head.
    pub rest: BytesMut,
    /// The connection it comes on.
    pub connection: Connection,
    /// When the try began.
    pub started: Instant,
}

impl Tried {
    /// Whether nothing follows the head, and the connection can carry another request.
    fn is_whole(&self, request: &Request) -> bool {
        let ends = match self.head.length {
            Length::Known(0) => true,
            Length::Coded(_) => false,
            _ => request.method == Method::Head,
        };
        ends && self.head.keep_alive && self.rest.is_empty()
    }

    fn with(self, choice: Choice, request: &Request) -> Reply {
        let attempts = Rc::clone(&request.upstream.attempts);
        let Self { head, rest, connection, started } = self;
        Reply { head, rest, connection, choice, attempts, started }
    }
}

/// Whether a reply of this status sends the request to another server.
fn again(conf: &Conf, choice: &Choice, outgoing: &Outgoing, request: &Request, status: u16) -> bool {
    let repeatable = !matches!(request.method, Method::Post | Method::Lock | Method::Patch)
        || conf.next_upstream.has(NextUpstream::NON_IDEMPOTENT);
    conf.next_upstream.has_status(status) && repeatable && choice.tries > 1 && !outgoing.streams()
}

/// Whether the time for trying servers is over.
fn late(conf: &Conf, begun: Instant) -> bool {
    !conf.next_upstream_timeout.is_zero() && clock::since(begun) >= conf.next_upstream_timeout
}

fn no_live<P: Protocol>(request: &mut Request, peers: &Peers, outgoing: &Outgoing) -> u16 {
    let response_time = Some(Duration::ZERO);
    let attempt = Attempt { addr: peers.name.clone(), status: 502, response_time, ..Attempt::default() };
    request.upstream.attempts.borrow_mut().push(attempt);
    request.upstream.url = Some(outgoing.url::<P>(P::SCHEME));
    request.log(Level::Error, "no live upstreams while connecting to upstream");
    502
}

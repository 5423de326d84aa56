//! One client connection: requests one after the other, each answered before the next is looked at (RFC 9112 §9).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::head::{self, Head, Refusal};
use super::runner::{self, Idle, Runner};
use super::{Worker, answer, build, http2, phases, preface, secure};
use crate::http::core::Lingering;
use crate::http::h1::parse::BadLine;
use crate::http::h1::write::{self, Writer};
use crate::http::request::Version;
use crate::http::{self, Body, Client, Fault, Request, Response};
use crate::net::Level;
use crate::net::addr::Endpoint;
use crate::net::clock;
use crate::net::timer::within;
use crate::table::{Listen, Location, Server, Table};

/// Serves a connection until it ends.
pub async fn run(worker: Rc<Worker>, client: Client, at: Endpoint) {
    let client = Rc::new(client);
    worker.opened(&client);
    let guard = Closed(Rc::clone(&worker));
    let mut place = Place::default();
    let lingering = serve(&worker, &client, &at, &mut place).await;
    // Who sees the connection close finds its requests in the log.
    crate::modules::flush_logs();
    if let Some(lingering) = lingering {
        linger(&client, lingering).await;
    }
    drop(guard);
}

/// Counts the connection down however it ends.
struct Closed(Rc<Worker>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// The listening address, looked up once a table.
#[derive(Default)]
struct Place {
    table: Option<Arc<Table>>,
    listen: Option<Arc<Listen>>,
}

impl Place {
    fn listen(&mut self, worker: &Worker, client: &Client, at: &Endpoint) -> Option<Arc<Listen>> {
        let table = worker.table();
        if !self.table.as_ref().is_some_and(|old| Arc::ptr_eq(old, &table)) {
            let local = client.local.map(Endpoint::Inet);
            // A server may listen on one address of a wildcard socket; that address goes first.
            let found = local.and_then(|local| table.listens.iter().find(|listen| listen.addr == local));
            let found = found.or_else(|| table.listens.iter().find(|listen| listen.addr == *at));
            self.listen = found.or(self.listen.as_ref()).cloned();
            self.table = Some(table);
        }
        self.listen.clone()
    }
}

/// Bodies up to this many bytes are copied behind their head.
const COPIED: usize = 2048;

/// How long a connection lingers: in all, and without a byte.
pub type Linger = (Duration, Duration);

async fn serve(worker: &Rc<Worker>, client: &Rc<Client>, at: &Endpoint, place: &mut Place) -> Option<Linger> {
    let listen = place.listen(worker, client, at)?;
    if listen.proxy_protocol {
        preface::read(client, &listen).await?;
    }
    if listen.ssl {
        Box::pin(secure::handshake(client, &listen)).await?;
        if client.stream.alpn().is_some_and(|protocol| protocol == b"h2") {
            return Box::pin(http2::serve(worker, client, listen)).await;
        }
    } else if (listen.http2 || listen.default.root.loc.v2.enabled) && preface::is_http2(client, &listen).await? {
        return Box::pin(http2::serve(worker, client, listen)).await;
    }
    // A handshake has switched it on already.
    let mut turn = Turn { first: true, pipelined: false, nodelay: client.stream.tls().is_some() };
    loop {
        let listen = place.listen(worker, client, at)?;
        let started = clock::instant();
        let timeout = listen.default.root.loc.core.server.client_header_timeout;
        let read = head::read(client, &listen, started + timeout).await;
        client.requests.set(client.requests.get() + 1);
        client.stage.write();
        let built = match read {
            Ok(head) => build::request(client, &listen, &head, started),
            Err((refusal, head)) => refuse(client, &listen, &head, refusal, started)?,
        };
        let job = Job { worker: Rc::clone(worker), built, turn };
        let new = || Runner::new(|job: Job| job.run());
        let idle = match runner::run(&IDLE, new, job).await {
            After::Next(idle, nodelay) => {
                turn.nodelay = nodelay;
                idle
            }
            After::End(linger) => return linger,
        };
        turn.first = false;
        turn.pipelined = !client.input.borrow().is_empty();
        if !turn.pipelined && !wait(worker, client, idle).await {
            return None;
        }
    }
}

thread_local! {
    static IDLE: Idle<Job, After> = RefCell::default();
}

/// Where a connection stands when a request begins.
#[derive(Clone, Copy)]
struct Turn {
    /// Whether it is the first.
    first: bool,
    /// Whether it came before the one before it was answered.
    pipelined: bool,
    /// Whether Nagle's algorithm is off.
    nodelay: bool,
}

/// What comes after a request.
enum After {
    /// The next one, within this time; whether Nagle's algorithm is off.
    Next(Duration, bool),
    /// The connection's end.
    End(Option<Linger>),
}

/// A request to be served.
struct Job {
    worker: Rc<Worker>,
    built: build::Built,
    turn: Turn,
}

impl Job {
    async fn run(self) -> After {
        let Self { worker, built: (mut request, server, refused), turn } = self;
        let client = Rc::clone(&request.client);
        request.pipelined = turn.pipelined;
        let (response, location) = phases::serve(&mut request, &server, refused).await;
        let core = &location.loc.core;
        // One write leaves at once anyhow; what takes several must not wait for the client's acknowledgements.
        let several = !turn.first || !matches!(response.body, Body::Empty | Body::Full(_));
        let nodelay = turn.nodelay || (several && core.tcp_nodelay);
        if nodelay && !turn.nodelay {
            client.stream.set_nodelay(true);
        }
        // Who is told that this connection ends asks for nothing more on it.
        request.keep_alive &= !worker.is_stopping();
        let kept = respond(&mut request, response, &location, &server).await;
        if kept && !worker.is_stopping() {
            return After::Next(core.keepalive_timeout, nodelay);
        }
        let is_upgraded = request.sent.head.borrow().status == 101;
        let unread = !request.body.is_done() || !client.input.borrow().is_empty();
        let unread = unread || (is_upgraded && !client.stream.is_quiet());
        let lingers = match core.lingering_close {
            Lingering::Always => true,
            Lingering::On => {
                let body = request.content_length.is_some_and(|n| n > 0) || request.body.is_chunked();
                body || unread || refused == Some(494)
            }
            Lingering::Off => false,
        };
        After::End((lingers && request.sent.complete).then_some((core.lingering_time, core.lingering_timeout)))
    }
}

/// Waits for the next request on a kept connection; false when it ends first.
async fn wait(worker: &Worker, client: &Client, limit: Duration) -> bool {
    client.stage.wait();
    // An idle connection holds no buffer.
    *client.input.borrow_mut() = Default::default();
    let ready = std::future::poll_fn(|cx| match client.stream.poll_readable(cx) {
        Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
        Poll::Pending if worker.must_yield() => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    });
    within(limit, ready).await == Some(true)
}

/// Makes a request of what was understood of a refused head, so that it can be answered and logged.
fn refuse(
    client: &Rc<Client>,
    listen: &Arc<Listen>,
    head: &Head,
    refusal: Refusal,
    started: std::time::Instant,
) -> Option<build::Built> {
    let refusal = match refusal {
        Refusal::Gone { log } if head.bytes.is_empty() => return idle(client, listen, log.as_deref()?),
        Refusal::Status(408, log) if head.bytes.is_empty() => return idle(client, listen, &log),
        refusal => refusal,
    };
    let (mut request, server) = build::refused(client, listen, head, started);
    match refusal {
        Refusal::Gone { log } => {
            if let Some(log) = log {
                request.log(Level::Info, &log);
                request.error_status = 400;
                server.root.loc.log(&request);
            }
            None
        }
        Refusal::Line(bad) => {
            if bad == BadLine::Method09 {
                request.version = Version::HTTP_09;
            }
            request.log(Level::Info, &format!("{bad} while reading client request line"));
            Some((request, server, Some(bad.status())))
        }
        Refusal::Status(408, log) => {
            request.log(Level::Info, &log);
            request.error_status = 408;
            server.root.loc.log(&request);
            None
        }
        Refusal::Status(status, log) => {
            request.log(Level::Info, &format!("{log} while reading client request {}", build::reading(&request)));
            request.keep_alive = false;
            Some((request, server, Some(status)))
        }
    }
}

/// Tells the log how a connection ended on which no request had begun.
fn idle(client: &Client, listen: &Listen, what: &str) -> Option<build::Built> {
    let log = &listen.default.root.loc.core.error_log;
    if log.takes(Level::Info) {
        let peer = String::from_utf8_lossy(&client.peer_text);
        let text = match what.ends_with(head::WAITING) {
            true => format!("{what}, client: {peer}, server: {}", listen.addr),
            false => format!("client {peer} {what}"),
        };
        log.write(Level::Info, Some(client.number), &text);
    }
    None
}

/// Writes a response and logs the request; true if the connection can be used again.
async fn respond(request: &mut Request, response: Response, location: &Arc<Location>, server: &Arc<Server>) -> bool {
    let Response { mut head, mut body } = response;
    if head.silent || request.body.lost {
        request.keep_alive = false;
        request.sent.head = http::Head { status: head.status, ..http::Head::default() }.into();
        location.loc.log(request);
        return false;
    }
    let chunked = write::frame(request, &mut head);
    answer::trim(request, &mut head, &mut body);
    settle(request);
    let mut out = Vec::with_capacity(512);
    if request.version > Version::HTTP_09 {
        write::head(request, &mut head, chunked, &mut out);
    }
    let (stream, core) = (Rc::clone(&request.client.stream), Arc::clone(location));
    let core = &core.loc.core;
    request.sent.head_bytes = out.len() as u64;
    request.sent.head = head.into();
    let (mut body, tunnel) = match body {
        Body::Tunnel(tunnel) => (Body::Empty, Some(tunnel)),
        body => (body, None),
    };
    // A small body is cheaper to copy behind the head than to write from a place of its own.
    if let (Body::Full(bytes), false) = (&body, chunked)
        && bytes.len() <= COPIED
    {
        out.extend_from_slice(bytes);
        body = Body::Empty;
    }
    let mut writer = Writer::new(&stream, core.send_timeout, answer::rate(request, core));
    let trailers = || {
        location.loc.trailers(request);
        request.sent.trailers.borrow().clone()
    };
    writer.trailers = Some(&trailers);
    let notes = || answer::tell(request);
    writer.notes = Some(&notes);
    writer.heeds_end = !request.upstream.ignores_abort;
    writer.closes = !request.keep_alive && tunnel.is_none() && core.post_action.is_none();
    let result = match body {
        Body::Empty if !chunked => writer.send_whole(&out).await,
        body => writer.send(out.into(), body, chunked).await,
    };
    request.sent.bytes = writer.sent + request.body.invited;
    let result = match (result, tunnel) {
        (Ok(()), Some(tunnel)) => {
            request.keep_alive = false;
            let pending = std::mem::take(&mut *request.client.input.borrow_mut());
            let (started, counted) = (tunnel.started, tunnel.pending.len() as u64);
            let (passed, result) = super::tunnel::join(&stream, pending, *tunnel, core.send_timeout).await;
            request.sent.bytes += passed.down;
            if let Some(attempt) = request.upstream.attempts.borrow_mut().last_mut() {
                attempt.sent += passed.up;
                attempt.received += passed.down.saturating_sub(counted);
                attempt.response_time = Some(clock::since(started));
            }
            result
        }
        (result, _) => result,
    };
    // A failure of the upstream ends the response as nginx counts it; nonsense for a body does not.
    request.sent.complete = result.as_ref().map_or_else(Fault::ends, |()| true);
    if let Err(fault) = &result {
        answer::report(request, fault, &stream, core.reset_timedout_connection);
    }
    answer::tell(request);
    // A reply that came before all of the request it belongs to ends the connection, whatever its head said.
    let kept = result.is_ok() && request.keep_alive && !request.body.is_under_way();
    let drained = kept && drain(request, core).await;
    answer::log(request, server, location).await;
    drained
}

/// Decides before the head leaves whether a body that nobody read still allows to keep the connection.
fn settle(request: &mut Request) {
    if request.body.is_expected() {
        // The client may send its body or not; either way the connection cannot be told apart any more.
        request.keep_alive = false;
    }
}

/// Reads what is left of a body, so that the next request begins where it should.
async fn drain(request: &mut Request, core: &crate::http::Core) -> bool {
    request.body.is_done() || request.body.discard(core.lingering_time, core.lingering_timeout).await
}

/// Closes our side and waits for the client's, so that what was written is not lost to a reset.
async fn linger(client: &Client, (time, pause): Linger) {
    if client.stream.shutdown().await.is_err() {
        return;
    }
    let end = clock::instant() + time;
    let mut waste = bytes::BytesMut::with_capacity(4096);
    loop {
        waste.clear();
        let step = pause.min(end.saturating_duration_since(clock::instant()));
        match within(step, client.stream.read(&mut waste, 4096)).await {
            Some(Ok(n)) if n > 0 => {}
            _ => return,
        }
    }
}

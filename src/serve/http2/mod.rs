//! An HTTP/2 connection: its streams, its limits and its end (RFC 9113, <https://nginx.org/en/docs/http/ngx_http_v2_module.html>).
//!
//! Frames, header compression and flow control are the `h2` crate's. Every stream is a request like any other.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};

use super::Worker;
use super::connection::Linger;
use crate::http::Client;
use crate::http::core::Lingering;
use crate::http::h2::Bell;
use crate::net::io::Io;
use crate::net::timer::{Limit, within};
use crate::net::{Level, clock};
use crate::table::{Listen, Table};

mod head;
mod send;
mod stream;

/// Bytes of one response that wait to be written.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes of a body that may be on their way once one is read. nginx opens the window of that stream; the library has one
/// for all of them.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that all bodies of a connection may have before they are read: what nginx takes for 128 streams.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Streams that a client may give up at least, before it is called a flood.
const PATIENCE: u64 = 100;
/// How long a connection without a limit may last, so that whoever ends it can wake it.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// What the streams of a connection share.
struct Link {
    worker: Rc<Worker>,
    client: Rc<Client>,
    listen: Arc<Listen>,
    /// Streams under way.
    active: Cell<u64>,
    /// Streams that the client gave up.
    abandoned: Cell<u64>,
    /// Wakes the connection when a stream ends, and tells when one reads its body.
    bell: Rc<Bell>,
}

/// A stream as long as it lives.
struct Active(Rc<Link>);

impl Drop for Active {
    fn drop(&mut self) {
        let link = &self.0;
        link.active.set(link.active.get() - 1);
        if link.active.get() == 0 {
            link.client.stage.wait();
        }
        link.bell.wake();
    }
}

/// Serves a connection until it ends.
pub async fn serve(worker: &Rc<Worker>, client: &Rc<Client>, listen: Arc<Listen>) -> Option<Linger> {
    let core = &listen.default.root.loc.core;
    let io = Io::new(Rc::clone(&client.stream), std::mem::take(&mut *client.input.borrow_mut()));
    client.stream.set_nodelay(core.tcp_nodelay);
    let table = worker.table();
    let connection = within(core.server.client_header_timeout, builder(&listen).handshake(io)).await?.ok()?;
    let linger = match core.lingering_close {
        Lingering::Off => None,
        _ => Some((core.lingering_time, core.lingering_timeout)),
    };
    let farewell = core.send_timeout;
    let link = Rc::new(Link {
        worker: Rc::clone(worker),
        client: Rc::clone(client),
        listen: Arc::clone(&listen),
        active: Cell::new(0),
        abandoned: Cell::new(0),
        bell: Rc::default(),
    });
    let mut run =
        Run { link, table, connection, leaving: false, open: false, idle: Limit::default(), forever: Limit::default() };
    while let Some(event) = run.next().await {
        match event {
            Event::Stream(request, respond) => run.begin(*request, respond),
            Event::Leave => {
                run.leaving = true;
                if run.is_busy() {
                    run.connection.graceful_shutdown();
                }
            }
            Event::Idle => break,
        }
    }
    // What was sent last may need time to leave.
    run.connection.abrupt_shutdown(Reason::NO_ERROR);
    within(farewell, std::future::poll_fn(|cx| run.connection.poll_closed(cx))).await?.ok()?;
    linger
}

fn builder(listen: &Listen) -> h2::server::Builder {
    let loc = &listen.default.root.loc;
    let (http2, server) = (&loc.v2, &loc.core.server);
    let large = server.large_client_header_buffers;
    // Each field counts for 32 bytes more (RFC 9113 §6.5.2).
    let fields = 32 * server.max_headers.min(1000);
    let heads = large.number.saturating_mul(large.size).saturating_add(fields);
    // nginx takes frames of any size in small pieces; here a frame is held whole.
    let frame = heads.max(64 << 10).clamp(16 << 10, 1 << 20);
    let window = http2.body_preread_size;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW.max(window))
        .max_frame_size(u32::try_from(frame).unwrap_or(1 << 20))
        .max_concurrent_streams(http2.max_concurrent_streams)
        .max_header_list_size(u32::try_from(heads).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

enum Event {
    /// A request.
    Stream(Box<http::Request<RecvStream>>, SendResponse<Bytes>),
    /// The configuration changed, or the worker stops.
    Leave,
    /// Nothing is under way, and nothing more is to be expected.
    Idle,
}

/// A connection as it runs.
struct Run {
    link: Rc<Link>,
    /// The table it was opened under.
    table: Arc<Table>,
    connection: Connection<Io, Bytes>,
    /// Whether it takes no more streams.
    leaving: bool,
    /// Whether windows are wide: a body is or was read.
    open: bool,
    idle: Limit,
    forever: Limit,
}

impl Run {
    /// What happens next; nothing at the end.
    async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                return Poll::Ready(Some(Event::Stream(Box::new(request), respond)));
            }
            Poll::Ready(_) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        let worker = &self.link.worker;
        if !self.leaving && (worker.is_stopping() || !Arc::ptr_eq(&worker.table(), &self.table)) {
            return Poll::Ready(Some(Event::Leave));
        }
        if self.leaving && !self.is_busy() {
            return Poll::Ready(Some(Event::Idle));
        }
        if self.link.active.get() == 0 {
            let core = &self.link.listen.default.root.loc.core;
            let fresh = self.link.client.requests.get() == 0;
            let limit = if fresh { core.server.client_header_timeout } else { core.keepalive_timeout };
            if self.idle.poll_over(cx, limit).is_ready() {
                return Poll::Ready(Some(Event::Idle));
            }
        } else {
            self.idle.clear();
        }
        let _ = self.forever.poll_over(cx, FOREVER);
        if !self.open && self.link.bell.is_rung() {
            // While the client owes an answer to the settings before, these must wait.
            self.open = self.open_window();
        }
        self.link.bell.listen(cx);
        Poll::Pending
    }

    /// Whether a stream is under way or on its way out.
    fn is_busy(&mut self) -> bool {
        self.link.active.get() > 0 || self.connection.has_streams()
    }

    /// Makes windows wide, where they are not.
    fn open_window(&mut self) -> bool {
        let narrow = self.link.listen.default.root.loc.v2.body_preread_size < STREAM_WINDOW;
        !narrow || self.connection.set_initial_window_size(STREAM_WINDOW).is_ok()
    }

    /// Starts the task of a stream.
    fn begin(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (client, listen) = (&self.link.client, &self.link.listen);
        if self.leaving {
            // It was sent before the client knew; another connection will take it.
            respond.send_reset(Reason::REFUSED_STREAM);
            return self.connection.graceful_shutdown();
        }
        let most = u64::from(listen.default.root.loc.v2.max_concurrent_streams);
        if self.link.active.get() >= most {
            // A stream that was reset still has its work to end.
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let (abandoned, all) = (self.link.abandoned.get(), client.requests.get());
        if abandoned > most.max(PATIENCE) && 2 * abandoned > all {
            // Streams that are begun to be reset cost the server more than the client (CVE-2023-44487).
            let text = format!("http2 flood detected, client: {}", String::from_utf8_lossy(&client.peer_text));
            listen.default.root.loc.core.error_log.write(Level::Info, Some(client.number), &text);
            return self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        if head::is_too_large(&request, &listen.default.root.loc.core.server) {
            return self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        client.requests.set(client.requests.get() + 1);
        client.stage.write();
        let core = &listen.default.root.loc.core;
        self.leaving = core.keepalive_timeout.is_zero()
            || client.requests.get() >= core.keepalive_requests
            || clock::since(client.started) > core.keepalive_time;
        self.link.active.set(self.link.active.get() + 1);
        let active = Active(Rc::clone(&self.link));
        tokio::task::spawn_local(async move {
            if !stream::run(&active.0, request, respond).await {
                active.0.abandoned.set(active.0.abandoned.get() + 1);
            }
        });
    }
}

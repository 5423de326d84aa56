//! Taking connections from a listening socket.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, UnixListener};

use super::{Worker, connection};
use crate::http::Client;
use crate::net::addr::{self, Endpoint};
use crate::net::clock;
use crate::net::counts::{self, Open, Stage};
use crate::net::{Level, Stream};

/// How long accepting pauses when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(500);

/// A listening socket on one thread.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Takes connections until the task is aborted.
pub async fn run(worker: Rc<Worker>, listener: Rc<Listener>, at: Endpoint) {
    let local = Local::new(&at);
    loop {
        match std::future::poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok(accepted) => welcome(&worker, accepted, &local),
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                let message = format!("accept4() failed ({})", crate::conf::load::os_error(&error));
                worker.table().error_log.write(Level::Crit, None, &message);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Takes the connections that wait to be accepted, before the listener goes.
pub fn drain(worker: &Rc<Worker>, listener: &Listener, at: &Endpoint) {
    let (mut cx, local) = (Context::from_waker(Waker::noop()), Local::new(at));
    while let Poll::Ready(Ok(accepted)) = listener.poll_accept(&mut cx) {
        welcome(worker, accepted, &local);
    }
}

/// Our end of the connections of a listener.
struct Local<'a> {
    at: &'a Endpoint,
    /// As it is printed.
    text: Bytes,
    /// The address, where it is that of all of them.
    addr: Option<SocketAddr>,
}

impl<'a> Local<'a> {
    fn new(at: &'a Endpoint) -> Self {
        let addr = match at {
            Endpoint::Inet(addr) if !addr.ip().is_unspecified() => Some(*addr),
            _ => None,
        };
        Self { at, text: at.to_string().into(), addr }
    }
}

impl Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match self {
            Listener::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, peer)| (Stream::from(stream), Some(peer)))
            }
            Listener::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| (Stream::from(stream), None)),
        }
    }
}

fn welcome(worker: &Rc<Worker>, (stream, peer): (Stream, Option<SocketAddr>), local: &Local<'_>) {
    let open = match Open::new() {
        Ok(open) => open,
        Err(limit) => {
            worker.make_room();
            return worker.table().error_log.write(Level::Alert, None, &counts::not_enough(limit));
        }
    };
    let client = client((stream, open), peer, local);
    // What a task is made of is moved several times before it runs.
    tokio::task::spawn_local(Box::pin(connection::run(Rc::clone(worker), client, local.at.clone())));
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::WouldBlock)
}

fn client((stream, open): (Stream, Open), peer: Option<SocketAddr>, local: &Local<'_>) -> Client {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let peer_text = peer.map_or(Bytes::from_static(b"unix:"), |peer| addr::text(peer.ip()).into());
    let addr = local.addr.or_else(|| stream.local_addr());
    Client {
        stream: Rc::new(stream),
        input: Default::default(),
        peer,
        peer_text,
        local: addr,
        local_text: local.text.clone(),
        proxied: Default::default(),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        requests: std::cell::Cell::new(0),
        started: clock::instant(),
        stage: Stage::accepted(),
        h2: None,
        open: Some(open),
    }
}

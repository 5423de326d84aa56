//! Taking connections from a listening socket.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, UnixListener};

use super::{Worker, connection};
use crate::http::Client;
use crate::net::addr::Endpoint;
use crate::net::clock;
use crate::net::counts::Stage;
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
pub async fn run(worker: Rc<Worker>, listener: Listener, at: Endpoint) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                let local = match &at {
                    Endpoint::Inet(addr) if !addr.ip().is_unspecified() => Some(*addr),
                    _ => stream.local_addr().ok(),
                };
                (Stream::from(stream), Some(peer), local)
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| (Stream::from(stream), None, None)),
        };
        match accepted {
            Ok((stream, peer, local)) => {
                let client = client(stream, peer, local, &at);
                tokio::task::spawn_local(connection::run(Rc::clone(&worker), client, at.clone()));
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                let message = format!("accept4() failed ({})", crate::conf::load::os_error(&error));
                worker.table().error_log.write(Level::Crit, None, &message);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_transient(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::WouldBlock)
}

fn client(stream: Stream, peer: Option<SocketAddr>, local: Option<SocketAddr>, at: &Endpoint) -> Client {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let peer_text = peer.map_or(Bytes::from_static(b"unix:"), |peer| peer.ip().to_string().into());
    Client {
        stream: Rc::new(stream),
        input: Default::default(),
        peer,
        peer_text,
        local,
        local_text: at.to_string().into(),
        proxied: Default::default(),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        requests: std::cell::Cell::new(0),
        started: clock::instant(),
        stage: Stage::accepted(),
        h2: None,
    }
}

//! Two streams joined after `101 Switching Protocols`: WebSockets and other upgrades (RFC 9110 §7.8).
//!
//! <https://nginx.org/en/docs/http/websocket.html>

use std::cell::Cell;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::conf::load::os_error;
use crate::http::body::Tunnel;
use crate::http::flow::{Cause, Fault, Side, Stage};
use crate::net::stream::make_room;
use crate::net::timer::within;
use crate::net::{Stream, clock};

const PIECE: usize = 16 << 10;

/// Passes bytes both ways until one side ends, takes nothing for its time limit, or neither speaks for the upstream's; the
/// client's limit is `send_timeout`.
pub async fn join(
    client: &Stream,
    pending: BytesMut,
    tunnel: Tunnel,
    send_timeout: Duration,
) -> (Passed, Result<(), Fault>) {
    let Tunnel { stream: upstream, pending: early, idle, send_timeout: upstream_timeout, held, .. } = tunnel;
    let front = End { stream: client, side: Side::Client, limit: send_timeout };
    let back = End { stream: &upstream, side: Side::Upstream, limit: upstream_timeout };
    let state = State::new();
    let ended = tokio::select! {
        ended = pass(&back, &front, early, &state) => ended,
        ended = pass(&front, &back, pending.freeze(), &state) => ended,
        () = state.silent(idle) => Err(back.fault(Cause::TimedOut)),
    };
    drop(held);
    (Passed { down: state.down.get(), up: state.up.get() }, ended)
}

/// How much went through.
pub struct Passed {
    /// Bytes the client got.
    pub down: u64,
    /// Bytes the upstream got.
    pub up: u64,
}

/// One side.
struct End<'a> {
    stream: &'a Stream,
    side: Side,
    /// How long it may take nothing.
    limit: Duration,
}

impl End<'_> {
    fn fault(&self, cause: Cause) -> Fault {
        Fault { side: self.side, stage: Stage::Upgraded, cause }
    }

    async fn write(&self, mut bytes: &[u8], state: &State) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let write = std::future::poll_fn(|cx| self.stream.poll_write(cx, &[IoSlice::new(bytes)]));
            match within(self.limit, write).await {
                Some(Ok(n)) => {
                    let passed = if self.side == Side::Client { &state.down } else { &state.up };
                    passed.set(passed.get() + n as u64);
                    bytes = bytes.get(n..).unwrap_or_default();
                }
                Some(Err(error)) => {
                    return Err(self.fault(Cause::Protocol(format!("send() failed ({})", os_error(&error)))));
                }
                None => return Err(self.fault(Cause::TimedOut)),
            }
            state.spoken.set(clock::instant());
        }
        Ok(())
    }
}

/// What both directions tell.
struct State {
    /// When something passed last.
    spoken: Cell<Instant>,
    /// Whether the upstream is being listened to, rather than waiting for the client to take what it said.
    listens: Cell<bool>,
    down: Cell<u64>,
    up: Cell<u64>,
}

impl State {
    fn new() -> Self {
        let (down, up) = (Cell::new(0), Cell::new(0));
        Self { spoken: Cell::new(clock::instant()), listens: Cell::new(false), down, up }
    }

    /// Ends when nothing passed for `limit`.
    async fn silent(&self, limit: Duration) {
        let mut wait = limit;
        while !wait.is_zero() {
            within(wait, std::future::pending::<()>()).await;
            let left = limit.saturating_sub(clock::since(self.spoken.get()));
            wait = if self.listens.get() { left } else { limit };
        }
    }
}

async fn pass(from: &End<'_>, to: &End<'_>, first: Bytes, state: &State) -> Result<(), Fault> {
    let is_down = to.side == Side::Client;
    to.write(&first, state).await?;
    let mut buf = BytesMut::new();
    loop {
        state.listens.set(is_down || state.listens.get());
        // A side that is silent holds no buffer.
        let failed = |error| from.fault(Cause::Io(error));
        from.stream.readable().await.map_err(failed)?;
        make_room(&mut buf, PIECE);
        if from.stream.read(&mut buf, PIECE).await.map_err(failed)? == 0 {
            return Ok(());
        }
        state.listens.set(state.listens.get() && !is_down);
        state.spoken.set(clock::instant());
        to.write(&buf, state).await?;
        buf = BytesMut::new();
    }
}

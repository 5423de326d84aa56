//! Two streams joined after `101 Switching Protocols`: WebSockets and other upgrades (RFC 9110 §7.8).

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::http::body::Tunnel;
use crate::http::flow::{Cause, Fault, Stage};
use crate::net::Stream;
use crate::net::stream::make_room;
use crate::net::timer::within;

const PIECE: usize = 16 << 10;

/// Passes bytes both ways until one side ends or both are silent; returns the bytes the client got.
pub async fn join(client: &Stream, pending: BytesMut, tunnel: Tunnel) -> (u64, Result<(), Fault>) {
    let mut passed = tunnel.pending.len() as u64;
    let Tunnel { stream: upstream, pending: early, idle, held } = tunnel;
    let down = pass(&upstream, client, early, idle, &mut passed);
    let mut up_bytes = 0;
    let up = pass(client, &upstream, pending.freeze(), idle, &mut up_bytes);
    let ended = tokio::select! {
        ended = down => ended,
        ended = up => ended,
    };
    drop(held);
    (passed, ended)
}

async fn pass(from: &Stream, to: &Stream, first: Bytes, idle: Duration, passed: &mut u64) -> Result<(), Fault> {
    let io = |error| Fault::client(Stage::Body, Cause::Io(error));
    to.write_all(&first).await.map_err(io)?;
    let mut buf = BytesMut::new();
    loop {
        // A silent side waits for the other's sake as long as that one speaks: the limit is per read.
        from.readable().await.map_err(io)?;
        make_room(&mut buf, PIECE);
        let read = within(idle, from.read(&mut buf, PIECE)).await;
        match read {
            Some(Ok(0)) => return Ok(()),
            Some(Ok(n)) => {
                to.write_all(&buf).await.map_err(io)?;
                *passed += n as u64;
                buf.clear();
            }
            Some(Err(error)) => return Err(io(error)),
            None => return Err(Fault::client(Stage::Body, Cause::TimedOut)),
        }
    }
}

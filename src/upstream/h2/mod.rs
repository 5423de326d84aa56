//! HTTP/2 towards upstream servers (RFC 9113): one stream at a time on a connection, as nginx has it.
//!
//! An exchange runs inside the request's task. What a server sends on an idle connection ends that connection.

use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::attempt::{self, Progress};
use super::pool::Connection;
use super::protocol::{Length, Outgoing, ReplyHead};
use super::{Shared, wire};
use crate::http::h1::Inbound;
use crate::http::request::Version;
use crate::http::{Cause, Fault, Request, Stage};
use crate::net::stream::make_room;
use crate::net::timer::Limit;

mod exchange;
mod fields;
mod frames;
mod head;
mod out;
#[cfg(test)]
mod tests;
mod upload;

use exchange::Exchange;
use fields::Block;
pub use frames::Link;

/// Sends a request and reads the head of its reply, with what came behind it; the client's body may go on while the reply
/// comes.
pub async fn talk(
    shared: &Shared,
    outgoing: &Outgoing,
    request: &mut Request,
    connection: &mut Connection,
    progress: &mut Progress,
) -> Result<(ReplyHead, BytesMut), Fault> {
    let mut exchange = Exchange::new(&shared.conf, outgoing, connection)?;
    let (mut buf, mut hinted) = (BytesMut::new(), 0);
    loop {
        let heard = heard(shared, &mut exchange, request, &mut buf, progress).await;
        progress.bytes = exchange.frames.out.sent;
        let block = heard?;
        if block.status != 103 {
            let bodiless = matches!(block.status, 204 | 304) || outgoing.head.starts_with(b"HEAD ");
            let head = reply(block, exchange, bodiless, request, &mut buf)?;
            return Ok((head, buf));
        }
        hinted += block.size;
        attempt::hints(shared, &block.headers, hinted, request).await?;
    }
}

/// Sends the body and waits for a head.
async fn heard(
    shared: &Shared,
    exchange: &mut Exchange,
    request: &mut Request,
    buf: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Block, Fault> {
    let conf = &shared.conf;
    let least = usize::try_from(conf.buffer_size).unwrap_or(usize::MAX);
    let room = usize::try_from(conf.buffers.total()).unwrap_or(usize::MAX).min(64 << 10).max(least);
    let (stream, mut limit) = (Rc::clone(exchange.stream()), Limit::default());
    let fault = |cause| Fault::upstream(Stage::Head, cause);
    std::future::poll_fn(|cx| {
        loop {
            match exchange.head(buf) {
                Ok(Some(block)) => return Poll::Ready(Ok(block)),
                Ok(None) => {}
                Err(cause) => return Poll::Ready(Err(fault(cause))),
            }
            let sent = exchange.poll(cx, Some(&mut request.body));
            make_room(buf, room);
            match stream.poll_read(cx, buf, room) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(fault(Cause::Closed))),
                Poll::Ready(Ok(n)) => {
                    progress.received += n as u64;
                    limit.clear();
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(fault(Cause::Io(error)))),
                Poll::Pending => {}
            }
            return match sent {
                Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
                // The server has time from when it has all of the request.
                Poll::Ready(Ok(())) => limit.poll_over(cx, conf.read_timeout).map(|()| Err(fault(Cause::TimedOut))),
                Poll::Pending => Poll::Pending,
            };
        }
    })
    .await
}

/// The head of a reply, with the rest of the exchange where it is not over.
fn reply(
    block: Block,
    mut exchange: Exchange,
    bodiless: bool,
    request: &mut Request,
    buf: &mut BytesMut,
) -> Result<ReplyHead, Fault> {
    let Block { status, headers, size } = block;
    let (length, _) =
        wire::lengths(&headers).map_err(|sentence| Fault::upstream(Stage::Head, Cause::Protocol(sentence)))?;
    let ended = exchange.frames.done;
    exchange.frames.length = if bodiless { Some(0) } else { length };
    let content_length = length.or((ended && !bodiless).then_some(0));
    let mut head = ReplyHead {
        status,
        line: Bytes::new(),
        headers,
        content_length,
        length: Length::Known(0),
        keep_alive: false,
        size,
    };
    if ended && (bodiless || length.unwrap_or(0) == 0) {
        // Frames may stand behind the end, about the connection.
        head.keep_alive = exchange.is_over(buf);
        return Ok(head);
    }
    exchange.upload.carry(|| {
        // The body goes on with the reply; whatever of it is left then, the connection cannot be told apart any more.
        request.keep_alive &= request.version == Version::HTTP_20;
        let rest = Inbound::length(Rc::clone(&request.client), 0);
        std::mem::replace(&mut request.body, rest)
    });
    head.keep_alive = true;
    head.length = Length::Coded(Box::new(exchange));
    Ok(head)
}

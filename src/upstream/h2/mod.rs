//! HTTP/2 towards upstream servers (RFC 9113): one stream at a time on a connection, as nginx has it.
//!
//! Frames are the `h2` crate's. A task of its own answers the server's settings and pings, also while the connection is idle.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::HeaderMap;

use super::pool::Connection;
use super::protocol::{Length, Outgoing, ReplyHead};
use super::{Conf, Shared, attempt};
use crate::conf::units;
use crate::http::h1::Inbound;
use crate::http::request::Version;
use crate::http::{Body, Cause, Fault, Headers, Known, Request, Stage};
use crate::net::io::Io;
use crate::net::timer::{Limit, within};

mod body;
mod head;
mod upload;

pub use body::{Frames, body};
use upload::Upload;

/// Bytes of a reply that may wait to be read.
const WINDOW: u32 = 256 << 10;

/// The way to the streams of a connection.
pub struct Link {
    sender: SendRequest<Bytes>,
    ended: Rc<Cell<bool>>,
}

impl Link {
    /// Begins to speak HTTP/2 on a stream.
    async fn open(conf: &Conf, io: Io) -> Result<Self, h2::Error> {
        let heads = u32::try_from(conf.buffer_size.saturating_mul(2)).unwrap_or(u32::MAX).max(16 << 10);
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(heads);
        let (sender, connection) = builder.handshake(io).await?;
        let ended = Rc::new(Cell::new(false));
        let end = Rc::clone(&ended);
        tokio::task::spawn_local(async move {
            // Streams tell their own failures.
            let _ = connection.await;
            end.set(true);
        });
        Ok(Self { sender, ended })
    }

    /// Whether another stream may be begun.
    pub fn is_usable(&self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        !self.ended.get() && matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

/// Sends a request and reads the head of its reply; the client's body may go on while the reply comes.
pub async fn talk(
    shared: &Shared,
    outgoing: &Outgoing,
    request: &mut Request,
    connection: &mut Connection,
) -> Result<ReplyHead, Fault> {
    let conf = &shared.conf;
    let sending = |error: h2::Error| fault(Stage::Send, &error);
    if connection.h2.is_none() {
        let io = Io::new(Rc::clone(&connection.stream), bytes::BytesMut::new());
        connection.stream.set_nodelay(true);
        connection.h2 = Some(Link::open(conf, io).await.map_err(sending)?);
    }
    let Some(link) = &connection.h2 else { return Err(Fault::upstream(Stage::Send, Cause::Closed)) };
    let head = head::request(&outgoing.head).ok_or_else(|| {
        let text = "upstream request cannot be expressed in HTTP/2".to_owned();
        Fault { side: crate::http::flow::Side::Here, stage: Stage::Send, cause: Cause::Protocol(text) }
    })?;
    let mut sender = link.sender.clone();
    let ready = within(conf.send_timeout, std::future::poll_fn(|cx| sender.poll_ready(cx))).await;
    ready.ok_or_else(|| Fault::upstream(Stage::Send, Cause::TimedOut))?.map_err(sending)?;
    let mut upload = Upload::new(outgoing.kept(), outgoing.streams(), conf.send_timeout);
    let (mut response, stream) = sender.send_request(head, upload.is_done()).map_err(sending)?;
    upload.begin(stream);
    let mut hinted = 0;
    loop {
        match heard(conf, &mut response, &mut upload, &mut request.body).await? {
            Heard::Interim(fields) => {
                let fields = headers(&fields);
                hinted += size(&fields);
                attempt::hints(shared, &fields, hinted, request).await?;
            }
            Heard::Final(response) => return reply(conf, response, upload, request),
        }
    }
}

enum Heard {
    /// Early hints.
    Interim(HeaderMap),
    Final(http::Response<h2::RecvStream>),
}

/// Sends the body and waits for the head of the reply, or for hints before it.
async fn heard(
    conf: &Conf,
    response: &mut ResponseFuture,
    upload: &mut Upload,
    inbound: &mut Inbound,
) -> Result<Heard, Fault> {
    let mut limit = Limit::default();
    std::future::poll_fn(|cx| {
        let sent = upload.poll(cx, inbound)?;
        // A stream that failed says so again below.
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            if interim.status() == http::StatusCode::EARLY_HINTS {
                return Poll::Ready(Ok(Heard::Interim(interim.into_parts().0.headers)));
            }
        }
        if let Poll::Ready(response) = std::pin::Pin::new(&mut *response).poll(cx) {
            return Poll::Ready(response.map(Heard::Final).map_err(|error| fault(Stage::Head, &error)));
        }
        // The server has time from when it has all of the request.
        if sent.is_ready() && limit.poll_over(cx, conf.read_timeout).is_ready() {
            return Poll::Ready(Err(Fault::upstream(Stage::Head, Cause::TimedOut)));
        }
        Poll::Pending
    })
    .await
}

/// The head of a reply, with the rest of the exchange where it is not over.
fn reply(
    conf: &Conf,
    response: http::Response<h2::RecvStream>,
    mut upload: Upload,
    request: &mut Request,
) -> Result<ReplyHead, Fault> {
    let (parts, incoming) = response.into_parts();
    let status = parts.status.as_u16();
    let headers = headers(&parts.headers);
    let size = size(&headers);
    if size > conf.buffer_size {
        return Err(Fault::upstream(Stage::Head, Cause::TooLarge));
    }
    let (ended, sent) = (incoming.is_end_stream(), upload.is_done());
    let content_length = match headers.get(Known::ContentLength).map(|value| units::number(value).ok_or(value)) {
        Some(Ok(length)) => Some(length),
        Some(Err(value)) => {
            let text = format!(
                "upstream sent invalid \"Content-Length\" header: \"content-length: {}\"",
                String::from_utf8_lossy(value)
            );
            return Err(Fault::upstream(Stage::Head, Cause::Protocol(text)));
        }
        None => ended.then_some(0),
    };
    let length = if ended {
        Length::Known(0)
    } else {
        if !sent && upload.is_streaming() {
            // The body goes on with the reply; whatever of it is left then, the connection cannot be told apart any more.
            let rest = Inbound::length(Rc::clone(&request.client), 0);
            upload.carry(std::mem::replace(&mut request.body, rest));
            request.keep_alive &= request.version == Version::HTTP_20;
        }
        Length::Framed(Box::new(Frames::new(incoming, upload)))
    };
    Ok(ReplyHead { status, line: Bytes::new(), headers, content_length, length, keep_alive: ended && sent, size })
}

fn size(headers: &Headers) -> u64 {
    headers.iter().map(|field| (field.name.len() + field.value.len()) as u64).sum()
}

fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in map {
        headers.push(name.as_str().as_bytes(), value.as_bytes());
    }
    headers
}

/// The fault that an error of a stream is, in nginx's words.
fn fault(stage: Stage, error: &h2::Error) -> Fault {
    let number = error.reason().map(u32::from).unwrap_or_default();
    let cause = match error.get_io() {
        Some(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Cause::Closed,
        Some(error) => match error.raw_os_error() {
            Some(code) => Cause::Io(std::io::Error::from_raw_os_error(code)),
            None => Cause::Io(std::io::Error::new(error.kind(), error.to_string())),
        },
        None if error.is_remote() && error.is_reset() => {
            Cause::Protocol(format!("upstream rejected request with error {number}"))
        }
        None if error.is_remote() => Cause::Protocol(format!("upstream sent goaway with error {number}")),
        None if error.is_reset() || error.is_go_away() => {
            Cause::Protocol("upstream sent invalid http2 frame".to_owned())
        }
        None => Cause::Closed,
    };
    Fault::upstream(stage, cause)
}

/// A body that was read ahead, as far as it has bytes.
fn is_empty(body: &Body) -> bool {
    body.len() == Some(0)
}

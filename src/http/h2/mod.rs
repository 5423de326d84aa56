//! A request's stream on an HTTP/2 connection (RFC 9113): what its answer goes to, and its body.

pub mod frame;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::flow::{Cause, Fault, Stage};
use super::headers::Field;
use super::request::{Client, Version};
use crate::net::counts::Stage as Counted;

impl Version {
    /// HTTP/2.
    pub const HTTP_20: Self = Self(2000);
}

impl Client {
    /// What a request on a stream of this connection has in its place.
    pub fn on_stream(&self, side: Side) -> Self {
        Self {
            stream: Rc::clone(&self.stream),
            input: RefCell::default(),
            peer: self.peer,
            peer_text: self.peer_text.clone(),
            local: self.local,
            local_text: self.local_text.clone(),
            proxied: self.proxied.clone(),
            number: self.number,
            requests: self.requests.clone(),
            started: self.started,
            stage: Counted::stream(),
            h2: Some(side),
            open: None,
        }
    }
}

/// Where the answer goes.
pub struct Side(RefCell<SendResponse<Bytes>>);

impl Side {
    /// The side of a stream that `respond` answers.
    pub fn new(respond: SendResponse<Bytes>) -> Self {
        Self(RefCell::new(respond))
    }

    /// Ends when the client gives the stream up before its answer has begun.
    pub async fn gone(&self) {
        let _ = std::future::poll_fn(|cx| self.0.borrow_mut().poll_reset(cx)).await;
    }

    /// Begins the answer; with `end` it is all of it.
    pub fn answer(&self, status: u16, fields: HeaderMap, end: bool) -> Result<SendStream<Bytes>, Fault> {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        *response.headers_mut() = fields;
        self.0.borrow_mut().send_response(response, end).map_err(|error| fault(&error))
    }

    /// Sends early hints, if there are any; they may be lost.
    pub fn hint<'a>(&self, fields: impl Iterator<Item = Field<'a>>) {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::EARLY_HINTS;
        fields.for_each(|field| append(response.headers_mut(), field.name, field.value));
        if !response.headers().is_empty() {
            let _ = self.0.borrow_mut().send_informational(response);
        }
    }

    /// Gives the stream up.
    pub fn reset(&self, reason: Reason) {
        self.0.borrow_mut().send_reset(reason);
    }
}

/// Adds a field, unless HTTP/2 has none of its kind.
pub fn append(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    const HOP: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        && !HOP.contains(&name.as_str())
    {
        map.append(name, value);
    }
}

/// The client's failure that an error of a stream is.
pub fn fault(error: &h2::Error) -> Fault {
    let cause = match error.get_io() {
        Some(error) => Cause::Io(std::io::Error::new(error.kind(), error.to_string())),
        None => Cause::Closed,
    };
    Fault::client(Stage::Send, cause)
}

/// Wakes the task of a connection, and tells it what for.
#[derive(Default)]
pub struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// Wakes the task.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Tells that a body is waited for.
    fn ring(&self) {
        if !self.rung.replace(true) {
            self.wake();
        }
    }

    /// Whether a body was ever waited for.
    pub fn is_rung(&self) -> bool {
        self.rung.get()
    }

    /// Is to be heard by this task.
    pub fn listen(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }
}

/// A body on its way in. The client may send as much as its window says before anybody reads.
pub struct Incoming {
    stream: RecvStream,
    bell: Rc<Bell>,
}

impl Incoming {
    /// The body that `stream` carries; `bell` rings when it is waited for.
    pub fn new(stream: RecvStream, bell: Rc<Bell>) -> Self {
        Self { stream, bell }
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The next piece, which makes room for another of its size; nothing at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let polled = self.stream.poll_data(cx);
        if polled.is_pending() {
            self.bell.ring();
        }
        Poll::Ready(match ready!(polled) {
            Some(Ok(bytes)) => {
                // A stream that has ended in the meantime needs no room.
                let _ = self.stream.flow_control().release_capacity(bytes.len());
                Ok(Some(bytes))
            }
            Some(Err(_)) => Err(Fault::client(Stage::Body, Cause::Closed)),
            None => Ok(None),
        })
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

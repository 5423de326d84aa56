//! What a protocol brings to an exchange: how a request is sent, how the head of a reply is read, where its body ends.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::http::attempts::Url;
use crate::http::h1::write::Writer;
use crate::http::headers::Field;
use crate::http::{Body, Cause, Fault, Headers, Request};
use crate::net::Level;

/// A protocol as one request speaks it.
pub trait Protocol {
    /// `http://` or its like, for the error log.
    const SCHEME: &'static str;
    /// Whether the page for 404 is shown in the place of a reply of that status, even if no `error_page` names it.
    const INTERCEPTS_404: bool = false;
    /// Whether a reply that lacks `Date` or `Server` is left without, where they would have passed.
    const KEEPS_DATELESS: bool = false;

    /// Reads a head from the start of `buf` and takes it off; nothing while it is not whole. The error is nginx's sentence.
    fn head(&mut self, buf: &mut BytesMut, request: &Request) -> Result<Option<ReplyHead>, String>;

    /// Whether it is HTTP/2: what is sent is the head of HTTP/1 all the same, and `head` is not asked.
    fn is_http2(&self) -> bool {
        false
    }

    /// Forgets what it knows of the try before.
    fn restart(&mut self) {}

    /// The URI in what is sent, for the error log.
    fn uri(_sent: &[u8]) -> &[u8] {
        &[]
    }

    /// A body that was read ahead as it is sent.
    fn body(&self, body: Body) -> Body {
        body
    }

    /// Queues a piece of a body that is sent while it comes.
    fn piece(&self, bytes: Bytes, _last: bool, to: &mut Writer<'_>) {
        to.push(bytes);
    }

    /// What becomes of a field of the reply on its way to the client; nothing where it stays as it is.
    fn rewrite(&self, _field: Field<'_>, _request: &mut Request) -> Option<Vec<u8>> {
        None
    }
}

/// How the end of a reply's body is found.
pub enum Length {
    /// After so many bytes.
    Known(u64),
    /// By its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// The same, and there is no head: all that comes is the body, as HTTP/0.9 has it.
    Headless,
    /// As a coding of the protocol's own has it.
    Coded(Box<dyn Decode>),
}

/// A coding of bodies.
pub trait Decode {
    /// Takes the next piece off the start of `buf`.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, Cause>;

    /// Whether the body may end with the connection.
    fn may_close(&self) -> bool;

    /// Bytes of the body that were found with the head.
    fn held(&self) -> usize {
        0
    }

    /// Sends what it can of a request that goes on beside its reply; ready once all of it has left.
    fn poll_send(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }
}

/// What the next piece is.
pub enum Decoded {
    /// Bytes of the body.
    Data(Bytes),
    /// The fields behind the body.
    Trailers(Headers),
    /// Something for the error log, which adds what was being done.
    Note(Level, String),
    /// Nothing as long as no more comes.
    More,
    /// The end; whether the connection can carry another request.
    Done(bool),
}

/// The head of a reply.
pub struct ReplyHead {
    /// The status.
    pub status: u16,
    /// Status and reason as they came.
    pub line: Bytes,
    /// The fields.
    pub headers: Headers,
    /// `Content-Length`, if the body has that length.
    pub content_length: Option<u64>,
    /// How its body ends.
    pub length: Length,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// What is sent.
pub struct Outgoing {
    /// The head.
    pub head: Bytes,
    /// The body where it was read ahead; the client's is sent while it comes where there is none.
    pub body: Option<Body>,
}

impl Outgoing {
    /// Whether the client's body is sent while it comes.
    pub fn streams(&self) -> bool {
        self.body.is_none()
    }

    /// What the error log says of it.
    pub fn url<P: Protocol>(&self, scheme: &'static str) -> Url {
        Url { scheme, sent: self.head.clone(), uri: P::uri }
    }

    /// A copy of the body that was read ahead.
    pub fn kept(&self) -> Body {
        match &self.body {
            Some(Body::Full(bytes)) => Body::Full(bytes.clone()),
            Some(Body::File(part)) => Body::File(part.clone()),
            _ => Body::Empty,
        }
    }
}

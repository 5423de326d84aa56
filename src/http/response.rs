//! A response before it is written (RFC 9110 §6).

use bytes::Bytes;

use super::body::Body;
use super::headers::Headers;

/// Status and header fields. Fields that nginx writes itself, in its own order, have places of their own.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Code and reason as the upstream wrote them; nginx's own reason otherwise.
    pub line: Option<Bytes>,
    /// Whether `Server` stands among the fields, since an upstream's passes.
    pub has_server: bool,
    /// The same for `Date`.
    pub has_date: bool,
    /// `Content-Type` without a charset that is ours to add.
    pub content_type: Option<Bytes>,
    /// The charset to add to `Content-Type`.
    pub charset: Option<Bytes>,
    /// `Content-Length` in bytes, where it is known.
    pub content_length: Option<u64>,
    /// `Last-Modified` in seconds since 1970.
    pub last_modified: Option<i64>,
    /// The `Last-Modified` an upstream wrote; it wins over the time.
    pub last_modified_text: Option<Bytes>,
    /// `Location` that is to be made absolute; others stand among the fields.
    pub location: Option<Bytes>,
    /// Whether the request's conditions (`If-Modified-Since` and the like) do not apply to it.
    pub unconditional: bool,
    /// Whether fields follow the body where it is sent in chunks.
    pub trailers: bool,
    /// Whether byte ranges may be served from the body.
    pub allow_ranges: bool,
    /// Whether it is one range at most.
    pub single_range: bool,
    /// Everything else, in order.
    pub headers: Headers,
    /// Whether nothing of it is sent: the connection ends without an answer.
    pub silent: bool,
    /// Set by a filter that refuses the response: the page for this status is sent instead, with what is left of
    /// `headers`.
    pub refused: Option<u16>,
}

/// Head and body.
#[derive(Debug, Default)]
pub struct Response {
    /// The head.
    pub head: Head,
    /// The body.
    pub body: Body,
}

impl Response {
    /// A response with this status and nothing else.
    pub fn new(status: u16) -> Self {
        Self { head: Head { status, ..Head::default() }, body: Body::Empty }
    }

    /// A text with its type and length.
    pub fn text(status: u16, content_type: &Bytes, body: Bytes) -> Self {
        let head = Head {
            status,
            content_type: Some(content_type.clone()),
            content_length: Some(body.len() as u64),
            ..Head::default()
        };
        Self { head, body: Body::Full(body) }
    }
}

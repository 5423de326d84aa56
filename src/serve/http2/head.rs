//! From an HTTP/2 request's fields to a head as HTTP/1 has it (RFC 9113 §8.3), so that both become requests the same way.

use http::header::{COOKIE, HOST};
use http::request::Parts;

use crate::http::core::Server;
use crate::http::h1::parse::{Field, RequestLine, Span};
use crate::serve::head::Head;

/// What a head cannot be read from.
pub struct Bad(pub u16, pub &'static str);

const BAD_METHOD: Bad = Bad(400, "client sent invalid method");

/// Whether the fields are larger than the server's buffers for heads.
pub fn is_too_large<T>(request: &http::Request<T>, server: &Server) -> bool {
    let large = server.large_client_header_buffers;
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let pseudo = [
        (":method", request.method().as_str().len()),
        (":scheme", uri.scheme_str().map_or(0, str::len)),
        (":authority", uri.authority().map_or(0, |authority| authority.as_str().len())),
        (":path", path),
    ];
    let mut total: u64 = pseudo.iter().map(|(name, value)| (name.len() + value) as u64).sum();
    let mut largest = path;
    for (name, value) in request.headers() {
        largest = largest.max(name.as_str().len()).max(value.len());
        total += (name.as_str().len() + value.len()) as u64;
    }
    largest as u64 > large.size || total > large.size.saturating_mul(large.number)
}

/// Writes the fields as a head; what is wrong with them comes along.
pub fn head(parts: &Parts, server: &Server) -> (Head, Option<Bad>) {
    let mut out = Writer { bytes: Vec::with_capacity(512), fields: Vec::with_capacity(parts.headers.len() + 1) };
    let target = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let method = out.span(parts.method.as_str().as_bytes());
    out.span(b" ");
    let target_at = out.span(target.as_bytes());
    out.span(b" ");
    let protocol = out.span(b"HTTP/2.0");
    let line = RequestLine {
        line: method.start..protocol.end,
        method,
        scheme: None,
        host: None,
        target: target_at,
        protocol,
        version: 2000,
        next: 0,
    };
    let upper = |b: &u8| b.is_ascii_uppercase() || matches!(b, b'_' | b'-');
    if !parts.method.as_str().as_bytes().iter().all(upper) {
        return (Head { bytes: out.bytes.into(), line: Some(line), fields: out.fields }, Some(BAD_METHOD));
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let mut bad = (!target.starts_with('/')).then_some(Bad(400, "client sent invalid :path header"));
    if let Some(authority) = authority {
        out.field(b"host", authority.as_bytes());
    }
    for (name, value) in &parts.headers {
        match (name, authority) {
            (&HOST, Some(authority)) if authority.as_bytes() == value.as_bytes() => {}
            (&HOST, Some(_)) => {
                bad = bad.or(Some(Bad(400, "client sent \":authority\" and \"Host\" headers with different values")));
            }
            (&COOKIE, _) => {}
            _ => out.field(name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    let synthetic = usize::from(authority.is_some() && !parts.headers.contains_key(HOST));
    if (out.fields.len() - synthetic) as u64 > server.max_headers {
        bad = bad.or(Some(Bad(494, "client sent too many header lines")));
    }
    // Cookies may come in crumbs (RFC 9113 §8.2.3).
    let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
    match crumbs.as_slice() {
        [] => {}
        [one] => out.field(b"cookie", one),
        crumbs => out.field(b"cookie", &crumbs.join(&b"; "[..])),
    }
    (Head { bytes: out.bytes.into(), line: Some(line), fields: out.fields }, bad)
}

struct Writer {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Writer {
    fn span(&mut self, bytes: &[u8]) -> Span {
        let at = |len| u32::try_from(len).unwrap_or(u32::MAX);
        let start = at(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        start..at(self.bytes.len())
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        let valid = name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let underscore = name.contains(&b'_');
        let (name, value) = (self.span(name), self.span(value));
        self.fields.push(Field { name, value, valid, underscore });
    }
}

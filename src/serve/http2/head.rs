//! From an HTTP/2 request's fields to a head as HTTP/1 has it (RFC 9113 §8.3), so that both become requests the same way.

use std::sync::Arc;

use crate::http::core::Server;
use crate::http::h1::parse::{Field, RequestLine, Span};
use crate::http::host;
use crate::serve::head::Head;
use crate::table::Listen;

/// Why a request is refused: the status, and nginx's sentence for the log.
pub type Bad = (u16, String);

/// Takes the fields of one request, in order.
pub struct Reader<'a> {
    listen: &'a Listen,
    /// Octets that all fields may still have.
    left: u64,
    bytes: Vec<u8>,
    fields: Vec<Field>,
    method: Option<Span>,
    path: Option<Span>,
    scheme: bool,
    authority: Option<Span>,
    /// `Host`, where it came as a field.
    host: Option<Span>,
    line: Option<RequestLine>,
    cookies: Option<Vec<u8>>,
    /// Fields but for cookies.
    count: u64,
    read: Read,
}

/// What became of the fields.
#[derive(Default)]
pub struct Read {
    /// The head, as far as it was understood.
    pub head: Head,
    /// What is wrong with it.
    pub bad: Option<Bad>,
    /// What the log shall know of it besides.
    pub notes: Vec<String>,
    /// That the fields are too large for the connection to go on: nginx's sentence.
    pub excess: Option<&'static str>,
    /// The octets that the fields took.
    pub size: usize,
    /// Whether the rest of them did not come: there is nobody to answer.
    pub stalled: bool,
}

impl<'a> Reader<'a> {
    /// A reader for a block of `len` octets.
    pub fn new(listen: &'a Listen, len: usize) -> Self {
        let large = listen.default.root.loc.core.server.large_client_header_buffers;
        Self {
            listen,
            left: large.size.saturating_mul(large.number),
            bytes: Vec::with_capacity(2 * len + 128),
            fields: Vec::with_capacity(16),
            method: None,
            path: None,
            scheme: false,
            authority: None,
            host: None,
            line: None,
            cookies: None,
            count: 0,
            read: Read::default(),
        }
    }

    /// Takes a field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let len = (name.len() + value.len()) as u64;
        match self.left.checked_sub(len) {
            Some(left) => self.left = left,
            None => self.read.excess = self.read.excess.or(Some("client sent too large header")),
        }
        let largest = self.listen.default.root.loc.core.server.large_client_header_buffers.size;
        if name.len().max(value.len()) as u64 > largest {
            self.read.excess = self.read.excess.or(Some("client sent too large header field"));
        }
        if self.read.bad.is_some() || self.read.excess.is_some() {
            return;
        }
        let taken = match name.split_first() {
            Some((b':', rest)) => valid(name, rest, value).and_then(|_| self.pseudo(rest, value)),
            _ => valid(name, name, value).and_then(|plain| self.plain(name, value, plain)),
        };
        self.read.bad = taken.err();
    }

    /// All fields came; some may be wrong.
    pub fn finish(mut self) -> Read {
        if self.read.bad.is_none() {
            self.read.bad = self.line().err();
        }
        if let Some(cookies) = self.cookies.take() {
            self.push(b"cookie", &cookies);
        }
        if let (Some(authority), None) = (self.authority.clone(), &self.host) {
            let name = self.span(b"host");
            self.fields.push(Field { name, value: authority, valid: true, underscore: false });
        }
        let head = Head { bytes: self.bytes.into(), line: self.line, fields: self.fields };
        Read { head, ..self.read }
    }

    /// No more fields come, for this reason.
    pub fn stall(self, why: Bad) -> Read {
        let named = self.line.is_some();
        let mut read = self.finish();
        if let (false, Some(line)) = (named, &mut read.head.line) {
            // As in nginx, the log has a request line only where a field came behind those that it is made of.
            line.line = 0..0;
        }
        Read { bad: Some(why), stalled: true, ..read }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Bad> {
        if self.line.is_some() {
            return bad("client sent out of order pseudo-headers");
        }
        let twice = match name {
            b"path" => self.path.is_some(),
            b"method" => self.method.is_some(),
            b"scheme" => self.scheme,
            b"authority" if self.authority.is_some() => {
                return bad("client sent duplicate \":authority\" header");
            }
            b"authority" => false,
            _ => return bad(&format!("client sent unknown pseudo-header \":{}\"", text(name))),
        };
        if twice || (value.is_empty() && name != b"authority") {
            let what = if twice { "duplicate" } else { "empty" };
            return bad(&format!("client sent {what} :{} header", text(name)));
        }
        match name {
            b"path" => {
                if value.first() != Some(&b'/') || value.iter().any(|&b| b <= b' ' || b == 0x7f) {
                    return bad(&format!("client sent invalid :path header: \"{}\"", text(value)));
                }
                self.path = Some(self.span(value));
            }
            b"method" => {
                if !value.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'_' | b'-')) {
                    return bad(&format!("client sent invalid method: \"{}\"", text(value)));
                }
                self.method = Some(self.span(value));
            }
            b"scheme" => {
                let rest = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
                if !value.first().is_some_and(u8::is_ascii_alphabetic) || !value.iter().all(rest) {
                    return bad(&format!("client sent invalid :scheme header: \"{}\"", text(value)));
                }
                self.scheme = true;
            }
            _ => {
                if host::valid(value).is_none() {
                    return bad("client sent invalid \":authority\" header");
                }
                self.authority = Some(self.span(value));
            }
        }
        Ok(())
    }

    fn plain(&mut self, name: &[u8], value: &[u8], plain: bool) -> Result<(), Bad> {
        self.line()?;
        let underscore = name.contains(&b'_');
        if !plain || underscore {
            let server = self.server();
            if (!plain || !server.underscores_in_headers) && server.ignore_invalid_headers {
                self.read.notes.push(format!("client sent invalid header: \"{}\"", text(name)));
                return Ok(());
            }
        }
        if name == b"cookie" {
            match &mut self.cookies {
                Some(cookies) => {
                    cookies.extend_from_slice(b"; ");
                    cookies.extend_from_slice(value);
                }
                None => self.cookies = Some(value.to_vec()),
            }
            return Ok(());
        }
        self.count += 1;
        if self.count > self.listen.default.root.loc.core.server.max_headers.min(64)
            && self.count > self.server().max_headers
        {
            return Err((494, "client sent too many header lines".to_owned()));
        }
        let at = self.push(name, value);
        if name == b"host" {
            self.host = self.host.take().or(Some(at));
        }
        Ok(())
    }

    /// Puts the request line together, behind which no pseudo-field may come.
    fn line(&mut self) -> Result<(), Bad> {
        if self.line.is_some() {
            return Ok(());
        }
        let (Some(method), true, Some(path)) = (self.method.clone(), self.scheme, self.path.clone()) else {
            let missing = match (&self.method, self.scheme) {
                (None, _) => "method",
                (_, false) => "scheme",
                _ => "path",
            };
            return bad(&format!("client sent no :{missing} header"));
        };
        let method = self.copy(method);
        self.bytes.push(b' ');
        let target = self.copy(path);
        self.bytes.push(b' ');
        let protocol = self.span(b"HTTP/2.0");
        self.line = Some(RequestLine {
            line: method.start..protocol.end,
            method,
            scheme: None,
            host: self.authority.clone(),
            target,
            protocol,
            version: 2000,
            next: 0,
        });
        Ok(())
    }

    /// The settings of the server that the request has named so far.
    fn server(&self) -> Arc<Server> {
        let named = self.authority.as_ref().or(self.host.as_ref());
        let text = named.and_then(|span| self.bytes.get(span.start as usize..span.end as usize)).unwrap_or_default();
        let found = host::valid(text).and_then(|host| self.listen.servers.find(&host.name));
        let server = found.map_or(&self.listen.default, |(server, _)| server);
        Arc::clone(&server.root.loc.core.server)
    }

    fn span(&mut self, bytes: &[u8]) -> Span {
        let at = |len| u32::try_from(len).unwrap_or(u32::MAX);
        let start = at(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        start..at(self.bytes.len())
    }

    fn copy(&mut self, span: Span) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_within(span.start as usize..span.end as usize);
        let at = |len| u32::try_from(len).unwrap_or(u32::MAX);
        at(start)..at(self.bytes.len())
    }

    /// Adds a field; returns where its value is.
    fn push(&mut self, name: &[u8], value: &[u8]) -> Span {
        let (name, value) = (self.span(name), self.span(value));
        self.fields.push(Field { name, value: value.clone(), valid: true, underscore: false });
        value
    }
}

/// Whether `name`, without the colon of pseudo-fields, is made of what names usually are; an error where it must not be.
fn valid(whole: &[u8], name: &[u8], value: &[u8]) -> Result<bool, Bad> {
    let mut plain = true;
    for byte in name {
        match byte {
            b'a'..=b'z' | b'-' | b'0'..=b'9' | b'_' => {}
            0..=b' ' | 0x7f | b':' | b'A'..=b'Z' => {
                return Err((400, format!("client sent invalid header name: \"{}\"", text(whole))));
            }
            _ => plain = false,
        }
    }
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        let text = format!("client sent header \"{}\" with invalid value: \"{}\"", text(whole), text(value));
        return Err((400, text));
    }
    Ok(plain)
}

fn bad<T>(text: &str) -> Result<T, Bad> {
    Err((400, text.to_owned()))
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

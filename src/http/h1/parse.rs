//! Heads of HTTP/1.x requests and responses: RFC 9112 sections 2 to 5 as nginx reads them, leniencies included, see
//! https://nginx.org/en/docs/http/ngx_http_core_module.html#ignore_invalid_headers
//!
//! Nothing is copied: results are offsets into the caller's buffer, counted from its start. A function that needs
//! more bytes says so with `None` and is called again with the same start once they have come.
use std::fmt;
use std::ops::Range;

/// A place in the buffer.
pub type Span = Range<u32>;

/// The first line of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The whole line without its end, as `$request` shows it.
    pub line: Span,
    /// Upper-case letters, `_` and `-`.
    pub method: Span,
    /// The scheme of an absolute-form target.
    pub scheme: Option<Span>,
    /// The host, with its port, of an absolute-form target or of CONNECT; not yet validated.
    pub host: Option<Span>,
    /// The target from its path on. It starts with `/`, or with `?` where an absolute form has no path.
    pub target: Span,
    /// `HTTP/1.1` as written, empty for HTTP/0.9.
    pub protocol: Span,
    /// Major × 1000 + minor: 9, 1000, 1001, …
    pub version: u16,
    /// Where the line after this one starts.
    pub next: usize,
}

/// What is wrong with a request line, in nginx's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// Answered with 400.
    Method,
    /// Answered with 400.
    Request,
    /// Answered with 505.
    Version,
    /// Answered with 400.
    Method09,
}

impl BadLine {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        if self == Self::Version { 505 } else { 400 }
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "client sent invalid method",
            Self::Request => "client sent invalid request",
            Self::Version => "client sent invalid version",
            Self::Method09 => "client sent invalid method in HTTP/0.9 request",
        })
    }
}

impl std::error::Error for BadLine {}

/// Reads the request line at the start of `buf`, skipping empty lines before it.
pub fn request_line(buf: &[u8]) -> Result<Option<RequestLine>, BadLine> {
    let mut cursor = Cursor { buf, at: 0 };
    match cursor.request_line() {
        Ok(line) => Ok(Some(line)),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Bad(why)) => Err(why),
    }
}

/// One header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name as written.
    pub name: Span,
    /// The value without the spaces around it.
    pub value: Span,
    /// Whether the name holds only letters, digits, `-` and `_`.
    pub valid: bool,
    /// Whether the name holds a `_`, which is invalid unless `underscores_in_headers` is on.
    pub underscore: bool,
}

/// What the next line of a head is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A header, and where the line after it starts.
    Field(Field, usize),
    /// A line to skip, and where the line after it starts; only in responses.
    Junk(usize),
    /// The empty line, and where the body starts.
    End(usize),
}

/// A header line that cannot be read: the log shows `start..at` and the byte at `at`. Answered with 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// Where the line starts.
    pub start: usize,
    /// The offending byte.
    pub at: usize,
}

/// Whose head it is; only responses may repeat their status line among the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client's request.
    Request,
    /// An upstream's response.
    Response,
}

/// Reads the line of a head that starts at `start`.
pub fn field(buf: &[u8], start: usize, side: Side) -> Result<Option<Line>, BadField> {
    let mut cursor = Cursor { buf, at: start };
    match cursor.field(side) {
        Ok(line) => Ok(Some(line)),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Bad(at)) => Err(BadField { start, at }),
    }
}

/// The first line of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusLine {
    /// Major × 1000 + minor.
    pub version: u16,
    /// Three digits, 0 to 999.
    pub code: u16,
    /// From the code to the end of the line: `404 Not Found`.
    pub status: Span,
    /// Where the line after this one starts.
    pub next: usize,
}

/// The bytes are no status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadStatus;

/// Reads the status line at the start of `buf`.
pub fn status_line(buf: &[u8]) -> Result<Option<StatusLine>, BadStatus> {
    let mut cursor = Cursor { buf, at: 0 };
    match cursor.status_line() {
        Ok(line) => Ok(Some(line)),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Bad(BadStatus)) => Err(BadStatus),
    }
}

/// Why reading stopped.
enum Stop<E> {
    Partial,
    Bad(E),
}

struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn request_line(&mut self) -> Result<RequestLine, Stop<BadLine>> {
        self.skip(|c| matches!(c, b'\r' | b'\n'));
        let start = self.at;
        self.skip(|c| c.is_ascii_uppercase() || matches!(c, b'_' | b'-'));
        let method = span(start, self.at);
        if self.peek()? != b' ' || method.is_empty() {
            return Err(Stop::Bad(BadLine::Method));
        }
        let connect = self.since(start) == b"CONNECT";
        let get = self.since(start) == b"GET";
        self.spaces();
        let (scheme, host, mut target) =
            if connect { (None, Some(self.connect_host()?), 0..0) } else { self.target()? };
        self.spaces();
        let (protocol, version) = match self.peek()? {
            b'\r' | b'\n' => (self.at..self.at, 9),
            _ => (self.at..self.at, self.version()?),
        };
        if connect {
            target = span(protocol.start + 4, protocol.start + 5);
        }
        if version != 9 {
            self.spaces();
        }
        let end = self.at;
        self.end_of_line(BadLine::Request)?;
        if version == 9 && !get {
            return Err(Stop::Bad(BadLine::Method09));
        }
        let (line, protocol) = (span(start, end), span(protocol.start, end));
        Ok(RequestLine { line, method, scheme, host, target, protocol, version, next: self.at })
    }

    /// Scheme, host and target of anything but CONNECT; the byte after the target is a space or ends the line.
    fn target(&mut self) -> Result<(Option<Span>, Option<Span>, Span), Stop<BadLine>> {
        let (mut scheme, mut host) = (None, None);
        let start = self.at;
        let first = self.peek()?;
        if first.is_ascii_alphabetic() {
            self.skip(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'));
            scheme = Some(span(start, self.at));
            let slash = self.at + 1;
            self.exact(b"://", BadLine::Request)?;
            host = Some(self.host()?);
            match self.peek()? {
                b'/' | b'?' => {}
                // The single slash of an empty path is borrowed from the `://`.
                b' ' => return Ok((scheme, host, span(slash, slash + 1))),
                _ => return Err(Stop::Bad(BadLine::Request)),
            }
        } else if first != b'/' {
            return Err(Stop::Bad(BadLine::Request));
        }
        let start = self.at;
        self.skip(|c| c > b' ' && c != 0x7f);
        match self.peek()? {
            b' ' | b'\r' | b'\n' => Ok((scheme, host, span(start, self.at))),
            _ => Err(Stop::Bad(BadLine::Request)),
        }
    }

    fn connect_host(&mut self) -> Result<Span, Stop<BadLine>> {
        let host = self.host()?;
        let named = |at: u32| usize::try_from(at).ok().and_then(|at| self.buf.get(at));
        // A port is a must: the host ends in a digit after a colon, and a space follows.
        let digits = host.clone().rev().take_while(|&at| named(at).is_some_and(u8::is_ascii_digit)).count();
        let colon = host.clone().rev().nth(digits).and_then(named) == Some(&b':');
        if self.peek()? == b' ' && digits > 0 && colon { Ok(host) } else { Err(Stop::Bad(BadLine::Request)) }
    }

    /// A host and, after a colon, any number of digits.
    fn host(&mut self) -> Result<Span, Stop<BadLine>> {
        let start = self.at;
        if self.peek()? == b'[' {
            self.at += 1;
            self.skip(super::super::uri::literal_byte);
            self.exact(b"]", BadLine::Request)?;
        } else {
            self.skip(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-'));
        }
        if self.peek()? == b':' {
            self.at += 1;
            self.skip(|c| c.is_ascii_digit());
        }
        Ok(span(start, self.at))
    }

    fn version(&mut self) -> Result<u16, Stop<BadLine>> {
        self.exact(b"HTTP/", BadLine::Request)?;
        match self.peek()? {
            b'1' => self.at += 1,
            b'2'..=b'9' => return Err(Stop::Bad(BadLine::Version)),
            _ => return Err(Stop::Bad(BadLine::Request)),
        }
        match self.peek()? {
            b'.' => self.at += 1,
            b'0'..=b'9' => return Err(Stop::Bad(BadLine::Version)),
            _ => return Err(Stop::Bad(BadLine::Request)),
        }
        let minor = self.small_number(BadLine::Request)?;
        match self.peek()? {
            b' ' | b'\r' | b'\n' => Ok(1000 + minor),
            _ => Err(Stop::Bad(BadLine::Request)),
        }
    }

    fn field(&mut self, side: Side) -> Result<Line, Stop<usize>> {
        let start = self.at;
        match self.peek()? {
            b'\n' => return Ok(Line::End(start + 1)),
            b'\r' => {
                self.at += 1;
                return if self.peek()? == b'\n' { Ok(Line::End(self.at + 1)) } else { Err(Stop::Bad(start)) };
            }
            b':' => return Err(Stop::Bad(start)),
            _ => {}
        }
        let (mut valid, mut underscore) = (true, false);
        let after = loop {
            // Nearly all names are nothing but these.
            self.skip(|c| c.is_ascii_alphanumeric() || c == b'-');
            match self.peek()? {
                b'_' => underscore = true,
                c @ (b':' | b'\r' | b'\n') => break c,
                b'/' if side == Side::Response && self.since(start) == b"HTTP" => return self.junk(),
                0..=b' ' | 0x7f => return Err(Stop::Bad(self.at)),
                _ => valid = false,
            }
            self.at += 1;
        };
        let name = span(start, self.at);
        if after == b':' {
            self.at += 1;
            self.spaces();
        }
        let from = self.at;
        let rest = self.buf.get(from..).unwrap_or_default();
        let length = memchr::memchr3(b'\n', b'\r', 0, rest);
        self.at = from + length.ok_or(Stop::Partial)?;
        if self.peek()? == 0 {
            return Err(Stop::Bad(self.at));
        }
        let mut to = self.at;
        while to > from && self.buf.get(to - 1) == Some(&b' ') {
            to -= 1;
        }
        self.skip(|c| c == b'\r');
        match self.peek()? {
            b'\n' => Ok(Line::Field(Field { name, value: span(from, to), valid, underscore }, self.at + 1)),
            _ => Err(Stop::Bad(to)),
        }
    }

    fn junk(&mut self) -> Result<Line, Stop<usize>> {
        let end = memchr::memchr(b'\n', self.buf.get(self.at..).unwrap_or_default()).ok_or(Stop::Partial)?;
        Ok(Line::Junk(self.at + end + 1))
    }

    fn status_line(&mut self) -> Result<StatusLine, Stop<BadStatus>> {
        self.exact(b"HTTP/", BadStatus)?;
        if self.peek()? == b'0' {
            return Err(Stop::Bad(BadStatus));
        }
        let major = self.small_number(BadStatus)?;
        self.exact(b".", BadStatus)?;
        let minor = self.small_number(BadStatus)?;
        self.exact(b" ", BadStatus)?;
        self.spaces();
        let start = self.at;
        let mut code = 0u16;
        while self.at < start + 3 {
            match self.peek()? {
                c @ b'0'..=b'9' => code = code * 10 + u16::from(c - b'0'),
                _ => return Err(Stop::Bad(BadStatus)),
            }
            self.at += 1;
        }
        if !matches!(self.peek()?, b' ' | b'.' | b'\r' | b'\n') {
            return Err(Stop::Bad(BadStatus));
        }
        let text = self.buf.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr2(b'\r', b'\n', text).ok_or(Stop::Partial)?;
        let status = span(start, self.at);
        self.end_of_line(BadStatus)?;
        let version = major.saturating_mul(1000).saturating_add(minor);
        Ok(StatusLine { version, code, status, next: self.at })
    }

    /// One to three digits.
    fn small_number<E>(&mut self, error: E) -> Result<u16, Stop<E>> {
        let start = self.at;
        self.skip(|c| c.is_ascii_digit());
        let digits = self.since(start);
        if digits.len() > 3 || (digits.is_empty() && self.at < self.buf.len()) {
            return Err(Stop::Bad(error));
        }
        let value = digits.iter().fold(0, |n, c| n * 10 + u16::from(c - b'0'));
        self.peek().map(|_| value)
    }

    fn end_of_line<E>(&mut self, error: E) -> Result<(), Stop<E>> {
        if self.peek()? == b'\r' {
            self.at += 1;
        }
        self.exact(b"\n", error)
    }

    fn exact<E>(&mut self, wanted: &[u8], error: E) -> Result<(), Stop<E>> {
        for &byte in wanted {
            if self.peek()? != byte {
                return Err(Stop::Bad(error));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn spaces(&mut self) {
        self.skip(|c| c == b' ');
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        let rest = self.buf.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|&c| !wanted(c)).unwrap_or(rest.len());
    }

    fn peek<E>(&self) -> Result<u8, Stop<E>> {
        self.buf.get(self.at).copied().ok_or(Stop::Partial)
    }

    fn since(&self, start: usize) -> &[u8] {
        self.buf.get(start..self.at).unwrap_or_default()
    }
}

/// Heads are bounded by their buffers, far below 4 GiB.
fn span(start: usize, end: usize) -> Span {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    narrow(start)..narrow(end)
}

#[cfg(test)]
mod tests;

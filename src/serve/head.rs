//! Reading a request's head within the limits of its server (RFC 9112 §3, §5).

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use std::time::Instant;

use crate::conf::load::os_error;
use crate::http::core::Server;
use crate::http::h1::parse::{self, BadLine, Field, Line, RequestLine, Side};
use crate::http::host;
use crate::http::request::Client;
use crate::net::clock;
use crate::net::stream::make_room;
use crate::net::timer::within;
use crate::table::Listen;

/// A head as it lies in its buffer.
#[derive(Default)]
pub struct Head {
    /// The bytes up to and with the empty line.
    pub bytes: Bytes,
    /// Where the request line's parts are.
    pub line: Option<RequestLine>,
    /// Where the fields are.
    pub fields: Vec<Field>,
}

/// Why there is no head.
pub enum Refusal {
    /// The client closed before a whole head came.
    Gone {
        /// nginx's sentence for the log, where it has one.
        log: Option<String>,
    },
    /// The request line is none.
    Line(BadLine),
    /// An answer is due: this status, and nginx's sentence for the log.
    Status(u16, String),
}

/// How far the reading got.
struct Progress<'a> {
    listen: &'a Listen,
    /// The server whose limits hold: the default one until the host is known.
    server: Arc<Server>,
    buffers: Buffers,
    next: usize,
    fields: Vec<Field>,
    line: Option<RequestLine>,
}

/// nginx's buffers for heads, as far as they limit one: a line that does not fit goes to the next buffer whole.
struct Buffers {
    /// Bytes left in the current buffer.
    room: u64,
    /// Large buffers in use.
    used: u64,
}

impl Buffers {
    /// Puts a line of `len` bytes into a buffer; false if there is none for it.
    fn place(&mut self, len: usize, server: &Server) -> bool {
        let (len, large) = (len as u64, server.large_client_header_buffers);
        if len > self.room {
            if len > large.size || self.used >= large.number {
                return false;
            }
            (self.room, self.used) = (large.size, self.used + 1);
        }
        self.room -= len;
        true
    }

    /// Bytes the next line may have.
    fn largest(&self, server: &Server) -> usize {
        let large = server.large_client_header_buffers;
        usize::try_from(if self.used < large.number { large.size } else { self.room }).unwrap_or(usize::MAX)
    }

    /// Whether a line of which `len` bytes came may still grow.
    fn may_grow(&self, len: usize, server: &Server) -> bool {
        let (len, large) = (len as u64, server.large_client_header_buffers);
        len < self.room || (len < large.size && self.used < large.number)
    }
}

/// Reads a head; what came so far of a refused one is returned with the refusal.
pub async fn read(client: &Rc<Client>, listen: &Listen, deadline: Instant) -> Result<Head, (Refusal, Head)> {
    let server = Arc::clone(&listen.default.root.loc.core.server);
    let buffers = Buffers { room: server.client_header_buffer_size, used: 0 };
    let mut progress = Progress { listen, server, buffers, next: 0, fields: Vec::with_capacity(16), line: None };
    loop {
        if let Some(end) = progress.look(client) {
            return end;
        }
        let left = deadline.saturating_duration_since(clock::instant());
        let read = within(
            left,
            std::future::poll_fn(|cx| client.stream.poll_read(cx, &mut client.input.borrow_mut(), 32 << 10)),
        );
        let part = if progress.line.is_some() { "headers" } else { "line" };
        let part = || format!("while reading client request {part}");
        let kept = client.requests.get() > 0;
        let blank = client.input.borrow().is_empty() && progress.line.is_none();
        let refusal = match read.await {
            Some(Ok(n)) if n > 0 => {
                client.stage.read();
                continue;
            }
            Some(Ok(_)) if blank && kept => Refusal::Gone { log: Some("closed keepalive connection".to_owned()) },
            _ if blank && kept => Refusal::Gone { log: None },
            Some(Ok(_)) if blank => Refusal::Gone { log: Some(format!("client closed connection {WAITING}")) },
            Some(Ok(_)) => Refusal::Gone { log: Some(format!("client prematurely closed connection {}", part())) },
            Some(Err(error)) => {
                let place = if blank { WAITING.to_owned() } else { part() };
                Refusal::Gone { log: Some(format!("recv() failed ({}) {place}", os_error(&error))) }
            }
            None => {
                let place = if blank { WAITING.to_owned() } else { part() };
                Refusal::Status(408, format!("client timed out (110: Connection timed out) {place}"))
            }
        };
        return Err((refusal, progress.partial(&mut client.input.borrow_mut())));
    }
}

/// What the log says is being done before a request.
pub const WAITING: &str = "while waiting for request";

impl Progress<'_> {
    /// Reads what has come; nothing where more must come, for which there is room then.
    fn look(&mut self, client: &Client) -> Option<Result<Head, (Refusal, Head)>> {
        let mut input = client.input.borrow_mut();
        match self.advance(&input) {
            Ok(true) => {
                let bytes = input.split_to(self.next).freeze();
                let fields = std::mem::take(&mut self.fields);
                return Some(Ok(Head { bytes, line: self.line.take(), fields }));
            }
            Ok(false) => {}
            Err(refusal) => return Some(Err((refusal, self.partial(&mut input)))),
        }
        let large = self.server.large_client_header_buffers.size;
        let room = if input.is_empty() { self.server.client_header_buffer_size } else { large };
        make_room(&mut input, usize::try_from(room).unwrap_or(1024));
        None
    }

    /// Reads what is there; true at the end of the head.
    fn advance(&mut self, input: &[u8]) -> Result<bool, Refusal> {
        if self.line.is_none() && !self.request_line(input)? {
            return Ok(false);
        }
        if self.line.as_ref().is_some_and(|line| line.version < 1000) {
            return Ok(true);
        }
        loop {
            let start = self.next;
            let buffer = self.buffers.largest(&self.server);
            let too_long = || Refusal::Status(494, too_long(input.get(start..).unwrap_or_default(), buffer));
            match parse::field(input, start, Side::Request) {
                Ok(Some(Line::Field(field, next))) => {
                    if !self.buffers.place(next - start, &self.server) {
                        return Err(too_long());
                    }
                    self.next = next;
                    self.field(field, input)?;
                }
                Ok(Some(Line::End(next))) => {
                    self.next = next;
                    return Ok(true);
                }
                Ok(Some(Line::Junk(next))) => self.next = next,
                Ok(None) if self.buffers.may_grow(input.len() - start, &self.server) => return Ok(false),
                Ok(None) => return Err(too_long()),
                Err(bad) => return Err(Refusal::Status(400, invalid(input, &bad))),
            }
        }
    }

    /// Reads the request line; true once it is there.
    fn request_line(&mut self, input: &[u8]) -> Result<bool, Refusal> {
        let too_long = || Refusal::Status(414, "client sent too long URI".to_owned());
        let line = match parse::request_line(input) {
            Ok(Some(line)) => line,
            Ok(None) if self.buffers.may_grow(input.len(), &self.server) => return Ok(false),
            Ok(None) => return Err(too_long()),
            Err(bad) => return Err(Refusal::Line(bad)),
        };
        if !self.buffers.place(line.next - line.line.start as usize, &self.server) {
            return Err(too_long());
        }
        self.next = line.next;
        if let Some(host) = &line.host {
            self.choose(input.get(host.start as usize..host.end as usize).unwrap_or_default());
        }
        self.line = Some(line);
        Ok(true)
    }

    fn field(&mut self, field: Field, input: &[u8]) -> Result<(), Refusal> {
        let part = |span: &parse::Span| input.get(span.start as usize..span.end as usize).unwrap_or_default();
        let absolute = self.line.as_ref().is_some_and(|line| line.host.is_some());
        if !absolute && part(&field.name).eq_ignore_ascii_case(b"host") {
            self.choose(part(&field.value));
        }
        self.fields.push(field);
        if self.fields.len() as u64 > self.server.max_headers {
            return Err(Refusal::Status(494, "client sent too many header lines".to_owned()));
        }
        Ok(())
    }

    /// Lets the limits of the server of `host` hold from here on.
    fn choose(&mut self, host: &[u8]) {
        let valid = host::valid(host);
        if let Some((server, _)) = valid.and_then(|valid| self.listen.servers.find(&valid.name)) {
            self.server = Arc::clone(&server.root.loc.core.server);
        }
    }

    /// What was understood before the refusal, for the log.
    fn partial(&mut self, input: &mut BytesMut) -> Head {
        let bytes = input.split().freeze();
        Head { bytes, line: self.line.take(), fields: std::mem::take(&mut self.fields) }
    }
}

/// The sentence for a line of which only `buffer` bytes fit into one; nginx's own are cut as well.
fn too_long(line: &[u8], buffer: usize) -> String {
    let shown = line.get(..line.len().min(buffer).min(1748)).unwrap_or_default();
    format!("client sent too long header line: \"{}...\"", String::from_utf8_lossy(shown).trim_end())
}

fn invalid(input: &[u8], bad: &parse::BadField) -> String {
    let line = String::from_utf8_lossy(input.get(bad.start..bad.at).unwrap_or_default());
    let byte = input.get(bad.at).copied().unwrap_or_default();
    format!("client sent invalid header line: \"{line}\\x{byte:02x}...\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_take_lines_whole() {
        let server = Server::default();
        let mut buffers = Buffers { room: 1024, used: 0 };
        assert!(buffers.place(1000, &server) && buffers.used == 0);
        assert!(buffers.may_grow(8191, &server) && !buffers.may_grow(8192, &server));
        assert!(!buffers.place(8193, &server));
        for used in 1..=4 {
            assert!(buffers.place(8192, &server) && buffers.used == used);
        }
        assert!(!buffers.place(1, &server));
    }
}

//! Reading a request's head within the limits of its server (RFC 9112 §3, §5).

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use std::time::Instant;

use crate::http::core::Server;
use crate::http::h1::parse::{self, Field, Line, RequestLine, Side};
use crate::http::request::Client;
use crate::net::clock;
use crate::net::stream::make_room;
use crate::net::timer::within;

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
    /// The client closed before a whole head came, or sent nothing in time.
    Gone {
        /// nginx's sentence for the log, where it has one.
        log: Option<&'static str>,
    },
    /// An answer is due: this status, and nginx's sentence for the log.
    Status(u16, String),
}

/// How far the reading got.
struct Progress {
    next: usize,
    fields: Vec<Field>,
    line: Option<RequestLine>,
}

/// Reads a head; what came so far of a refused one is returned with the refusal.
pub async fn read(client: &Rc<Client>, server: &Server, deadline: Instant) -> Result<Head, (Refusal, Head)> {
    let mut progress = Progress { next: 0, fields: Vec::with_capacity(16), line: None };
    loop {
        let mut input = client.input.borrow_mut();
        match progress.advance(&input, server) {
            Ok(true) => {
                let bytes = input.split_to(progress.next).freeze();
                return Ok(Head { bytes, line: progress.line, fields: progress.fields });
            }
            Ok(false) => {}
            Err(refusal) => return Err((refusal, progress.partial(&mut input))),
        }
        let buffers = server.large_client_header_buffers;
        let room = if input.is_empty() { server.client_header_buffer_size } else { buffers.size };
        make_room(&mut input, usize::try_from(room).unwrap_or(1024));
        drop(input);
        let left = deadline.saturating_duration_since(clock::instant());
        let read = within(
            left,
            std::future::poll_fn(|cx| client.stream.poll_read(cx, &mut client.input.borrow_mut(), 32 << 10)),
        );
        let reading = if progress.line.is_some() { READING_HEADERS } else { READING_LINE };
        let refusal = match read.await {
            Some(Ok(n)) if n > 0 => {
                client.stage.read();
                continue;
            }
            Some(Ok(_)) if client.input.borrow().is_empty() => Refusal::Gone { log: None },
            Some(Ok(_)) => Refusal::Gone { log: Some(reading) },
            Some(Err(_)) => Refusal::Gone { log: None },
            None => Refusal::Status(408, "client timed out".to_owned()),
        };
        return Err((refusal, progress.partial(&mut client.input.borrow_mut())));
    }
}

const READING_LINE: &str = "client prematurely closed connection while reading client request line";
const READING_HEADERS: &str = "client prematurely closed connection while reading client request headers";

impl Progress {
    /// Reads what is there; true at the end of the head.
    fn advance(&mut self, input: &[u8], server: &Server) -> Result<bool, Refusal> {
        let largest = server.large_client_header_buffers.size.max(server.client_header_buffer_size) as usize;
        if self.line.is_none() {
            match parse::request_line(input) {
                Ok(Some(line)) if line.next - line.line.start as usize <= largest => {
                    self.next = line.next;
                    let simple = line.version < 1000;
                    self.line = Some(line);
                    if simple {
                        return Ok(true);
                    }
                }
                Ok(None) if input.len() < largest => return Ok(false),
                Ok(_) => return Err(Refusal::Status(414, "client sent too long URI".to_owned())),
                Err(bad) => return Err(Refusal::Status(bad.status(), bad.to_string())),
            }
        }
        loop {
            let start = self.next;
            let (field, next) = match parse::field(input, start, Side::Request) {
                Ok(Some(Line::Field(field, next))) => (field, next),
                Ok(Some(Line::End(next))) => {
                    self.next = next;
                    return Ok(true);
                }
                Ok(Some(Line::Junk(next))) => {
                    self.next = next;
                    continue;
                }
                Ok(None) => return self.wait(input, start, largest, server),
                Err(bad) => return Err(Refusal::Status(400, invalid(input, &bad))),
            };
            if next - start > largest {
                return Err(Refusal::Status(494, "client sent too long header line".to_owned()));
            }
            self.next = next;
            self.fields.push(field);
            if self.fields.len() as u64 > server.max_headers {
                return Err(Refusal::Status(494, "client sent too many header lines".to_owned()));
            }
        }
    }

    fn wait(&self, input: &[u8], start: usize, largest: usize, server: &Server) -> Result<bool, Refusal> {
        let total = server.large_client_header_buffers.total().max(server.client_header_buffer_size) as usize;
        if input.len() - start >= largest {
            return Err(Refusal::Status(494, "client sent too long header line".to_owned()));
        }
        if input.len() > total + server.client_header_buffer_size as usize {
            return Err(Refusal::Status(494, "client sent too large request".to_owned()));
        }
        Ok(false)
    }

    /// What was understood before the refusal, for the log.
    fn partial(&mut self, input: &mut BytesMut) -> Head {
        let bytes = input.split().freeze();
        Head { bytes, line: self.line.take(), fields: std::mem::take(&mut self.fields) }
    }
}

fn invalid(input: &[u8], bad: &parse::BadField) -> String {
    let line = String::from_utf8_lossy(input.get(bad.start..bad.at).unwrap_or_default());
    let byte = input.get(bad.at).copied().unwrap_or_default();
    format!("client sent invalid header line: \"{line}\\x{byte:02x}...\"")
}

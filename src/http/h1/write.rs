//! A response on its way out: nginx's order of fields, head and first bytes in one write (RFC 9112 §4).

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use std::time::Instant;

use super::chunked;
use super::inbound::read_part;
use crate::http::core::{Core, Tokens};
use crate::http::flow::{Cause, Fault, Stage};
use crate::http::{Body, Chunk, Head, Headers, Known, Request};
use crate::net::timer::within;
use crate::net::{Stream, clock};

/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;
/// Files up to this size go out together with the head.
const SMALL_FILE: u64 = 32 << 10;

/// nginx's line for a status, without the version; nothing for codes it has no words for.
pub fn status_line(status: u16) -> Option<&'static str> {
    Some(match status {
        100 => "100 Continue",
        101 => "101 Switching Protocols",
        103 => "103 Early Hints",
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        204 => "204 No Content",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        302 => "302 Moved Temporarily",
        303 => "303 See Other",
        304 => "304 Not Modified",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

/// The `Server` field's value; nothing where it is left out.
pub fn server(core: &Core, request: &Request) -> Option<Bytes> {
    Some(match &core.server_tokens {
        Tokens::Off => Bytes::from_static(b"nginx"),
        Tokens::On => Bytes::from_static(crate::SERVER.as_bytes()),
        Tokens::Build => Bytes::from_static(crate::SERVER_BUILD.as_bytes()),
        Tokens::Custom(text) => Some(text.bytes(request)).filter(|text| !text.is_empty())?,
    })
}

/// Appends the head of a response.
pub fn head(request: &Request, head: &mut Head, chunked: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    match (&head.line, status_line(head.status)) {
        (Some(line), _) => out.extend_from_slice(line),
        (None, Some(line)) => out.extend_from_slice(line.as_bytes()),
        (None, None) => out.extend_from_slice(format!("{:03} ", head.status).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
    let core = request.core();
    if !head.has_server
        && let Some(server) = server(core, request)
    {
        field(out, b"Server", &server);
    }
    if !head.has_date {
        field(out, b"Date", clock::now().1.http.as_bytes());
    }
    if let Some(kind) = head.content_type.as_ref().filter(|kind| !kind.is_empty()) {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(kind);
        if let Some(charset) = &head.charset {
            out.extend_from_slice(b"; charset=");
            out.extend_from_slice(charset);
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(length) = head.content_length {
        field(out, b"Content-Length", length.to_string().as_bytes());
    }
    let own = head.headers.get(Known::LastModified).is_none();
    match (&head.last_modified_text, head.last_modified.filter(|_| own)) {
        (Some(text), _) => field(out, b"Last-Modified", text),
        (None, Some(time)) if matches!(head.status, 200 | 206 | 304) => {
            field(out, b"Last-Modified", clock::http(time).as_bytes());
        }
        _ => {}
    }
    let relative = location(request, head, out);
    connection(request, head, chunked, out);
    if core.gzip.vary && request.gzip.vary.get() {
        field(out, b"Vary", b"Accept-Encoding");
    }
    if let Some(location) = relative {
        field(out, b"Location", &location);
    }
    for item in head.headers.iter() {
        field(out, item.name, item.value);
    }
    out.extend_from_slice(b"\r\n");
}

fn connection(request: &Request, head: &Head, chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        field(out, b"Transfer-Encoding", b"chunked");
    }
    let core = request.core();
    if head.status == 101 {
        field(out, b"Connection", b"upgrade");
    } else if request.keep_alive {
        field(out, b"Connection", b"keep-alive");
        if let Some(time) = core.keepalive_header.filter(|&time| time > 0) {
            field(out, b"Keep-Alive", format!("timeout={time}").as_bytes());
        }
    } else {
        field(out, b"Connection", b"close");
    }
}

/// Writes `Location` made absolute, or returns it to be written as it is.
fn location(request: &Request, head: &mut Head, out: &mut Vec<u8>) -> Option<Bytes> {
    let core = request.core();
    let location = head.location.clone()?;
    if location.first() != Some(&b'/') || !core.absolute_redirect {
        return Some(location);
    }
    let local = request.client.local;
    let host: Vec<u8> = if core.server_name_in_redirect {
        core.server.name.to_vec()
    } else if !request.host.is_empty() {
        request.host.to_vec()
    } else {
        match local {
            Some(local) => match local.ip() {
                std::net::IpAddr::V6(ip) => format!("[{ip}]").into_bytes(),
                ip => ip.to_string().into_bytes(),
            },
            None => b"localhost".to_vec(),
        }
    };
    let (scheme, port): (&[u8], u16) = if request.is_tls() { (b"https://", 443) } else { (b"http://", 80) };
    let mut url = [scheme, &host].concat();
    if let Some(local) = local.filter(|local| core.port_in_redirect && local.port() != port) {
        url.extend_from_slice(format!(":{}", local.port()).as_bytes());
    }
    url.extend_from_slice(&location);
    field(out, b"Location", &url);
    head.location = Some(url.into());
    None
}

/// Appends one field.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How fast a body may leave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Bytes a second; 0 is no limit.
    pub limit: u64,
    /// Bytes that leave at full speed first.
    pub after: u64,
}

/// Writes responses to a stream.
pub struct Writer<'a> {
    /// Where to.
    pub stream: &'a Stream,
    /// Between two writes.
    pub timeout: Duration,
    /// How fast.
    pub rate: Rate,
    /// Bytes that were written.
    pub sent: u64,
    /// Asked behind the last byte of a chunked body for the fields that follow it.
    pub trailers: Option<&'a dyn Fn() -> Headers>,
    /// Called whenever the body was asked for more, to tell the log what it came upon.
    pub notes: Option<&'a dyn Fn()>,
    /// Whether the peer's end ends the body as well, while it waits for more.
    pub heeds_end: bool,
    /// What waits to be written.
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Whether a file follows what is queued.
    ahead: bool,
    started: Instant,
}

impl<'a> Writer<'a> {
    /// A writer that has written nothing.
    pub fn new(stream: &'a Stream, timeout: Duration, rate: Rate) -> Self {
        let queue = VecDeque::with_capacity(4);
        Self {
            stream,
            timeout,
            rate,
            sent: 0,
            trailers: None,
            notes: None,
            heeds_end: false,
            queue,
            queued: 0,
            ahead: false,
            started: clock::instant(),
        }
    }

    /// Queues bytes for the next write.
    pub fn push(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// Writes head and body.
    pub async fn send(&mut self, head: Bytes, mut body: Body, chunked: bool) -> Result<(), Fault> {
        self.push(head);
        loop {
            let gathered = std::future::poll_fn(|cx| {
                let gathered = self.gather(cx, &mut body, chunked);
                if let Some(notes) = self.notes {
                    notes();
                }
                if gathered.is_pending() && self.heeds_end && self.stream.poll_hung_up(cx).is_ready() {
                    return Poll::Ready(Err(Fault::client(Stage::Body, Cause::Closed)));
                }
                gathered
            });
            let gathered = match gathered.await {
                Ok(gathered) => gathered,
                Err(fault) => {
                    // The client still gets what came before its source failed.
                    self.flush_before(&mut body).await?;
                    return Err(fault);
                }
            };
            match gathered {
                Gathered::Some => self.flush_before(&mut body).await?,
                Gathered::File(part) => {
                    if chunked {
                        self.chunk(part.len);
                    }
                    self.ahead = true;
                    self.flush_before(&mut body).await?;
                    self.ahead = false;
                    self.send_file(&part, &mut body).await?;
                    if chunked {
                        self.push(Bytes::from_static(b"\r\n"));
                    }
                }
                Gathered::End => return self.flush().await,
            }
        }
    }

    /// Queues a body's end.
    pub fn end(&mut self, chunked: bool) {
        if chunked {
            self.push(Bytes::from_static(chunked::LAST));
        }
    }

    /// Collects what the body has ready.
    fn gather(&mut self, cx: &mut Context<'_>, body: &mut Body, chunked: bool) -> Poll<Result<Gathered, Fault>> {
        while self.queued < body.batch() {
            match body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => self.data(bytes, chunked),
                Poll::Ready(Some(Ok(Chunk::Flush))) => break,
                Poll::Ready(Some(Ok(Chunk::File(part)))) if part.len <= SMALL_FILE => self.file(part, chunked)?,
                Poll::Ready(Some(Ok(Chunk::File(part)))) => return Poll::Ready(Ok(Gathered::File(part))),
                Poll::Ready(Some(Err(fault))) => return Poll::Ready(Err(fault)),
                Poll::Ready(None) => {
                    if chunked {
                        self.last(body.trailers().as_ref());
                    }
                    return Poll::Ready(Ok(Gathered::End));
                }
                Poll::Pending if self.queued == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(Gathered::Some))
    }

    /// Queues the last chunk, with the fields that follow it.
    fn last(&mut self, of_body: Option<&Headers>) {
        let own = self.trailers.map(|trailers| trailers());
        let mut fields = of_body.into_iter().chain(&own).flat_map(Headers::iter).peekable();
        if fields.peek().is_none() {
            return self.push(Bytes::from_static(chunked::LAST));
        }
        let mut out = b"0\r\n".to_vec();
        for item in fields {
            field(&mut out, item.name, item.value);
        }
        out.extend_from_slice(b"\r\n");
        self.push(out.into());
    }

    /// Queues a piece of a body.
    pub fn data(&mut self, bytes: Bytes, chunked: bool) {
        if bytes.is_empty() {
            return;
        }
        if chunked {
            self.chunk(bytes.len() as u64);
        }
        self.push(bytes);
        if chunked {
            self.push(Bytes::from_static(b"\r\n"));
        }
    }

    /// Queues the line before a chunk.
    fn chunk(&mut self, len: u64) {
        let mut line = Vec::with_capacity(20);
        chunked::head(len, &mut line);
        self.push(line.into());
    }

    /// Queues a small part of a file as bytes.
    fn file(&mut self, mut part: crate::http::FilePart, chunked: bool) -> Result<(), Fault> {
        while part.len > 0 {
            let bytes = read_part(&part, PIECE).map_err(Fault::here)?;
            if bytes.is_empty() {
                return Err(Fault::here(std::io::ErrorKind::UnexpectedEof.into()));
            }
            part.offset += bytes.len() as u64;
            part.len -= bytes.len() as u64;
            self.data(bytes, chunked);
        }
        Ok(())
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> Result<(), Fault> {
        self.flush_before(&mut Body::Empty).await
    }

    /// Writes what is queued; `body`, which comes next, may go on in the meantime.
    async fn flush_before(&mut self, body: &mut Body) -> Result<(), Fault> {
        while self.queued > 0 {
            let allowed = self.allowance(self.queued, body).await?;
            let queued = self.queued;
            let (stream, queue, timeout, ahead) = (self.stream, &self.queue, self.timeout, self.ahead);
            let write = std::future::poll_fn(|cx| {
                let mut slices = [IoSlice::new(&[]); 16];
                let (mut count, mut left) = (0, allowed);
                for (slice, bytes) in slices.iter_mut().zip(queue) {
                    *slice = IoSlice::new(bytes.get(..left).unwrap_or(bytes));
                    left -= bytes.len().min(left);
                    count += 1;
                    if left == 0 {
                        break;
                    }
                }
                let written = match slices.get(..count).unwrap_or_default() {
                    [one] if ahead => stream.poll_write_ahead(cx, one),
                    slices => stream.poll_write(cx, slices),
                };
                if written.is_pending() {
                    body.poll_ahead(cx, queued);
                }
                written
            });
            let n = timed(timeout, write).await?;
            self.advance(n);
        }
        Ok(())
    }

    fn advance(&mut self, mut n: usize) {
        self.sent += n as u64;
        self.queued -= n.min(self.queued);
        while let Some(front) = self.queue.front_mut() {
            if n < front.len() {
                front.advance(n);
                break;
            }
            n -= front.len();
            self.queue.pop_front();
        }
    }

    async fn send_file(&mut self, part: &crate::http::FilePart, body: &mut Body) -> Result<(), Fault> {
        let (mut offset, mut left) = (part.offset, part.len);
        while left > 0 {
            let allowed = self.allowance(usize::try_from(left).unwrap_or(usize::MAX), body).await? as u64;
            let (stream, timeout) = (self.stream, self.timeout);
            let send = std::future::poll_fn(|cx| {
                let sent = stream.poll_send_file(cx, &part.file, offset, allowed);
                if sent.is_pending() {
                    body.poll_ahead(cx, 0);
                }
                sent
            });
            let n = timed(timeout, send).await? as u64;
            if n == 0 {
                return Err(Fault::here(std::io::ErrorKind::UnexpectedEof.into()));
            }
            (offset, left, self.sent) = (offset + n, left - n, self.sent + n);
        }
        Ok(())
    }

    /// The bytes that may leave now; waits until there are some.
    async fn allowance(&self, wanted: usize, body: &mut Body) -> Result<usize, Fault> {
        let Rate { limit, after } = self.rate;
        if limit == 0 {
            return Ok(wanted);
        }
        loop {
            let earned = limit.saturating_mul(self.started.elapsed().as_secs() + 1) + after;
            let free = earned.saturating_sub(self.sent);
            if free > 0 {
                return Ok(wanted.min(usize::try_from(free).unwrap_or(usize::MAX)));
            }
            // More is earned only as another second begins.
            let rest = 1000 - u64::from(self.started.elapsed().subsec_millis());
            let behind = ((self.sent - earned) * 1000 / limit + 1).max(rest);
            let ahead = std::future::poll_fn(|cx| {
                body.poll_ahead(cx, self.queued);
                Poll::<()>::Pending
            });
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(behind)) => {}
                () = ahead => {}
                () = self.stream.hung_up() => return Err(Fault::client(Stage::Send, Cause::Closed)),
            }
        }
    }
}

enum Gathered {
    Some,
    File(crate::http::FilePart),
    End,
}

async fn timed(limit: Duration, write: impl Future<Output = std::io::Result<usize>>) -> Result<usize, Fault> {
    match within(limit, write).await {
        Some(Ok(n)) => Ok(n),
        Some(Err(error)) => Err(Fault::client(Stage::Send, Cause::Io(error))),
        None => Err(Fault::client(Stage::Send, Cause::TimedOut)),
    }
}

/// Whether a response without a length, or with trailers, is sent in chunks; otherwise it ends with the connection.
pub fn frame(request: &mut Request, head: &mut Head) -> bool {
    let bodiless = matches!(head.status, 101 | 204 | 304) || request.method == crate::http::Method::Head;
    let may_chunk = request.core().may_chunk(request.version);
    if head.trailers && may_chunk && !bodiless {
        head.content_length = None;
    }
    if head.content_length.is_some() || bodiless {
        return false;
    }
    if may_chunk {
        return true;
    }
    request.keep_alive = false;
    false
}

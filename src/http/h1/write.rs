//! A response on its way out: nginx's order of fields, head and first bytes in one write (RFC 9112 §4).

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use std::time::Instant;

use super::chunked;
use super::inbound::read_part;
use crate::http::fields::{self, Sink, status_line};
use crate::http::flow::{Cause, Fault, Side, Stage};
use crate::http::{Body, Chunk, Head, Headers, Request};
use crate::net::stream::Follows;
use crate::net::timer::within;
use crate::net::{Stream, clock};

/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;
/// Files up to this size go out together with the head.
const SMALL_FILE: u64 = 32 << 10;

/// Appends the head of a response.
pub fn head(request: &Request, head: &mut Head, chunked: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    match (&head.line, status_line(head.status)) {
        (Some(line), _) => out.extend_from_slice(line),
        (None, Some(line)) => out.extend_from_slice(line.as_bytes()),
        (None, None) => out.extend_from_slice(format!("{:03} ", head.status).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
    let status = head.status;
    fields::write(request, head, out, |out| connection(request, status, chunked, out));
    out.extend_from_slice(b"\r\n");
}

fn connection(request: &Request, status: u16, chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        field(out, b"Transfer-Encoding", b"chunked");
    }
    let core = request.core();
    if status == 101 {
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

impl Sink for Vec<u8> {
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        value.iter().for_each(|part| self.extend_from_slice(part));
        self.extend_from_slice(b"\r\n");
    }
}

/// Appends one field.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.field(name, &[value]);
}

/// How fast a body may leave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Bytes a second; 0 is no limit.
    pub limit: u64,
    /// Bytes that leave at full speed first.
    pub after: u64,
}

impl Rate {
    /// How many of `wanted` bytes may leave now, where `sent` left since `started`; or how long to wait for some.
    pub fn allows(self, started: Instant, sent: u64, wanted: usize) -> Result<usize, Duration> {
        let Self { limit, after } = self;
        if limit == 0 {
            return Ok(wanted);
        }
        let elapsed = started.elapsed();
        let earned = limit.saturating_mul(elapsed.as_secs() + 1).saturating_add(after);
        let free = earned.saturating_sub(sent);
        if free > 0 {
            return Ok(wanted.min(usize::try_from(free).unwrap_or(usize::MAX)));
        }
        // More is earned only as another second begins.
        let rest = 1000 - u64::from(elapsed.subsec_millis());
        Err(Duration::from_millis((sent.saturating_sub(earned).saturating_mul(1000) / limit + 1).max(rest)))
    }
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
    /// Whether the connection ends as soon as all is written.
    pub closes: bool,
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
        let queue = VecDeque::new();
        Self {
            stream,
            timeout,
            rate,
            sent: 0,
            trailers: None,
            notes: None,
            heeds_end: false,
            closes: false,
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

    /// Writes a head, or all there is, that nothing follows: what leaves at once is never queued.
    pub async fn send_whole(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(notes) = self.notes {
            notes();
        }
        let mut rest = bytes;
        if self.rate.limit == 0 {
            let write = std::future::poll_fn(|cx| {
                Poll::Ready(match self.closes {
                    true => self.stream.poll_write_ahead(cx, bytes, Follows::End),
                    false => self.stream.poll_write(cx, &[IoSlice::new(bytes)]),
                })
            });
            match write.await {
                Poll::Ready(Ok(n)) => {
                    self.sent += n as u64;
                    rest = bytes.get(n..).unwrap_or_default();
                }
                Poll::Ready(Err(error)) => return Err(Fault::client(Stage::Send, Cause::Io(error))),
                Poll::Pending => {}
            }
        }
        self.push(Bytes::copy_from_slice(rest));
        self.flush().await
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
                    // The client still gets what came before its source failed, but nothing that nonsense follows at once.
                    let nonsense = fault.side == Side::Upstream && matches!(fault.cause, Cause::Protocol(_));
                    if !nonsense || self.sent > 0 {
                        self.flush_before(&mut body).await?;
                    }
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
                    [one] if ahead => stream.poll_write_ahead(cx, one, Follows::File),
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
        loop {
            match self.rate.allows(self.started, self.sent, wanted) {
                Ok(allowed) => return Ok(allowed),
                Err(pause) => {
                    let ahead = std::future::poll_fn(|cx| {
                        body.poll_ahead(cx, self.queued);
                        Poll::<()>::Pending
                    });
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = ahead => {}
                        () = self.stream.hung_up() => return Err(Fault::client(Stage::Send, Cause::Closed)),
                    }
                }
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
    let bodiless = matches!(head.status, 0..200 | 204 | 304) || request.method == crate::http::Method::Head;
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

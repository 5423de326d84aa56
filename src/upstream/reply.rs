//! The body of a reply on its way through: bounded by the buffers of its directives, one read at a time.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::ahead::{Ahead, Feed};
use super::balance::Choice;
use super::exchange::Reply;
use super::pace::Pace;
use super::pool::{self, Connection};
use super::protocol::{Decode, Decoded, Length};
use super::shared::{Limits, Names, Shared};
use super::{Conf, report, wire};
use crate::http::h1::chunked::{Decoder, Step};
use crate::http::h1::write::Rate;
use crate::http::request::Attempts;
use crate::http::{Body, Cause, Chunk, Fault, Headers, Known, Source, Stage};
use crate::net::stream::make_room;
use crate::net::timer::Limit;
use crate::net::{Level, clock};

/// How a body is read.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// No faster than this.
    pub rate: Rate,
    /// Whether there is none, whatever the head says.
    pub bodiless: bool,
    /// Whether it is read no further and counts for nothing.
    pub unwanted: bool,
    /// Whether what comes may wait for more on its way through.
    pub buffered: bool,
}

/// More than the head announced.
const LONGER: &str = "more data than specified in \"Content-Length\" header";

/// The body of a reply, and what becomes of its connection.
pub fn body(reply: Reply, shared: &Shared, manner: Manner) -> Body {
    let Manner { rate, bodiless, unwanted, buffered } = manner;
    let conf = &shared.conf;
    let Reply { head, mut rest, connection, choice, attempts, started } = reply;
    let mut keep_alive = head.keep_alive;
    let framing = match head.length {
        Length::Coded(_) if bodiless => {
            // Where it ends is not known before it was read, and nobody wants it.
            keep_alive = false;
            Framing::Length(0)
        }
        _ if bodiless => Framing::Length(0),
        Length::Known(length) => Framing::Length(length),
        Length::Chunked => Framing::Chunked(Decoder::new(conf.pass_trailers)),
        Length::UntilClose | Length::Headless => Framing::UntilClose,
        Length::Coded(coding) => Framing::Coded(coding),
    };
    let stage = if buffered { Stage::Body } else { Stage::Head };
    let mut end = End { connection: Some(connection), keep_alive, choice, attempts, started };
    if !bodiless && !unwanted {
        let held = if let Framing::Coded(coding) = &framing { coding.held() } else { 0 };
        end.received((rest.len() + held) as u64);
        if held > 0 && matches!(head.status, 204 | 304) {
            // Nobody reads on in what has no body.
            end.too_much(LONGER, stage);
        }
    }
    if let Framing::Length(length) = framing
        && rest.len() as u64 >= length
    {
        // All of it came with the head: the connection is free before the client has a byte.
        let whole = rest.split_to(usize::try_from(length).unwrap_or(usize::MAX)).freeze();
        if !bodiless && !unwanted && !rest.is_empty() {
            end.too_much(LONGER, stage);
        }
        end.keep_alive &= rest.is_empty();
        end.finish();
        return if whole.is_empty() { Body::Empty } else { Body::Full(whole) };
    }
    let room = usize::try_from(conf.buffers.total()).unwrap_or(usize::MAX).clamp(4096, 256 << 10);
    let timeout = conf.read_timeout;
    let limit = Limit::default();
    let pace = Pace::new(rate, rest.len() as u64);
    let (flush, limits) = match buffered {
        true => (Flush::Never, Some(Arc::clone(&shared.limits))),
        false => (Flush::Idle, None),
    };
    let least = usize::try_from(conf.buffer_size).unwrap_or(usize::MAX).clamp(1024, room);
    let sizes = Sizes { room, least };
    end.attempts.passing.set(!buffered);
    Body::Stream(Box::new(Stream {
        end,
        buf: rest,
        framing,
        sizes,
        timeout,
        limit,
        pace,
        flush,
        stage,
        waited: false,
        done: false,
        limits,
        hidden: conf.pass_trailers.then(|| Arc::clone(&shared.hidden)),
        ahead: None,
    }))
}

/// Whether what comes may wait for more on its way through; the upstream has a say in it.
pub fn is_buffered(headers: &Headers, conf: &Conf) -> bool {
    let ignores = || conf.ignore_headers.iter().any(|name| Known::of(name) == Known::XAccelBuffering);
    match headers.get(Known::XAccelBuffering).filter(|_| !ignores()) {
        Some(value) if value.eq_ignore_ascii_case(b"yes") => true,
        Some(value) if value.eq_ignore_ascii_case(b"no") => false,
        _ => conf.buffering,
    }
}

/// Whether what was passed on must leave before more comes, which matters to those who gather it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Never,
    Idle,
    Due,
}

enum Framing {
    Length(u64),
    Chunked(Decoder),
    Trailers,
    UntilClose,
    Coded(Box<dyn Decode>),
}

impl Framing {
    /// Whether the body may end with the connection.
    fn may_close(&self) -> bool {
        match self {
            Framing::UntilClose => true,
            Framing::Coded(coding) => coding.may_close(),
            _ => false,
        }
    }
}

/// What happens when a body ends.
pub struct End {
    connection: Option<Connection>,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
    choice: Choice,
    /// The tries so far.
    pub attempts: Rc<Attempts>,
    started: Instant,
}

impl End {
    /// Counts bytes behind the head, as they came: chunks and records with what is around them.
    pub fn received(&self, bytes: u64) {
        if let Some(attempt) = self.attempts.borrow_mut().last_mut() {
            attempt.length += bytes;
        }
    }

    /// Tells the log what came behind the body.
    fn too_much(&self, what: &str, stage: Stage) {
        let stage = report::stage(stage);
        self.attempts.note(Level::Warn, format!("upstream sent {what} while {stage}"));
    }

    /// Notes the time and gives connection and server back.
    pub fn finish(&mut self) {
        if let Some(attempt) = self.attempts.borrow_mut().last_mut() {
            let whole = clock::since(self.started);
            attempt.response_time = Some(whole);
            if let Some(header) = attempt.header_time {
                self.choice.note(header, whole);
            }
        }
        let key = self.choice.pool_key();
        let busy = self.choice.release(false);
        if let Some(connection) = self.connection.take().filter(|_| self.keep_alive) {
            pool::put(key, self.choice.peers(), connection, busy);
        }
    }
}

struct Stream {
    end: End,
    buf: BytesMut,
    framing: Framing,
    sizes: Sizes,
    timeout: Duration,
    limit: Limit,
    pace: Pace,
    flush: Flush,
    /// What the log says is being done: without buffering, what came with the head still counts as the head's.
    stage: Stage,
    /// Whether more was waited for.
    waited: bool,
    done: bool,
    /// What may be held for a client that is slower than the upstream; nothing without buffering.
    limits: Option<Arc<Limits>>,
    /// The fields behind the body that are kept back; nothing where none are passed.
    hidden: Option<Arc<Names>>,
    /// What came before the client wanted it, once it was slower.
    ahead: Option<Box<Ahead>>,
}

/// How much is read at a time, in bytes.
struct Sizes {
    room: usize,
    /// The same where the buffers are full already.
    least: usize,
}

impl Source for Stream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        if let Some(next) = self.ahead.as_mut().and_then(|ahead| ahead.take()) {
            return Poll::Ready(Some(next));
        }
        match self.poll_piece(cx, self.sizes.room) {
            Poll::Pending if self.flush == Flush::Due => {
                self.flush = Flush::Idle;
                Poll::Ready(Some(Ok(Chunk::Flush)))
            }
            Poll::Ready(Some(Ok(bytes))) => {
                if self.flush == Flush::Idle {
                    self.flush = Flush::Due;
                }
                Poll::Ready(Some(Ok(Chunk::Data(bytes))))
            }
            next => next.map_ok(Chunk::Data),
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        let Some(limits) = self.limits.clone() else {
            // A failure shows itself again.
            let _ = self.poll_send(cx);
            return;
        };
        let mut ahead = self.ahead.take().unwrap_or_default();
        ahead.read(cx, queued, &limits, self);
        self.ahead = Some(ahead);
    }

    fn trailers(&mut self) -> Option<Headers> {
        let hidden = self.hidden.as_ref()?;
        let mut fields = self.end.attempts.trailers.borrow().clone();
        fields.retain(|field| !hidden.has(field.known, field.name));
        Some(fields).filter(|fields| !fields.is_empty())
    }

    fn batch(&self) -> usize {
        // Once the client was slower, no more than one piece waits for it.
        if self.ahead.is_some() { 1 } else { 64 << 10 }
    }
}

impl Feed for Stream {
    fn is_done(&self) -> bool {
        self.done
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, free: usize) -> Poll<Option<Result<Bytes, Fault>>> {
        // What is left of the last buffer is used up first: pieces keep all of theirs alive.
        let spare = self.buf.capacity() - self.buf.len();
        let room = free.clamp(self.sizes.least, self.sizes.room);
        let room = if spare >= self.sizes.least { room.min(spare) } else { room };
        self.poll_piece(cx, room)
    }

    fn attempts(&self) -> &Attempts {
        &self.end.attempts
    }
}

impl Stream {
    /// The next piece; at most `room` bytes are read for it.
    fn poll_piece(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            match self.take() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Ok(None) if self.done => return Poll::Ready(None),
                Ok(None) => {}
                Err(cause) => return Poll::Ready(Some(Err(Fault::upstream(self.stage, cause)))),
            }
            if let Poll::Ready(Err(fault)) = self.poll_send(cx) {
                return Poll::Ready(Some(Err(fault)));
            }
            match ready!(self.poll_read(cx, room)) {
                Ok(0) if self.framing.may_close() => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Fault::upstream(Stage::Body, Cause::Closed)))),
                Ok(_) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
        }
    }

    /// Goes on with a request that is not sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match &mut self.framing {
            Framing::Coded(coding) if !self.done => coding.poll_send(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// What the buffer holds of the body.
    fn take(&mut self) -> Result<Option<Bytes>, Cause> {
        if self.done {
            return Ok(None);
        }
        match &mut self.framing {
            Framing::UntilClose => Ok((!self.buf.is_empty()).then(|| self.buf.split().freeze())),
            Framing::Length(left) => {
                let take = self.buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                let bytes = self.buf.split_to(take).freeze();
                if *left == 0 {
                    if !self.buf.is_empty() {
                        self.end.too_much(LONGER, self.stage);
                    }
                    self.end.keep_alive &= self.buf.is_empty();
                    self.finish();
                }
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Framing::Coded(coding) => match coding.decode(&mut self.buf)? {
                Decoded::Data(bytes) => Ok(Some(bytes)),
                Decoded::Note(level, text) => {
                    self.end.attempts.note(level, format!("{text} while {}", report::stage(self.stage)));
                    self.take()
                }
                Decoded::Trailers(fields) => {
                    *self.end.attempts.trailers.borrow_mut() = fields;
                    self.take()
                }
                Decoded::More => Ok(None),
                Decoded::Done(reusable) => {
                    self.end.keep_alive &= reusable && self.buf.is_empty();
                    self.finish();
                    Ok(None)
                }
            },
            Framing::Chunked(decoder) => {
                let invalid = |_| Cause::Protocol("upstream sent invalid chunked response".to_owned());
                match decoder.decode(&self.buf).map_err(invalid)? {
                    Step::Data(range) => {
                        drop(self.buf.split_to(range.start));
                        return Ok(Some(self.buf.split_to(range.len()).freeze()));
                    }
                    Step::More => self.buf.clear(),
                    Step::Done(at) => {
                        drop(self.buf.split_to(at));
                        if self.hidden.is_some() {
                            self.framing = Framing::Trailers;
                            return self.take();
                        }
                        if !self.buf.is_empty() {
                            self.end.too_much("data after final chunk", self.stage);
                        }
                        self.end.keep_alive &= self.buf.is_empty();
                        self.finish();
                    }
                }
                Ok(None)
            }
            Framing::Trailers => {
                match wire::fields(&mut self.buf, 0, "trailer").map_err(Cause::Protocol)? {
                    Some(fields) => {
                        *self.end.attempts.trailers.borrow_mut() = fields.headers;
                        self.end.keep_alive &= self.buf.is_empty();
                        self.finish();
                    }
                    None if self.buf.len() >= self.sizes.least => {
                        return Err(Cause::Protocol("upstream sent too big trailers".to_owned()));
                    }
                    None => {}
                }
                Ok(None)
            }
        }
    }

    fn finish(&mut self) {
        self.done = true;
        self.end.finish();
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, Fault>> {
        let room = match self.pace.allows(room) {
            Ok(room) => room,
            Err(pause) => {
                ready!(self.limit.poll_over(cx, pause));
                self.limit.clear();
                return self.poll_read(cx, room);
            }
        };
        let Some(connection) = &self.end.connection else { return Poll::Ready(Ok(0)) };
        let fault = |cause| Fault::upstream(Stage::Body, cause);
        make_room(&mut self.buf, room);
        match connection.stream.poll_read(cx, &mut self.buf, room) {
            Poll::Ready(read) => {
                self.limit.clear();
                if std::mem::take(&mut self.waited) {
                    self.end.attempts.passing.set(false);
                }
                let bytes = read.as_ref().map_or(0, |&bytes| bytes as u64);
                self.pace.note(bytes);
                self.stage = Stage::Body;
                if let Some(attempt) = self.end.attempts.borrow_mut().last_mut() {
                    attempt.received += bytes;
                }
                self.end.received(bytes);
                let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
                let piped = self.limits.is_some();
                return Poll::Ready(read.map_err(|error| match is_reset(&error) && piped {
                    true => fault(Cause::Short("readv() failed (104: Connection reset by peer)")),
                    false => fault(Cause::Io(error)),
                }));
            }
            Poll::Pending => self.waited = true,
        }
        self.limit.poll_over(cx, self.timeout).map(|()| Err(fault(Cause::TimedOut)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.done {
            self.end.keep_alive = false;
            self.end.finish();
        }
    }
}

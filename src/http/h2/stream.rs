//! One stream of an HTTP/2 connection: its body on the way in, its frames on the way out (RFC 9113 §5).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::frame::{self, Code, Kind};
use super::link::Link;
use crate::http::flow::{Cause, Fault, Stage};
use crate::http::headers::Field;

/// Pieces of a body smaller than this are put together.
const SMALL: usize = 8192;
/// A window is refilled when less than this is left of it.
const LOW: u32 = frame::MAX_WINDOW / 4;

/// Who ended a stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client, with a reset.
    Client(Code),
    /// We, for what the client did.
    Here,
    /// The connection is gone.
    Connection,
}

/// A stream.
pub struct Stream {
    /// Its number.
    pub id: u32,
    link: Rc<Link>,
    /// Bytes that the client takes; less than none after it changed its mind.
    pub window: Cell<i64>,
    /// Whether the client has said all.
    pub in_closed: Cell<bool>,
    out_closed: Cell<bool>,
    /// Whether it ended before its time.
    pub end: Cell<Option<End>>,
    /// Bytes that the client may send before anybody reads.
    preread: u32,
    /// Bytes that the client may send now.
    room: Cell<u32>,
    flow: Cell<Flow>,
    inbox: RefCell<Inbox>,
    /// Bytes that it has to send and waits to.
    pub(super) need: Cell<usize>,
    /// Whether it was told to go on.
    pub(super) turn: Cell<bool>,
    /// Whether it waits for its body.
    reads: Cell<bool>,
    task: Cell<Option<Waker>>,
    /// Octets of frames that were sent.
    pub sent: Cell<u64>,
}

/// How a body is let in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// As far as it may come before anybody reads it.
    Ahead,
    /// As fast as it comes.
    Wide,
    /// So many bytes at a time.
    Bounded(u32),
    /// Not at all: what comes is thrown away.
    Shut,
}

#[derive(Default)]
struct Inbox {
    pieces: VecDeque<Bytes>,
    /// Small pieces behind the others.
    tail: BytesMut,
}

impl Inbox {
    fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SMALL {
            return self.tail.extend_from_slice(&bytes);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(bytes);
    }

    fn pop(&mut self) -> Option<Bytes> {
        self.pieces.pop_front().or_else(|| (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze()))
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }
}

impl Stream {
    /// Begins a stream whose client may send `room` bytes of a body.
    pub fn new(link: &Rc<Link>, id: u32, room: u32, in_closed: bool) -> Rc<Self> {
        let stream = Rc::new(Self {
            id,
            link: Rc::clone(link),
            window: Cell::new(i64::from(link.initial.get())),
            in_closed: Cell::new(in_closed),
            out_closed: Cell::new(false),
            end: Cell::new(None),
            preread: room,
            room: Cell::new(room),
            flow: Cell::new(Flow::Ahead),
            inbox: RefCell::default(),
            need: Cell::new(0),
            turn: Cell::new(false),
            reads: Cell::new(false),
            task: Cell::new(None),
            sent: Cell::new(0),
        });
        link.streams.borrow_mut().insert(id, Rc::clone(&stream));
        stream
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.task.take() {
            waker.wake();
        }
    }

    fn listen(&self, cx: &Context<'_>) {
        let waker = self.task.take().filter(|waker| waker.will_wake(cx.waker()));
        self.task.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
    }

    /// The connection is gone.
    pub(super) fn give_up(&self) {
        self.finish(End::Connection);
    }

    fn finish(&self, end: End) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
        }
        self.in_closed.set(true);
        self.flow.set(Flow::Shut);
        self.wake();
    }

    /// The client ends the stream.
    pub fn cancel(&self, code: Code) {
        self.out_closed.set(true);
        self.finish(End::Client(code));
    }

    /// Ends the stream for what the client did.
    pub fn terminate(&self, code: Code) {
        if self.end.get().is_none() {
            self.link.reset(self.id, code);
            self.finish(End::Here);
        }
    }

    /// What is wrong with a frame of `size` octets of a body, if anything; makes room for more where the body is let in
    /// as fast as it comes.
    pub fn admit(&self, size: usize) -> Result<(), u32> {
        let room = self.room.get();
        let Some(left) = u32::try_from(size).ok().and_then(|size| room.checked_sub(size)) else { return Err(room) };
        self.room.set(left);
        if self.flow.get() == Flow::Wide && left < LOW {
            self.refill(frame::MAX_WINDOW);
        }
        Ok(())
    }

    /// Takes a piece of the body, and whether it was the last.
    pub fn receive(&self, bytes: Bytes, last: bool) {
        if self.flow.get() != Flow::Shut && !bytes.is_empty() {
            self.link.count(0, bytes.len());
            self.inbox.borrow_mut().push(bytes);
        }
        if last {
            self.in_closed.set(true);
        }
        if self.reads.replace(false) {
            self.wake();
        }
    }

    /// Lets the client send until it may send `size` bytes.
    fn refill(&self, size: u32) {
        let more = size.saturating_sub(self.room.get());
        if more > 0 && !self.in_closed.get() {
            self.room.set(size);
            self.link.control(|out| frame::window_update(out, self.id, more));
        }
    }

    /// Ends when the stream has ended before its time.
    pub async fn gone(&self) {
        std::future::poll_fn(|cx| self.poll_gone(cx)).await;
    }

    /// Ready when the stream has ended before its time.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.get().is_some() || self.link.broken.get() {
            return Poll::Ready(());
        }
        self.listen(cx);
        Poll::Pending
    }

    /// Whether it may go on with what it waits to send, on a connection with this window.
    pub(super) fn may_send(&self, window: usize) -> bool {
        self.end.get().is_some() || self.need.get() == 0 || (window > 0 && self.window.get() > 0)
    }

    /// Waits until some of `need` bytes of a body may be sent, or, with none, a head; as many of them as may.
    pub fn poll_room(self: &Rc<Self>, cx: &mut Context<'_>, need: usize) -> Poll<Result<usize, Fault>> {
        if self.end.get().is_some() || self.link.broken.get() {
            return Poll::Ready(Err(Fault::client(Stage::Send, Cause::Closed)));
        }
        let own = usize::try_from(self.window.get()).unwrap_or(0);
        let window = own.min(self.link.window.get() as usize);
        if self.link.has_room(self.turn.get()) && (need == 0 || window > 0) {
            return Poll::Ready(Ok(need.min(window)));
        }
        self.link.yields(self);
        self.need.set(need);
        self.link.wait(self);
        self.listen(cx);
        self.link.wake();
        Poll::Pending
    }

    /// Begins the answer; `write` appends the status and the fields. With `end` it is all of it.
    pub fn head(&self, end: bool, write: impl FnOnce(&Link, &mut Vec<u8>)) {
        if self.end.get().is_some() || self.out_closed.get() || self.link.broken.get() {
            return;
        }
        let mut out = self.link.out.borrow_mut();
        let frames = out.frames();
        let at = frame::begin_headers(frames, self.id, end);
        write(&self.link, frames);
        frame::end_headers(frames, at, self.link.frame.get());
        let len = frames.len() - at;
        drop(out);
        self.link.count(len, len - frame::HEAD);
        self.sent.set(self.sent.get() + len as u64);
        self.out_closed.set(end);
        self.link.yields(self);
        self.link.wake();
    }

    /// Sends the first `len` bytes of `pieces`, for which there must be room, in frames of at most `chunk` bytes.
    pub fn data(&self, pieces: &mut VecDeque<Bytes>, mut len: usize, chunk: usize, end: bool) {
        let chunk = chunk.min(self.link.frame.get()).max(1);
        let mut out = self.link.out.borrow_mut();
        let before = out.len();
        self.window.set(self.window.get() - i64::try_from(len).unwrap_or(i64::MAX));
        self.link.window.set(self.link.window.get().saturating_sub(u32::try_from(len).unwrap_or(u32::MAX)));
        self.link.count(0, len);
        loop {
            let size = len.min(chunk);
            len -= size;
            let flags = if end && len == 0 { frame::END_STREAM } else { 0 };
            frame::head(out.frames(), size, Kind::DATA, flags, self.id);
            out.take(pieces, size);
            if len == 0 {
                break;
            }
        }
        let all = out.len() - before;
        drop(out);
        self.link.count(all, 0);
        self.sent.set(self.sent.get() + all as u64);
        self.out_closed.set(end);
        self.link.yields(self);
        self.link.wake();
    }

    /// Sends early hints, if there are any; they may be lost.
    pub fn hint<'a>(&self, fields: impl Iterator<Item = Field<'a>>) {
        let mut fields = fields.peekable();
        if fields.peek().is_none() {
            return;
        }
        self.head(false, |link, out| {
            let mut encoder = link.encoder.borrow_mut();
            encoder.status(out, 103);
            fields.for_each(|field| encoder.field(out, field.name, field.value));
        });
    }

    /// Whether we have said all.
    pub fn is_out_closed(&self) -> bool {
        self.out_closed.get()
    }

    /// The stream's work is done; what the client was not told of its end, it is told now.
    pub fn close(&self, code: Code) {
        if self.end.get().is_none() && !self.link.broken.get() {
            if !self.out_closed.get() {
                self.link.reset(self.id, code);
            } else if !self.in_closed.get() {
                self.link.reset(self.id, Code::NO_ERROR);
            }
        }
        self.link.leave(self);
    }
}

/// A body on its way in.
pub struct Incoming(Rc<Stream>);

impl Incoming {
    /// The body that a stream carries.
    pub fn new(stream: Rc<Stream>) -> Self {
        Self(stream)
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.0.in_closed.get() && self.0.end.get().is_none() && self.0.inbox.borrow().is_empty()
    }

    /// Lets it in as fast as it comes: it is read into memory or a file.
    pub fn widen(&self) {
        if matches!(self.0.flow.get(), Flow::Ahead | Flow::Bounded(_)) {
            self.0.flow.set(Flow::Wide);
            self.0.refill(frame::MAX_WINDOW);
        }
    }

    /// Lets in `size` bytes of it at a time, or as many as it may come with before it is read.
    pub fn bound(&self, size: u64) {
        if self.0.flow.get() == Flow::Ahead {
            let size = u32::try_from(size).unwrap_or(u32::MAX).min(frame::MAX_WINDOW).max(self.0.preread);
            self.0.flow.set(Flow::Bounded(size));
            let grown = size - self.0.preread;
            self.0.refill(self.0.room.get() + grown);
        }
    }

    /// Wants no more of it.
    pub fn stop(&self) {
        self.0.flow.set(Flow::Shut);
        *self.0.inbox.borrow_mut() = Inbox::default();
    }

    /// The next piece, once what came before was used; nothing at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let stream = &self.0;
        if stream.end.get().is_some() {
            return Poll::Ready(Err(Fault::client(Stage::Body, Cause::Closed)));
        }
        if let Some(bytes) = stream.inbox.borrow_mut().pop() {
            return Poll::Ready(Ok(Some(bytes)));
        }
        if stream.in_closed.get() {
            return Poll::Ready(Ok(None));
        }
        match stream.flow.get() {
            Flow::Bounded(size) => stream.refill(size),
            Flow::Ahead => stream.refill(stream.preread),
            Flow::Wide | Flow::Shut => {}
        }
        stream.reads.set(true);
        stream.listen(cx);
        Poll::Pending
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

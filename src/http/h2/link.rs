//! What the streams of an HTTP/2 connection share: the frames that wait to leave, and the client's windows (RFC 9113 §5.2).
//!
//! Streams write their frames themselves. One that finds no room waits; the connection's task lets those who wait go on in
//! the order of their dependencies.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::frame::{self, Code};
use super::order::{Order, Place};
use super::output::Output;
use super::stream::Stream;
use crate::http::hpack::Encoder;

/// Bytes that wait to leave before streams must wait.
pub const ENOUGH: usize = 64 << 10;
/// Bytes of a body that a stream may write before others have their turn.
pub const TURN: usize = 32 << 10;
/// Frames that may be owed to a client who does not read, as in nginx.
const OWED: u32 = 10_000;

/// What is shared.
pub struct Link {
    /// Frames that wait to leave.
    pub out: RefCell<Output>,
    /// How fields are packed.
    pub encoder: RefCell<Encoder>,
    /// Bytes of bodies that the client takes on the connection.
    pub window: Cell<u32>,
    /// The window that streams begin with.
    pub initial: Cell<u32>,
    /// Octets of a frame's payload that the client takes.
    pub frame: Cell<usize>,
    /// The streams under way.
    pub streams: RefCell<BTreeMap<u32, Rc<Stream>>>,
    /// Which of them goes first.
    pub order: RefCell<Order>,
    /// Those that wait for room, in the order they came.
    waiting: RefCell<Vec<Rc<Stream>>>,
    /// Those that were told to go on and have not done so yet.
    turns: Cell<usize>,
    /// Frames of the connection's own that wait to leave.
    owed: Cell<u32>,
    /// Octets that came and left, and those of them that were heads and bodies.
    pub traffic: Cell<(u64, u64)>,
    /// Whether nothing more is to be sent.
    pub broken: Cell<bool>,
    task: Cell<Option<Waker>>,
}

impl Link {
    /// A connection on which nothing was said.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            out: RefCell::default(),
            encoder: RefCell::default(),
            window: Cell::new(frame::WINDOW),
            initial: Cell::new(frame::WINDOW),
            frame: Cell::new(frame::FRAME_SIZE),
            streams: RefCell::default(),
            order: RefCell::default(),
            waiting: RefCell::default(),
            turns: Cell::new(0),
            owed: Cell::new(0),
            traffic: Cell::new((0, 0)),
            broken: Cell::new(false),
            task: Cell::new(None),
        })
    }

    /// The stream of this number, if it is under way.
    pub fn stream(&self, number: u32) -> Option<Rc<Stream>> {
        self.streams.borrow().get(&number).cloned()
    }

    /// Has the connection's task look at what there is.
    pub fn wake(&self) {
        if let Some(waker) = self.task.take() {
            waker.wake();
        }
    }

    /// What happens now, the connection's task sees by itself.
    pub fn hush(&self) {
        self.task.set(None);
    }

    /// This is the connection's task, which waits.
    pub fn listen(&self, cx: &Context<'_>) {
        let waker = self.task.take().filter(|waker| waker.will_wake(cx.waker()));
        self.task.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
    }

    /// Counts octets that came or left, and how many of them carry requests and responses.
    pub fn count(&self, all: usize, payload: usize) {
        let (before, carried) = self.traffic.get();
        self.traffic.set((before + all as u64, carried + payload as u64));
    }

    /// Whether far more came and left than requests and responses can explain.
    pub fn is_flooded(&self) -> bool {
        let (all, payload) = self.traffic.get();
        self.owed.get() > OWED || all / 8 > payload + (1 << 20)
    }

    /// Queues a frame of the connection's own.
    pub fn control(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.broken.get() {
            return;
        }
        let mut out = self.out.borrow_mut();
        let before = out.len();
        write(out.frames());
        self.count(out.len() - before, 0);
        self.owed.set(self.owed.get() + 1);
        drop(out);
        self.wake();
    }

    /// Queues the end of a stream.
    pub fn reset(&self, stream: u32, code: Code) {
        self.control(|out| frame::rst_stream(out, stream, code));
    }

    /// All that was queued has left.
    pub fn flushed(&self) {
        self.owed.set(0);
    }

    /// Whether a stream with something to say may say it now.
    pub(super) fn has_room(&self, own_turn: bool) -> bool {
        let window = self.window.get() as usize;
        let first =
            own_turn || (self.turns.get() == 0 && !self.waiting.borrow().iter().any(|other| other.may_send(window)));
        first && self.out.borrow().len() < ENOUGH
    }

    /// Lets a stream wait for room.
    pub(super) fn wait(&self, stream: &Rc<Stream>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|other| Rc::ptr_eq(other, stream)) {
            waiting.push(Rc::clone(stream));
        }
    }

    /// A stream has used its turn, or does not want it any more.
    pub(super) fn yields(&self, stream: &Stream) {
        if stream.turn.replace(false) {
            self.turns.set(self.turns.get().saturating_sub(1));
        }
    }

    /// A stream is no more.
    pub(super) fn leave(&self, stream: &Stream) {
        self.yields(stream);
        self.waiting.borrow_mut().retain(|other| other.id != stream.id);
        self.streams.borrow_mut().remove(&stream.id);
        self.order.borrow_mut().close(stream.id);
        self.wake();
    }

    /// Lets those who wait go on, as far as there is room.
    pub fn grant(&self) {
        let mut room = ENOUGH.saturating_sub(self.out.borrow().len());
        if self.turns.get() > 0 || room == 0 || self.waiting.borrow().is_empty() {
            return;
        }
        let mut window = self.window.get() as usize;
        let mut ready = Vec::new();
        self.waiting.borrow_mut().retain(|stream| {
            let goes = stream.may_send(window);
            if goes {
                ready.push(Rc::clone(stream));
            }
            !goes
        });
        let mut ready = sorted(&self.order.borrow(), ready).into_iter().peekable();
        let best = ready.peek().map(|(place, _)| *place);
        // Those who come behind the best must see first what these leave.
        let goes =
            |place: &Place, stream: &Stream, room, window| room > 0 && stream.may_send(window) && best == Some(*place);
        while let Some((_, stream)) = ready.next_if(|(place, stream)| goes(place, stream, room, window)) {
            let need = stream.need.get();
            room = room.saturating_sub(need.max(frame::HEAD));
            window = window.saturating_sub(need);
            stream.turn.set(true);
            self.turns.set(self.turns.get() + 1);
            stream.wake();
        }
        // The others were there before those who come now.
        let mut waiting = self.waiting.borrow_mut();
        waiting.splice(0..0, ready.map(|(_, stream)| stream));
    }

    /// Nothing more can be sent: all streams are given up.
    pub fn give_up(&self) {
        self.broken.set(true);
        self.waiting.borrow_mut().clear();
        self.turns.set(0);
        for stream in std::mem::take(&mut *self.streams.borrow_mut()).into_values() {
            stream.turn.set(false);
            stream.give_up();
        }
    }
}

/// Streams with their places, those first that go first.
fn sorted(order: &Order, streams: Vec<Rc<Stream>>) -> Vec<(Place, Rc<Stream>)> {
    let mut placed: Vec<_> = streams.into_iter().map(|stream| (order.place(stream.id), stream)).collect();
    placed.sort_by(|(a, _), (b, _)| b.precedes(*a).cmp(&a.precedes(*b)));
    placed
}

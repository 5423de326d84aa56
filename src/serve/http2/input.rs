//! Frames from a client, taken as they come, and nginx's words where they are wrong (RFC 9113 §4, §6).

use std::rc::Rc;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::Connection;
use super::control::{ping, reset, setting, window_update, wrong_stream};
use super::head::{Bad, Read, Reader};
use crate::http::h2::Stream;
use crate::http::h2::frame::{self, Code, Dependency, Head, Kind};
use crate::http::hpack::{self, Decoder};
use crate::net::clock;

/// Octets of the table that clients may pack fields with.
const TABLE: usize = 4096;
/// The first line of the preface with its end, which is looked at before the rest came.
const PREFACE_LINE: usize = 18;
/// Streams and PRIORITY frames that a client may waste, at least.
const PATIENCE: u32 = 100;

/// What is expected next.
enum State {
    Preface,
    Head,
    /// So many octets of a body, and of padding behind them.
    Data {
        stream: Option<Rc<Stream>>,
        left: usize,
        padding: usize,
        last: bool,
    },
    /// So many octets of a block of fields, and of padding.
    Block {
        left: usize,
        padding: usize,
    },
    /// So many octets of settings, and by how much windows change.
    Settings {
        left: usize,
    },
    /// So many octets of no interest.
    Skip(usize),
}

/// Fields on their way in.
struct Block {
    id: u32,
    stream: Option<Rc<Stream>>,
    bytes: Vec<u8>,
    /// Octets of all frames' payloads that hold it.
    size: usize,
    ended: bool,
    started: Instant,
}

/// How far the reading got.
pub struct Input {
    state: State,
    block: Option<Block>,
    decoder: Decoder,
    /// The last stream that was begun.
    pub last: u32,
    /// Whether the client knows our settings.
    acknowledged: bool,
    /// Streams that were begun since the last read.
    pub fresh: u32,
    refused: u32,
    /// PRIORITY frames that are still welcome.
    priorities: u32,
    /// Bytes of bodies that may come.
    room: u32,
}

/// The code to end the connection with.
pub type Done<T> = Result<T, Code>;

impl Input {
    /// Nothing was read.
    pub fn new(most: u32) -> Self {
        Self {
            state: State::Preface,
            block: None,
            decoder: Decoder::new(TABLE),
            last: 0,
            acknowledged: false,
            fresh: 0,
            refused: 0,
            priorities: most.max(PATIENCE),
            room: frame::MAX_WINDOW,
        }
    }

    /// Whether part of something came; `rest` is what is still unread.
    pub fn is_partial(&self, rest: &[u8]) -> bool {
        !rest.is_empty() || self.block.is_some() || !matches!(self.state, State::Head)
    }

    /// The stream whose fields are under way.
    pub fn in_block(&self) -> Option<u32> {
        self.block.as_ref().filter(|block| block.stream.is_some()).map(|block| block.id)
    }

    /// The rest of the fields that are under way does not come, for this reason.
    pub fn give_up_block(&mut self, at: &Rc<Connection>, why: Bad) {
        let Some(block) = &mut self.block else { return };
        let Some(stream) = block.stream.take() else { return };
        let mut reader = Reader::new(&at.listen, block.bytes.len());
        // The table must stay as it is, for the rest may come yet.
        let _ = self.decoder.clone().decode(&block.bytes, &mut |name, value| reader.field(name, value));
        at.begin(stream, Read { size: block.size, ..reader.stall(why) }, block.started);
    }

    /// Takes all that came.
    pub fn advance(&mut self, at: &Rc<Connection>, input: &mut BytesMut) -> Done<()> {
        while self.step(at, input)? {}
        Ok(())
    }

    /// Takes what comes next; false if more of it must come.
    fn step(&mut self, at: &Rc<Connection>, input: &mut BytesMut) -> Done<bool> {
        match &mut self.state {
            State::Preface => self.preface(at, input),
            State::Head => {
                let Some(head) = Head::read(input) else { return Ok(false) };
                self.frame(at, head, input)
            }
            State::Data { stream, left, padding, last } => {
                if input.is_empty() && *left > 0 {
                    return Ok(false);
                }
                let piece = input.split_to(input.len().min(*left)).freeze();
                *left -= piece.len();
                let whole = *left == 0;
                if let Some(stream) = stream {
                    stream.receive(piece, *last && whole);
                }
                if whole {
                    self.state = State::Skip(*padding);
                }
                Ok(true)
            }
            State::Block { left, padding } => {
                let (left, padding) = (*left, *padding);
                self.fields(at, input, left, padding)
            }
            State::Settings { left } => {
                let left = *left;
                self.settings(at, input, left)
            }
            State::Skip(left) => {
                let skipped = input.len().min(*left);
                input.advance(skipped);
                *left -= skipped;
                if *left > 0 {
                    return Ok(false);
                }
                self.state = State::Head;
                Ok(true)
            }
        }
    }

    fn preface(&mut self, at: &Connection, input: &mut BytesMut) -> Done<bool> {
        let len = if input.len() < frame::PREFACE.len() { PREFACE_LINE } else { frame::PREFACE.len() };
        if input.len() < len {
            return Ok(false);
        }
        if input.get(..len) != frame::PREFACE.get(..len) {
            return at.bad(Code::PROTOCOL_ERROR, "invalid connection preface");
        }
        if len == PREFACE_LINE {
            return Ok(false);
        }
        input.advance(len);
        self.state = State::Head;
        Ok(true)
    }

    /// Begins a frame, of which the head has come.
    fn frame(&mut self, at: &Rc<Connection>, head: Head, input: &mut BytesMut) -> Done<bool> {
        if self.block.is_some() {
            return self.continuation(at, head, input);
        }
        // Octets of the payload that must be there before anything can be said.
        let needed = match head.kind {
            Kind::DATA => usize::from(head.has(frame::PADDED)).min(head.len),
            Kind::HEADERS => prefix(head).min(head.len),
            _ if fixed(head).is_some() => head.len.min(8),
            _ => 0,
        };
        if let Some((kind, false)) = fixed(head) {
            let text = format!("client sent {kind} frame with incorrect length {}", head.len);
            return at.bad(Code::FRAME_SIZE_ERROR, &text);
        }
        let Some(payload) = input.get(frame::HEAD..frame::HEAD + needed) else { return Ok(false) };
        let mut start = [0; 8];
        start.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
        input.advance(frame::HEAD);
        self.state = State::Skip(head.len);
        match head.kind {
            Kind::DATA => self.data(at, head, start, input)?,
            Kind::HEADERS => self.headers(at, head, start, input)?,
            Kind::PRIORITY => self.priority(at, head, start)?,
            Kind::RST_STREAM => reset(at, head, start)?,
            Kind::SETTINGS => self.begin_settings(at, head)?,
            Kind::PUSH_PROMISE => return at.bad(Code::PROTOCOL_ERROR, "client sent PUSH_PROMISE frame"),
            Kind::PING => ping(at, head, start)?,
            Kind::GOAWAY if head.stream != 0 => return wrong_stream(at, "GOAWAY"),
            Kind::GOAWAY => {}
            Kind::WINDOW_UPDATE => window_update(at, head, start)?,
            Kind::CONTINUATION => {
                return at.bad(Code::PROTOCOL_ERROR, "client sent unexpected CONTINUATION frame");
            }
            Kind(kind) => at.log(&format!("client sent frame with unknown type {kind}")),
        }
        Ok(true)
    }

    fn data(&mut self, at: &Connection, head: Head, start: [u8; 8], input: &mut BytesMut) -> Done<()> {
        let (size, mut left, mut padding) = (head.len, head.len, 0);
        if head.has(frame::PADDED) {
            let wrong = "client sent padded DATA frame with incorrect length";
            if size == 0 {
                return at.bad(Code::FRAME_SIZE_ERROR, &format!("{wrong}: 0"));
            }
            padding = usize::from(start[0]);
            if padding >= size {
                return at.bad(Code::PROTOCOL_ERROR, &format!("{wrong}: {size}, padding: {padding}"));
            }
            input.advance(1);
            left -= 1 + padding;
        }
        if head.stream == 0 {
            return wrong_stream(at, "DATA");
        }
        let Some(room) = u32::try_from(size).ok().and_then(|size| self.room.checked_sub(size)) else {
            let room = self.room;
            let text = format!(
                "client violated connection flow control: received DATA frame length {size}, available window {room}"
            );
            return at.bad(Code::FLOW_CONTROL_ERROR, &text);
        };
        self.room = room;
        if room < frame::MAX_WINDOW / 4 {
            at.link.control(|out| frame::window_update(out, 0, frame::MAX_WINDOW - room));
            self.room = frame::MAX_WINDOW;
        }
        let stream = at.link.stream(head.stream).filter(|stream| takes(at, stream, size));
        self.state = State::Data { stream, left, padding, last: head.has(frame::END_STREAM) };
        Ok(())
    }

    fn headers(&mut self, at: &Rc<Connection>, head: Head, start: [u8; 8], input: &mut BytesMut) -> Done<()> {
        let (prefix, id) = (prefix(head), head.stream);
        let wrong = |text: String| at.bad(Code::FRAME_SIZE_ERROR, &text);
        match head.len.cmp(&prefix) {
            std::cmp::Ordering::Less => {
                return wrong(format!("client sent HEADERS frame with incorrect length {}", head.len));
            }
            std::cmp::Ordering::Equal => {
                return wrong("client sent HEADERS frame with empty header block".to_owned());
            }
            std::cmp::Ordering::Greater => {}
        }
        if at.goaway.get() {
            return Ok(());
        }
        input.advance(prefix);
        let (mut left, mut padding, mut rest) = (head.len - prefix, 0, &start[..]);
        if head.has(frame::PADDED) {
            padding = usize::from(start[0]);
            rest = rest.get(1..).unwrap_or_default();
            if padding > left {
                let text =
                    format!("client sent padded HEADERS frame with incorrect length: {left}, padding: {padding}");
                return at.bad(Code::PROTOCOL_ERROR, &text);
            }
            left -= padding;
        }
        let dependency = Dependency::read(rest).filter(|_| head.has(frame::PRIORITY)).map(|(on, _)| on);
        if id % 2 == 0 || id <= self.last {
            let last = self.last;
            let text = format!("client sent HEADERS frame with incorrect identifier {id}, the last was {last}");
            return at.bad(Code::PROTOCOL_ERROR, &text);
        }
        if dependency.is_some_and(|on| on.on == id) {
            let text = format!("client sent HEADERS frame for stream {id} with incorrect dependency");
            return at.bad(Code::PROTOCOL_ERROR, &text);
        }
        self.last = id;
        let stream = self.open(at, head, dependency)?;
        let (bytes, ended) = (Vec::new(), head.has(frame::END_HEADERS));
        self.block = Some(Block { id, stream, bytes, size: left, ended, started: clock::instant() });
        self.state = State::Block { left, padding };
        Ok(())
    }

    /// Begins a stream, or refuses it.
    fn open(&mut self, at: &Rc<Connection>, head: Head, dependency: Option<Dependency>) -> Done<Option<Rc<Stream>>> {
        let (most, last) = (at.most(), head.has(frame::END_STREAM));
        let active = at.link.streams.borrow().len();
        self.fresh += 1;
        let refusal = if active >= most as usize {
            Some(format!("concurrent streams exceeded {active}"))
        } else if self.fresh > most.saturating_mul(2) {
            Some("client sent too many streams at once".to_owned())
        } else if !self.acknowledged && !last && at.preread() < frame::WINDOW {
            Some("client sent stream with data before settings were acknowledged".to_owned())
        } else {
            None
        };
        if let Some(text) = refusal {
            at.log(&text);
            self.refused += 1;
            if self.refused > most.max(PATIENCE) + 1 {
                return at.bad(Code::NO_ERROR, "client sent too many refused streams");
            }
            at.link.reset(head.stream, Code::REFUSED_STREAM);
            return Ok(None);
        }
        self.priorities = self.priorities.saturating_add(most);
        let stream = Stream::new(&at.link, head.stream, at.preread(), last);
        let mut order = at.link.order.borrow_mut();
        order.open(head.stream);
        if let Some(on) = dependency {
            order.depend(head.stream, on, |id| at.link.streams.borrow().contains_key(&id));
        }
        drop(order);
        at.opened(self.last);
        Ok(Some(stream))
    }

    fn continuation(&mut self, at: &Connection, head: Head, input: &mut BytesMut) -> Done<bool> {
        let Some(block) = &mut self.block else { return Ok(false) };
        if head.kind != Kind::CONTINUATION {
            let text = "client sent inappropriate frame while CONTINUATION was expected";
            return at.bad(Code::PROTOCOL_ERROR, text);
        }
        if head.stream != block.id {
            return at.bad(Code::PROTOCOL_ERROR, "client sent CONTINUATION frame with incorrect identifier");
        }
        block.ended = head.has(frame::END_HEADERS);
        block.size += head.len;
        input.advance(frame::HEAD);
        self.state = State::Block { left: head.len, padding: 0 };
        Ok(true)
    }

    /// Takes part of a block of fields.
    fn fields(&mut self, at: &Rc<Connection>, input: &mut BytesMut, left: usize, padding: usize) -> Done<bool> {
        let Some(block) = &mut self.block else { return Ok(false) };
        if block.ended && block.bytes.is_empty() && input.len() >= left {
            let bytes = input.split_to(left);
            self.state = State::Skip(padding);
            return self.complete(at, &bytes).map(|()| true);
        }
        if input.is_empty() && left > 0 {
            return Ok(false);
        }
        let large = at.listen.default.root.loc.core.server.large_client_header_buffers;
        let most = 2 * large.size.saturating_mul(large.number) + 4096;
        let piece = input.split_to(input.len().min(left));
        block.bytes.extend_from_slice(&piece);
        if block.bytes.len() as u64 > most {
            return at.bad(Code::ENHANCE_YOUR_CALM, "client sent too large header");
        }
        let left = left - piece.len();
        self.state = if left > 0 { State::Block { left, padding } } else { State::Skip(padding) };
        if left == 0 && block.ended {
            let bytes = std::mem::take(&mut block.bytes);
            self.complete(at, &bytes)?;
        }
        Ok(true)
    }

    /// A whole block of fields came.
    fn complete(&mut self, at: &Rc<Connection>, bytes: &[u8]) -> Done<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        let mut reader = Reader::new(&at.listen, bytes.len());
        if let Err(error) = self.decoder.decode(bytes, &mut |name, value| reader.field(name, value)) {
            let code = match error {
                hpack::Error::Truncated => Code::FRAME_SIZE_ERROR,
                hpack::Error::EmptyName => Code::PROTOCOL_ERROR,
                _ => Code::COMPRESSION_ERROR,
            };
            return at.bad(code, &format!("client sent {error}"));
        }
        let read = Read { size: block.size, ..reader.finish() };
        if let Some(text) = read.excess {
            return at.bad(Code::ENHANCE_YOUR_CALM, text);
        }
        if let Some(stream) = block.stream {
            at.link.count(0, block.size);
            at.begin(stream, read, block.started);
        }
        Ok(())
    }

    fn priority(&mut self, at: &Connection, head: Head, start: [u8; 8]) -> Done<()> {
        self.priorities = self.priorities.saturating_sub(1);
        if self.priorities == 0 {
            return at.bad(Code::ENHANCE_YOUR_CALM, "client sent too many PRIORITY frames");
        }
        let Some((on, _)) = Dependency::read(&start) else { return Ok(()) };
        if head.stream == 0 {
            return wrong_stream(at, "PRIORITY");
        }
        if on.on == head.stream {
            let text = format!("client sent PRIORITY frame for stream {} with incorrect dependency", head.stream);
            return at.bad(Code::PROTOCOL_ERROR, &text);
        }
        let is_open = |id| at.link.streams.borrow().contains_key(&id);
        at.link.order.borrow_mut().depend(head.stream, on, is_open);
        Ok(())
    }

    fn begin_settings(&mut self, at: &Connection, head: Head) -> Done<()> {
        if head.stream != 0 {
            return wrong_stream(at, "SETTINGS");
        }
        if head.flags == frame::ACK {
            if head.len != 0 {
                let text = "client sent SETTINGS frame with the ACK flag and nonzero length";
                return at.bad(Code::FRAME_SIZE_ERROR, text);
            }
            self.acknowledged = true;
            return Ok(());
        }
        if !head.len.is_multiple_of(6) {
            let text = format!("client sent SETTINGS frame with incorrect length {}", head.len);
            return at.bad(Code::FRAME_SIZE_ERROR, &text);
        }
        self.state = State::Settings { left: head.len };
        Ok(())
    }

    fn settings(&mut self, at: &Connection, input: &mut BytesMut, left: usize) -> Done<bool> {
        let there = input.len().min(left) / 6 * 6;
        for (id, value) in frame::read_settings(&input.split_to(there)) {
            setting(at, id, value)?;
        }
        let left = left - there;
        self.state = if left > 0 { State::Settings { left } } else { State::Head };
        if left == 0 {
            at.link.control(frame::settings_ack);
        }
        Ok(there > 0 || left == 0)
    }
}

/// Octets before the fields of HEADERS.
fn prefix(head: Head) -> usize {
    usize::from(head.has(frame::PADDED)) + if head.has(frame::PRIORITY) { 5 } else { 0 }
}

/// The name of a frame whose length is fixed, and whether it has it.
fn fixed(head: Head) -> Option<(&'static str, bool)> {
    Some(match head.kind {
        Kind::PRIORITY => ("PRIORITY", head.len == 5),
        Kind::RST_STREAM => ("RST_STREAM", head.len == 4),
        Kind::PING => ("PING", head.len == 8),
        Kind::GOAWAY => ("GOAWAY", head.len >= 8),
        Kind::WINDOW_UPDATE => ("WINDOW_UPDATE", head.len == 4),
        _ => return None,
    })
}

/// Whether a stream takes a frame of `size` octets of its body; it ends where the client may not send it.
fn takes(at: &Connection, stream: &Stream, size: usize) -> bool {
    let id = stream.id;
    if let Err(room) = stream.admit(size) {
        at.log(&format!(
            "client violated flow control for stream {id}: \
             received DATA frame length {size}, available window {room}"
        ));
        stream.terminate(Code::FLOW_CONTROL_ERROR);
        return false;
    }
    if stream.in_closed.get() {
        at.log(&format!("client sent DATA frame for half-closed stream {id}"));
        stream.terminate(Code::STREAM_CLOSED);
        return false;
    }
    true
}

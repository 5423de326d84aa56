//! What a server sends on a connection with one stream (RFC 9113 §5, §6), without I/O; what breaks the rules in nginx's words.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};

use super::fields::{self, Block};
use super::out::Out;
use crate::http::h2::frame::{self, Head, Kind};
use crate::http::{Cause, Headers};

/// Settings or pings that may wait for their answers to leave.
const ANSWERS: u32 = 1000;

/// Bytes of the table that fields may be packed with as long as nobody says otherwise (§6.5.2).
const TABLE: u32 = 4096;

/// What a connection keeps from one stream for the next: all of it in bytes but the number of the last stream.
pub struct Link {
    last: Cell<u32>,
    /// The room that the server gives a stream at first.
    initial: Cell<u32>,
    /// The room that the server gives all streams.
    send: Cell<u32>,
    /// The room that the server has left.
    receive: Cell<u32>,
    /// What the server allows a table of fields, if it is told next that there is none.
    table: Cell<Option<u32>>,
}

impl Link {
    /// Whether the next fields must begin with the size of the table they use, which is none (RFC 7541 §4.2).
    pub fn take_table(&self) -> Option<usize> {
        self.table.take().and_then(|size| usize::try_from(size).ok())
    }
}

impl Default for Link {
    fn default() -> Self {
        let window = || Cell::new(frame::WINDOW);
        Self {
            last: Cell::new(0),
            initial: window(),
            send: window(),
            receive: Cell::new(frame::MAX_WINDOW),
            table: Cell::new(None),
        }
    }
}

/// A stream: what comes of it, and the room it has.
pub struct Frames {
    link: Rc<Link>,
    /// Its number.
    pub id: u32,
    /// What is to leave.
    pub out: Out,
    /// The room that the server gives it, which may be taken back.
    send: i64,
    receive: u32,
    /// The frame that is being read, with the bytes that are left of it.
    frame: Option<Head>,
    /// Of these bytes, those of its padding, once that is known.
    padding: Option<usize>,
    /// Fields that are being read, and whether they end the stream.
    block: Option<(Vec<u8>, bool)>,
    /// The most that they may take, in bytes.
    limit: u64,
    /// Whether the head of the reply came.
    headed: bool,
    /// What is to come of the body, where that is known.
    pub length: Option<u64>,
    /// Whether the reply has ended.
    pub done: bool,
    reset: bool,
    /// Whether the server takes no more streams.
    pub leaving: bool,
    settings: u32,
    pings: u32,
}

/// What came.
pub enum Event {
    /// Nothing as long as no more comes.
    More,
    /// A head of a reply; it may be interim.
    Head(Block),
    /// Bytes of the body.
    Data(Bytes),
    /// The fields behind the body.
    Trailers(Headers),
    /// The end, and no more than a part of a frame behind it.
    Done,
}

fn broken<T>(text: impl Into<String>) -> Result<T, Cause> {
    Err(Cause::Protocol(text.into()))
}

impl Frames {
    /// The next stream of a connection, whose fields take at most `limit` bytes.
    pub fn new(link: &Rc<Link>, limit: u64) -> Self {
        let id = if link.last.get() == 0 { 1 } else { link.last.get() + 2 };
        link.last.set(id);
        Self {
            link: Rc::clone(link),
            id,
            out: Out::default(),
            send: i64::from(link.initial.get()),
            receive: frame::MAX_WINDOW,
            frame: None,
            padding: None,
            block: None,
            limit,
            headed: false,
            length: None,
            done: false,
            reset: false,
            leaving: false,
            settings: 0,
            pings: 0,
        }
    }

    /// Bytes of the request's body that the server has room for.
    pub fn room(&self) -> usize {
        let room = self.send.clamp(0, i64::from(self.link.send.get()));
        usize::try_from(room).unwrap_or_default()
    }

    /// Adds a frame of the body to what leaves.
    pub fn data(&mut self, bytes: Bytes, end: bool) {
        let len = bytes.len();
        let taken = u32::try_from(len).unwrap_or(u32::MAX);
        self.send -= i64::from(taken);
        self.link.send.set(self.link.send.get().saturating_sub(taken));
        let flags = if end { frame::END_STREAM } else { 0 };
        self.out.frame(|out| frame::head(out, len, Kind::DATA, flags, self.id));
        self.out.push(bytes);
    }

    /// Takes the next of what came off the start of `buf`.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Event, Cause> {
        loop {
            let Some(frame) = self.frame else {
                let Some(head) = Head::read(buf) else { return self.pause() };
                buf.advance(frame::HEAD);
                self.begin(head)?;
                (self.frame, self.padding) = (Some(head), None);
                continue;
            };
            let event = match frame.kind {
                Kind::DATA => self.body(frame, buf)?,
                Kind::HEADERS | Kind::CONTINUATION => self.fields(frame, buf)?,
                kind if kind.0 < Kind::CONTINUATION.0 && kind != Kind::PRIORITY => {
                    if buf.len() < frame.len {
                        return Ok(Event::More);
                    }
                    self.frame = None;
                    self.control(frame, &buf.split_to(frame.len))?;
                    continue;
                }
                _ => self.skip(frame, buf),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// What it means that there is no other frame.
    fn pause(&self) -> Result<Event, Cause> {
        match self.length {
            _ if !self.done => Ok(Event::More),
            Some(1..) => broken("upstream prematurely closed stream"),
            _ => Ok(Event::Done),
        }
    }

    /// Whether a frame may begin here.
    fn begin(&mut self, head: Head) -> Result<(), Cause> {
        let Head { len, kind, stream, .. } = head;
        if len > frame::FRAME_SIZE {
            return broken(format!("upstream sent too large http2 frame: {len}"));
        }
        let early = kind == Kind::DATA && !self.headed;
        if early || (kind == Kind::CONTINUATION) != self.block.is_some() {
            return broken(format!("upstream sent unexpected http2 frame: {}", kind.0));
        }
        if kind == Kind::DATA {
            self.receive(head)?;
        }
        if stream != 0 && stream != self.id {
            return broken(format!("upstream sent frame for unknown stream {stream}"));
        }
        if stream != 0 && self.done && !matches!(kind, Kind::RST_STREAM | Kind::WINDOW_UPDATE) {
            return broken(format!("upstream sent frame for closed stream {stream}"));
        }
        let name = match kind {
            Kind::GOAWAY => "goaway",
            Kind::SETTINGS => "settings",
            Kind::PING => "ping",
            Kind::RST_STREAM => "rst stream",
            Kind::WINDOW_UPDATE => "window update",
            Kind::HEADERS => "headers",
            Kind::PUSH_PROMISE => return broken("upstream sent unexpected push promise frame"),
            _ => return Ok(()),
        };
        if stream != 0 && matches!(kind, Kind::GOAWAY | Kind::SETTINGS | Kind::PING) {
            return broken(format!("upstream sent {name} frame with non-zero stream id: {stream}"));
        }
        let answer = head.has(frame::ACK);
        if kind == Kind::SETTINGS && answer && len != 0 {
            return broken(format!("upstream sent settings frame with ack flag and non-zero length: {len}"));
        }
        let fits = match kind {
            Kind::GOAWAY => len >= 8,
            Kind::SETTINGS => len % 6 == 0,
            Kind::PING => len == 8,
            Kind::HEADERS => len >= prefix(head),
            _ => len == 4,
        };
        if !fits {
            return broken(format!("upstream sent {name} frame with invalid length: {len}"));
        }
        match kind {
            Kind::PING if answer => broken("upstream sent ping frame with ack flag"),
            Kind::HEADERS => {
                self.block = Some((Vec::new(), head.has(frame::END_STREAM)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the room that a frame of the body needs, and makes new room when three quarters are gone.
    fn receive(&mut self, head: Head) -> Result<(), Cause> {
        let (len, stream) = (head.len, head.stream);
        if stream != self.id {
            return broken(format!("upstream sent data frame for unknown stream {stream}"));
        }
        let taken = u32::try_from(len).unwrap_or(u32::MAX);
        for (what, window) in [("stream", self.receive), ("connection", self.link.receive.get())] {
            if taken > window {
                return broken(format!(
                    "upstream violated {what} flow control, received {len} data frame with window {window}"
                ));
            }
        }
        self.receive -= taken;
        self.link.receive.set(self.link.receive.get() - taken);
        if self.receive.min(self.link.receive.get()) < frame::MAX_WINDOW / 4 {
            let (all, own) = (frame::MAX_WINDOW - self.link.receive.get(), frame::MAX_WINDOW - self.receive);
            self.out.frame(|out| {
                frame::window_update(out, 0, all);
                frame::window_update(out, self.id, own);
            });
            self.receive = frame::MAX_WINDOW;
            self.link.receive.set(frame::MAX_WINDOW);
        }
        Ok(())
    }

    /// Goes on with a frame of the body.
    fn body(&mut self, mut frame: Head, buf: &mut BytesMut) -> Result<Option<Event>, Cause> {
        let Some(padding) = self.padding else {
            if frame.has(frame::PADDED) && frame.len == 0 {
                return broken("upstream sent too short http2 frame");
            }
            return Ok((!self.unprefix(frame, buf, usize::from(frame.has(frame::PADDED)))?).then_some(Event::More));
        };
        let taken = buf.len().min(frame.len - padding);
        let bytes = buf.split_to(taken).freeze();
        frame.len -= taken;
        if frame.len == padding {
            self.skip(frame, buf);
        } else {
            self.frame = Some(frame);
        }
        if self.frame.is_none() && frame.has(frame::END_STREAM) {
            self.done = true;
        }
        if bytes.is_empty() {
            return Ok(self.frame.is_some().then_some(Event::More));
        }
        if let Some(length) = &mut self.length {
            match length.checked_sub(bytes.len() as u64) {
                Some(left) => *length = left,
                None => return broken("upstream sent response body larger than indicated content length"),
            }
        }
        Ok(Some(Event::Data(bytes)))
    }

    /// Reads what stands in a frame before its content; false as long as more of it must come.
    fn unprefix(&mut self, mut frame: Head, buf: &mut BytesMut, len: usize) -> Result<bool, Cause> {
        if buf.len() < len {
            return Ok(false);
        }
        let bytes = buf.split_to(len);
        frame.len -= len;
        let padding = if frame.has(frame::PADDED) && frame.kind != Kind::CONTINUATION {
            bytes.first().copied().map_or(0, usize::from)
        } else {
            0
        };
        if padding > frame.len {
            let left = frame.len;
            return broken(format!("upstream sent http2 frame with too long padding: {padding} in frame {left}"));
        }
        (self.frame, self.padding) = (Some(frame), Some(padding));
        Ok(true)
    }

    /// Reads over what is left of a frame.
    fn skip(&mut self, mut frame: Head, buf: &mut BytesMut) -> Option<Event> {
        let taken = buf.len().min(frame.len);
        buf.advance(taken);
        frame.len -= taken;
        self.frame = (frame.len > 0).then_some(frame);
        // What is left of it is padding.
        self.padding = Some(frame.len);
        self.frame.map(|_| Event::More)
    }

    /// Goes on with a frame of fields.
    fn fields(&mut self, mut frame: Head, buf: &mut BytesMut) -> Result<Option<Event>, Cause> {
        let Some(padding) = self.padding else {
            return Ok((!self.unprefix(frame, buf, prefix(frame))?).then_some(Event::More));
        };
        let taken = buf.len().min(frame.len - padding);
        let part = buf.split_to(taken);
        frame.len -= taken;
        if let Some((block, _)) = &mut self.block {
            block.extend_from_slice(&part);
            if block.len() as u64 > self.limit {
                let words = || broken("upstream sent too large http2 header");
                return if self.headed { words() } else { Err(Cause::TooLarge) };
            }
        }
        if frame.len > padding {
            self.frame = Some(frame);
            return Ok(Some(Event::More));
        }
        if let Some(more) = self.skip(frame, buf) {
            return Ok(Some(more));
        }
        if !frame.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let (block, end) = self.block.take().unwrap_or_default();
        let block = fields::read(&block, self.headed, self.limit).map_err(Cause::Protocol)?;
        if self.headed {
            if !end {
                return broken("upstream sent trailer without end stream flag");
            }
            self.done = true;
            return Ok(Some(Event::Trailers(block.headers)));
        }
        if block.status == 103 && end {
            return broken("upstream prematurely closed stream");
        }
        self.headed = block.status != 103;
        self.done = end;
        Ok(Some(Event::Head(block)))
    }

    /// Obeys a frame that is about the stream or the connection.
    fn control(&mut self, head: Head, payload: &[u8]) -> Result<(), Cause> {
        let number = frame::read_number(payload).unwrap_or_default();
        match head.kind {
            Kind::RST_STREAM if number != 0 || !self.done => {
                broken(format!("upstream rejected request with error {number}"))
            }
            Kind::RST_STREAM if self.reset => broken(format!("upstream sent frame for closed stream {}", head.stream)),
            Kind::RST_STREAM => {
                self.reset = true;
                Ok(())
            }
            Kind::GOAWAY => match frame::read_goaway(payload) {
                Some((last, code)) if last < self.id => broken(format!("upstream sent goaway with error {}", code.0)),
                _ => {
                    self.leaving = true;
                    Ok(())
                }
            },
            Kind::WINDOW_UPDATE => self.widen(head.stream, number & frame::MAX_WINDOW),
            Kind::SETTINGS if head.has(frame::ACK) => Ok(()),
            Kind::SETTINGS => {
                count(&mut self.settings, &self.out, "settings")?;
                for (id, value) in frame::read_settings(payload) {
                    match id {
                        frame::INITIAL_WINDOW_SIZE => self.set_initial(value)?,
                        frame::HEADER_TABLE_SIZE if value < TABLE => self.link.table.set(Some(value)),
                        _ => {}
                    }
                }
                self.out.frame(frame::settings_ack);
                Ok(())
            }
            _ => {
                count(&mut self.pings, &self.out, "ping")?;
                let octets = payload.first_chunk().copied().unwrap_or_default();
                self.out.frame(|out| frame::ping(out, frame::ACK, octets));
                Ok(())
            }
        }
    }

    fn widen(&mut self, stream: u32, by: u32) -> Result<(), Cause> {
        if by == 0 {
            return broken("upstream sent zero window update");
        }
        let now = if stream == 0 { i64::from(self.link.send.get()) } else { self.send };
        let Some(wider) = u32::try_from(now + i64::from(by)).ok().filter(|&wider| wider <= frame::MAX_WINDOW) else {
            if now + i64::from(by) < 0 {
                self.send = now + i64::from(by);
                return Ok(());
            }
            return broken("upstream sent too large window update");
        };
        if stream == 0 {
            self.link.send.set(wider);
        } else {
            self.send = i64::from(wider);
        }
        Ok(())
    }

    fn set_initial(&mut self, size: u32) -> Result<(), Cause> {
        let changed = self.send + i64::from(size) - i64::from(self.link.initial.get());
        if size > frame::MAX_WINDOW || changed > i64::from(frame::MAX_WINDOW) {
            return broken(format!("upstream sent settings frame with too large initial window size: {size}"));
        }
        self.link.initial.set(size);
        self.send = changed;
        Ok(())
    }
}

/// Bytes before the content of a frame of fields.
fn prefix(head: Head) -> usize {
    match head.kind {
        Kind::HEADERS => usize::from(head.has(frame::PADDED)) + if head.has(frame::PRIORITY) { 5 } else { 0 },
        _ => 0,
    }
}

/// Counts frames whose answers have not left.
fn count(so_far: &mut u32, out: &Out, what: &str) -> Result<(), Cause> {
    *so_far = if out.is_empty() { 1 } else { *so_far + 1 };
    if *so_far > ANSWERS {
        return broken(format!("upstream sent too many {what} frames"));
    }
    Ok(())
}

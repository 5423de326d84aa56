//! A request and its reply on a stream, both ways at once (RFC 9113 §8.1).

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::frames::{Event, Frames, Link};
use super::upload::Upload;
use super::{fields::Block, head};
use crate::http::flow::Side;
use crate::http::h1::Inbound;
use crate::http::h2::frame;
use crate::http::hpack::Encoder;
use crate::http::{Cause, Fault, Headers, Stage};
use crate::net::Stream;
use crate::net::timer::Limit;
use crate::upstream::Conf;
use crate::upstream::pool::Connection;
use crate::upstream::protocol::{Decode, Decoded, Outgoing};

/// What nginx says of itself: it keeps no table, wants no pushes, and takes what comes.
const SETTINGS: [frame::Setting; 3] =
    [(frame::HEADER_TABLE_SIZE, 0), (frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, frame::MAX_WINDOW)];

/// A request that is being sent, and a reply that is being read.
pub struct Exchange {
    stream: Rc<Stream>,
    pub(super) frames: Frames,
    pub(super) upload: Upload,
    /// Whether all of the request is among what leaves.
    sent: bool,
    /// For how long the server may take nothing.
    timeout: Duration,
    limit: Limit,
    /// What came of the reply's body and was not passed on, and the fields behind it.
    pieces: VecDeque<Bytes>,
    behind: Option<Headers>,
}

impl Exchange {
    /// Begins a request; the first one of a connection begins that, too.
    pub fn new(conf: &Conf, outgoing: &Outgoing, connection: &mut Connection) -> Result<Self, Fault> {
        let begun = connection.h2.is_some();
        let link = connection.h2.get_or_insert_with(|| Rc::new(Link::default()));
        let (mut frames, upload) =
            (Frames::new(link, conf.buffer_size), Upload::new(outgoing.kept(), outgoing.streams()));
        let sent = upload.is_taken() && upload.piece.is_empty();
        let secure = connection.stream.tls().is_some();
        let (mut first, id) = (Vec::with_capacity(outgoing.head.len() + 64), frames.id);
        if !begun {
            connection.stream.set_nodelay(true);
            first.extend_from_slice(frame::PREFACE);
            frame::settings(&mut first, &SETTINGS);
            frame::window_update(&mut first, 0, frame::MAX_WINDOW - frame::WINDOW);
        }
        let mut encoder = Encoder::default();
        if let Some(size) = link.take_table() {
            encoder.resize(size);
        }
        let at = frame::begin_headers(&mut first, id, sent);
        let written = head::write(&mut first, &mut encoder, &outgoing.head, secure);
        frame::end_headers(&mut first, at, frame::FRAME_SIZE);
        frames.out.push(first.into());
        let refused =
            |words: &str| Fault { side: Side::Here, stage: Stage::Send, cause: Cause::Protocol(words.to_owned()) };
        written.map_err(refused)?;
        let stream = Rc::clone(&connection.stream);
        Ok(Self {
            stream,
            frames,
            upload,
            sent,
            timeout: conf.send_timeout,
            limit: Limit::default(),
            pieces: VecDeque::new(),
            behind: None,
        })
    }

    /// Takes a head that came, be it an interim one.
    pub fn head(&mut self, buf: &mut BytesMut) -> Result<Option<Block>, Cause> {
        match self.frames.next(buf)? {
            Event::Head(block) => Ok(Some(block)),
            _ => Ok(None),
        }
    }

    /// Its connection's stream.
    pub fn stream(&self) -> &Rc<Stream> {
        &self.stream
    }

    /// Obeys what came behind a reply that has ended; whether the connection can carry another request.
    pub fn is_over(&mut self, buf: &mut BytesMut) -> bool {
        matches!(self.frames.next(buf), Ok(Event::Done)) && buf.is_empty() && self.is_reusable()
    }

    /// Whether the connection can carry another request, once the reply has ended.
    fn is_reusable(&mut self) -> bool {
        self.sent && !self.frames.leaving && self.frames.out.flush_now(&self.stream)
    }

    /// Sends what it can; `inbound` is the client's body as long as it is not carried. Ready once all has left.
    pub fn poll(&mut self, cx: &mut Context<'_>, mut inbound: Option<&mut Inbound>) -> Poll<Result<(), Fault>> {
        loop {
            let before = self.frames.out.sent;
            let flushed = self.frames.out.poll_flush(cx, &self.stream);
            if self.frames.out.sent > before {
                self.limit.clear();
            }
            match flushed {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::upstream(Stage::Send, Cause::Io(error)))),
                Poll::Pending => return self.poll_blocked(cx),
            }
            if self.sent {
                self.limit.clear();
                return Poll::Ready(Ok(()));
            }
            if self.upload.piece.is_empty() && !self.upload.is_taken() {
                ready!(self.upload.refill(cx, inbound.as_deref_mut()))?;
            }
            let mut room = self.frames.room();
            if room == 0 && !self.upload.piece.is_empty() {
                return self.poll_blocked(cx);
            }
            self.limit.clear();
            let mut ended = false;
            while room > 0 && !self.upload.piece.is_empty() {
                let len = self.upload.piece.len().min(room).min(frame::FRAME_SIZE);
                let part = self.upload.piece.split_to(len);
                ended = self.upload.piece.is_empty() && self.upload.is_taken();
                self.frames.data(part, ended);
                room -= len;
            }
            if !ended && self.upload.piece.is_empty() && self.upload.is_taken() {
                self.frames.data(Bytes::new(), true);
                ended = true;
            }
            self.sent = ended;
        }
    }

    /// Waits for the server to take more.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.limit.poll_over(cx, self.timeout));
        Poll::Ready(Err(Fault::upstream(Stage::Send, Cause::TimedOut)))
    }
}

impl Decode for Exchange {
    /// As in nginx, all that came together is looked at before any of it is passed on: where some of it is broken, none is.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, Cause> {
        if self.pieces.is_empty() {
            let over = loop {
                match self.frames.next(buf)? {
                    Event::Data(bytes) => self.pieces.push_back(bytes),
                    Event::Trailers(fields) => self.behind = Some(fields),
                    Event::Head(_) => {}
                    Event::More => break false,
                    Event::Done => break true,
                }
            };
            if self.pieces.is_empty() {
                return Ok(match self.behind.take() {
                    Some(fields) => Decoded::Trailers(fields),
                    None if over => Decoded::Done(self.is_reusable()),
                    None => Decoded::More,
                });
            }
        }
        Ok(self.pieces.pop_front().map_or(Decoded::More, Decoded::Data))
    }

    fn may_close(&self) -> bool {
        false
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.poll(cx, None)
    }
}

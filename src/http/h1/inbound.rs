//! A request's body on its way in (RFC 9112 §6): by length or in chunks, whole in memory, in a file, or piece by piece.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::chunked::{Decoder, Step};
use crate::http::core::InFileOnly;
use crate::http::flow::{Cause, Fault, Stage};
use crate::http::h2::Incoming;
use crate::http::request::Client;
use crate::http::temp::{Naming, TempFile};
use crate::http::{Body, Core, FilePart};
use crate::net::stream::make_room;
use crate::net::timer::within;

/// How the end of a body is found.
#[derive(Debug)]
enum Framing {
    /// After so many bytes.
    Length(u64),
    /// By its last chunk.
    Chunked(Decoder),
    /// With its HTTP/2 stream, after as many bytes as were announced.
    Stream(Incoming, Option<u64>),
}

/// What was read ahead of its use.
#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    Memory(Bytes),
    /// A file of so many bytes.
    File(TempFile, u64),
}

/// A body that may not have been read yet.
pub struct Inbound {
    client: Rc<Client>,
    framing: Framing,
    done: bool,
    received: u64,
    kept: Kept,
    /// Whether it is passed on as it comes.
    streams: bool,
    /// What came before anybody asked for it piece by piece.
    ahead: VecDeque<Bytes>,
    /// Whether `100 Continue` is owed.
    expects: bool,
    /// What made it too large: the bytes that had come, and those its next chunk announced.
    pub excess: Option<(u64, u64)>,
    /// Whether the client left or fell silent inside it, so that nobody is there to be answered.
    pub lost: bool,
    /// Bytes that asked the client to send it.
    pub invited: u64,
    /// Bytes it may have; 0 is no limit.
    pub limit: u64,
    /// Between two reads.
    pub timeout: Duration,
}

impl Inbound {
    /// A body of `length` bytes.
    pub fn length(client: Rc<Client>, length: u64) -> Self {
        Self::new(client, Framing::Length(length), length == 0)
    }

    /// A body in chunks.
    pub fn chunked(client: Rc<Client>) -> Self {
        Self::new(client, Framing::Chunked(Decoder::new(false)), false)
    }

    /// A body that an HTTP/2 stream carries; `length` is what was announced, or 0 where nothing follows the head.
    pub fn stream(client: Rc<Client>, incoming: Incoming, length: Option<u64>, done: bool) -> Self {
        Self::new(client, Framing::Stream(incoming, length), done)
    }

    fn new(client: Rc<Client>, framing: Framing, done: bool) -> Self {
        let timeout = Duration::from_secs(60);
        Self {
            client,
            framing,
            done,
            received: 0,
            kept: Kept::Nothing,
            streams: false,
            ahead: VecDeque::new(),
            expects: false,
            excess: None,
            lost: false,
            invited: 0,
            limit: 0,
            timeout,
        }
    }

    /// Notes that the client waits for `100 Continue` before it sends.
    pub fn expect(&mut self) {
        self.expects = true;
    }

    /// Whether `100 Continue` is still owed for a body: the client may send nothing at all.
    pub fn is_expected(&self) -> bool {
        self.expects && !self.done
    }

    /// Forgets that the client waits.
    pub fn give_up(&mut self) {
        self.expects = false;
    }

    /// Whether it comes in chunks, or in frames without a length.
    pub fn is_chunked(&self) -> bool {
        match &self.framing {
            Framing::Length(_) => false,
            Framing::Chunked(_) => true,
            Framing::Stream(_, length) => length.is_none(),
        }
    }

    /// Whether all of it came.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it is passed on as it comes, and has not ended.
    pub fn is_under_way(&self) -> bool {
        self.streams && !self.done
    }

    /// Whether a piece is there without waiting.
    pub fn has_some(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The bytes of it that came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The body, where it was read into memory.
    pub fn in_memory(&self) -> Option<Bytes> {
        match &self.kept {
            Kept::Memory(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// What was read ahead, to be sent as often as need be.
    pub fn kept(&self) -> Body {
        match &self.kept {
            Kept::Nothing => Body::Empty,
            Kept::Memory(bytes) => Body::Full(bytes.clone()),
            Kept::File(temp, len) => Body::File(FilePart { file: Rc::clone(&temp.file), offset: 0, len: *len }),
        }
    }

    /// The path of the file it was read into.
    pub fn file_path(&self) -> Option<&Path> {
        match &self.kept {
            Kept::File(temp, _) => temp.path.as_deref(),
            _ => None,
        }
    }

    /// The path that the file it was read into had at first.
    pub fn spooled(&self) -> Option<&Path> {
        match &self.kept {
            Kept::File(temp, _) => Some(&temp.made),
            _ => None,
        }
    }

    /// Whether the client waits to be told to go on, even where no byte is to come.
    pub fn owes_welcome(&self) -> bool {
        self.expects
    }

    /// Reads all of it, into memory or a file as the settings say.
    pub async fn read_all(&mut self, core: &Core) -> Result<(), Fault> {
        if !matches!(self.kept, Kept::Nothing) {
            return Ok(());
        }
        self.welcome().await?;
        if self.done {
            return Ok(());
        }
        if let Framing::Stream(incoming, _) = &self.framing {
            incoming.widen();
        }
        let memory = if core.client_body_in_file_only == InFileOnly::Off { core.client_body_buffer_size } else { 0 };
        let mut held = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if (held.len() + bytes.len()) as u64 > memory {
                return self.spool(held, bytes, core).await;
            }
            if held.is_empty() && self.done {
                self.kept = Kept::Memory(bytes);
                return Ok(());
            }
            held.extend_from_slice(&bytes);
        }
        if !held.is_empty() {
            self.kept = Kept::Memory(held.freeze());
        } else if memory == 0 && self.is_chunked() {
            return self.spool(held, Bytes::new(), core).await;
        }
        Ok(())
    }

    /// Takes what came of it already, about `most` bytes; true if that is all of it, which is kept then.
    pub async fn read_ready(&mut self, most: u64) -> Result<bool, Fault> {
        if let Framing::Stream(incoming, length) = &self.framing {
            incoming.bound(length.map_or(most, |length| most.min(length + 1)));
        }
        self.welcome().await?;
        let taken = self.gather(most).await?;
        if !self.done {
            self.streams = true;
            self.ahead = taken.into();
        } else if !taken.is_empty() {
            self.kept = Kept::Memory(taken.concat().into());
        }
        Ok(self.done)
    }

    /// The pieces that are there, about `most` bytes of them.
    async fn gather(&mut self, most: u64) -> Result<Vec<Bytes>, Fault> {
        let (mut taken, mut len) = (Vec::new(), 0);
        while len < most {
            match std::future::poll_fn(|cx| Poll::Ready(self.poll_next(cx))).await {
                Poll::Pending => break,
                Poll::Ready(next) => {
                    let Some(bytes) = next? else { break };
                    len += bytes.len() as u64;
                    taken.push(bytes);
                }
            }
        }
        Ok(taken)
    }

    async fn spool(&mut self, held: BytesMut, bytes: Bytes, core: &Core) -> Result<(), Fault> {
        let naming = match core.client_body_in_file_only {
            InFileOnly::On => Naming::Kept,
            InFileOnly::Off if !core.request_body_file_named => Naming::Unnamed,
            _ => Naming::Request,
        };
        let temp = TempFile::new(&core.client_body_temp_path, naming).map_err(Fault::here)?;
        let mut file = &*temp.file;
        let mut len = (held.len() + bytes.len()) as u64;
        file.write_all(&held).and_then(|()| file.write_all(&bytes)).map_err(Fault::here)?;
        drop((held, bytes));
        while let Some(bytes) = self.next().await? {
            file.write_all(&bytes).map_err(Fault::here)?;
            len += bytes.len() as u64;
        }
        self.kept = Kept::File(temp, len);
        Ok(())
    }

    /// The next piece; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.welcome().await?;
        let limit = self.timeout;
        let next = within(limit, std::future::poll_fn(|cx| self.poll_next(cx))).await;
        next.unwrap_or(Err(Fault::client(Stage::Body, Cause::TimedOut)))
    }

    /// The next pieces as far as they are there, in one; and whether they were the last.
    pub async fn some(&mut self) -> Result<(Bytes, bool), Fault> {
        const ENOUGH: u64 = 16 << 10;
        let Some(first) = self.next().await? else { return Ok((Bytes::new(), true)) };
        let more = self.gather(ENOUGH).await?;
        let last = self.done && self.ahead.is_empty();
        let all = if more.is_empty() { first } else { [vec![first], more].concat().concat().into() };
        Ok((all, last))
    }

    /// Sends `100 Continue` where it is owed.
    async fn welcome(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.expects) {
            const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.invited = CONTINUE.len() as u64;
            let sent = self.client.stream.write_all(CONTINUE).await;
            sent.map_err(|error| Fault::client(Stage::Body, Cause::Io(error)))?;
        }
        Ok(())
    }

    /// The next piece, without its time limit.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        loop {
            if let Some(bytes) = self.ahead.pop_front() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if self.done {
                return Poll::Ready(Ok(None));
            }
            if let Framing::Stream(incoming, _) = &mut self.framing {
                let next = ready!(incoming.poll_next(cx))?;
                self.done = next.is_none() || incoming.is_done();
                let taken = self.framed(next.as_ref().map_or(0, Bytes::len) as u64);
                if let (Err(_), Framing::Stream(incoming, _)) = (&taken, &self.framing) {
                    incoming.stop();
                    self.done = true;
                }
                return Poll::Ready(taken.map(|()| next));
            }
            if let Some(bytes) = self.buffered()? {
                self.received += bytes.len() as u64;
                return Poll::Ready(Ok(Some(bytes)));
            }
            if self.done {
                return Poll::Ready(Ok(None));
            }
            let mut input = self.client.input.borrow_mut();
            make_room(&mut input, 16 << 10);
            let n = ready!(self.client.stream.poll_read(cx, &mut input, 16 << 10))
                .map_err(|error| Fault::client(Stage::Body, Cause::Io(error)))?;
            if n == 0 {
                return Poll::Ready(Err(Fault::client(Stage::Body, Cause::Closed)));
            }
        }
    }

    /// Counts a piece of a stream: it may be one too many, or the last of too few.
    fn framed(&mut self, len: u64) -> Result<(), Fault> {
        let protocol = |text: String| Err(Fault::client(Stage::Body, Cause::Protocol(text)));
        let Framing::Stream(_, length) = &self.framing else { return Ok(()) };
        let received = self.received + len;
        if length.is_some_and(|length| received > length) {
            return protocol("client intended to send body data larger than declared".to_owned());
        }
        if length.is_none() && self.limit > 0 && received > self.limit {
            self.excess = Some((self.received, len));
            return Err(Fault::client(Stage::Body, Cause::TooLarge));
        }
        self.received = received;
        if let Some(length) = length.filter(|&length| self.done && received < length) {
            let text = format!(
                "client prematurely closed stream: only {received} out of {length} bytes of request body received"
            );
            return protocol(text);
        }
        Ok(())
    }

    /// What the connection's buffer holds of the body.
    fn buffered(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut input = self.client.input.borrow_mut();
        match &mut self.framing {
            Framing::Stream(..) => Ok(None),
            Framing::Length(left) => {
                let take = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                self.done = *left == 0;
                Ok((take > 0).then(|| input.split_to(take).freeze()))
            }
            Framing::Chunked(decoder) => {
                let bad =
                    |_| Fault::client(Stage::Body, Cause::Protocol("client sent invalid chunked body".to_owned()));
                match decoder.decode(&input).map_err(bad)? {
                    Step::Data(range) => {
                        let announced = range.len() as u64 + decoder.pending();
                        if self.limit > 0 && self.received + announced > self.limit {
                            self.excess = Some((self.received, announced));
                            return Err(Fault::client(Stage::Body, Cause::TooLarge));
                        }
                        drop(input.split_to(range.start));
                        return Ok(Some(input.split_to(range.len()).freeze()));
                    }
                    Step::More => input.clear(),
                    Step::Done(end) => {
                        drop(input.split_to(end));
                        self.done = true;
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads what is left and throws it away, for at most `time` in all and `pause` without a byte.
    pub async fn discard(&mut self, time: Duration, pause: Duration) -> bool {
        let end = Instant::now() + time;
        self.limit = 0;
        // nginx counts what was read, not what was thrown away.
        let counted = self.received;
        let ended = self.discard_all(end, pause).await;
        self.received = counted;
        ended
    }

    async fn discard_all(&mut self, end: Instant, pause: Duration) -> bool {
        while !self.done {
            let step = pause.min(end.saturating_duration_since(Instant::now()));
            match within(step, std::future::poll_fn(|cx| self.poll_next(cx))).await {
                Some(Ok(Some(_))) => {}
                Some(Ok(None)) => return true,
                _ => return false,
            }
        }
        true
    }

    /// Throws away what came already.
    pub fn discard_buffered(&mut self) -> Result<(), Fault> {
        self.limit = 0;
        while self.buffered()?.is_some() {}
        Ok(())
    }
}

/// Reads part of a file into memory, for streams that cannot send files.
pub fn read_part(part: &FilePart, max: usize) -> std::io::Result<Bytes> {
    let len = usize::try_from(part.len).unwrap_or(max).min(max);
    let mut buf = vec![0; len];
    let n = part.file.read_at(&mut buf, part.offset)?;
    buf.truncate(n);
    Ok(buf.into())
}

//! A body for those who look at its bytes: what lies in files is read (RFC 9110 §6.4).

use std::io::ErrorKind;
use std::task::{Context, Poll, ready};

use super::flow::Fault;
use super::h1::inbound::read_part;
use super::{Body, Chunk, FilePart, Headers};

/// Bytes of a file that are read at a time.
const PIECE: usize = 32 << 10;

/// A body that yields no files.
pub struct Pieces {
    body: Body,
    file: Option<FilePart>,
}

impl Pieces {
    /// The pieces of `body`.
    pub fn new(body: Body) -> Self {
        Self { body, file: None }
    }

    /// The next piece, which is [`Chunk::Data`] or [`Chunk::Flush`]; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        loop {
            if let Some(part) = self.file.take().filter(|part| part.len > 0) {
                return Poll::Ready(Some(self.read(part)));
            }
            match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(Chunk::File(part))) => self.file = Some(part),
                other => return Poll::Ready(other),
            }
        }
    }

    /// Goes on while the client takes nothing, as [`Source::poll_ahead`](super::Source::poll_ahead) has it.
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        self.body.poll_ahead(cx, queued);
    }

    /// Header fields that follow the body, once it ended.
    pub fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }

    fn read(&mut self, mut part: FilePart) -> Result<Chunk, Fault> {
        let bytes = read_part(&part, PIECE).map_err(Fault::here)?;
        if bytes.is_empty() {
            return Err(Fault::here(ErrorKind::UnexpectedEof.into()));
        }
        part.offset += bytes.len() as u64;
        part.len -= bytes.len() as u64;
        self.file = Some(part);
        Ok(Chunk::Data(bytes))
    }
}

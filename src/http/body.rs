//! Bodies: bytes, parts of files, or something that is pulled chunk by chunk.

use std::fmt;
use std::fs::File;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::flow::Fault;
use crate::net::Stream;

/// A part of an open file. It stays a file until the wire, so that plain connections can `sendfile`.
#[derive(Clone, Debug)]
pub struct FilePart {
    /// The file.
    pub file: Rc<File>,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Data(Bytes),
    /// Bytes in a file.
    File(FilePart),
    /// Nothing, but what came before must leave now.
    Flush,
}

impl Chunk {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Chunk::Data(bytes) => bytes.len() as u64,
            Chunk::File(part) => part.len,
            Chunk::Flush => 0,
        }
    }

    /// Whether it carries no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that yields a body piece by piece.
pub trait Source {
    /// The next chunk; `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>>;

    /// Header fields that follow the body (RFC 9110 §6.5), once it ended.
    fn trailers(&mut self) -> Option<super::Headers> {
        None
    }

    /// Called while the client takes nothing: goes on with what does not depend on it, so that an upstream server is not
    /// held up. Filters pass it on to what they read from. `queued` bytes that were yielded still wait in memory.
    fn poll_ahead(&mut self, _cx: &mut Context<'_>, _queued: usize) {}

    /// How many bytes it makes sense to gather before they are written.
    fn batch(&self) -> usize {
        64 << 10
    }
}

/// Two streams joined after `101 Switching Protocols`.
pub struct Tunnel {
    /// The upstream's side.
    pub stream: Rc<Stream>,
    /// What it had sent behind its head.
    pub pending: Bytes,
    /// When its server was chosen.
    pub started: std::time::Instant,
    /// How long both may be silent.
    pub idle: std::time::Duration,
    /// How long the upstream may take nothing.
    pub send_timeout: std::time::Duration,
    /// What must live as long as the tunnel: the upstream server's count of connections.
    pub held: Option<Box<dyn std::any::Any>>,
}

/// A response's or request's body.
#[derive(Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// All of it in memory.
    Full(Bytes),
    /// All of it in one file.
    File(FilePart),
    /// Pulled.
    Stream(Box<dyn Source>),
    /// Not a body: the connection changes its protocol.
    Tunnel(Box<Tunnel>),
}

impl Body {
    /// Its length where that is known.
    pub fn len(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Full(bytes) => Some(bytes.len() as u64),
            Body::File(part) => Some(part.len),
            Body::Stream(_) | Body::Tunnel(_) => None,
        }
    }

    /// Whether it is known to be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Header fields that follow the body, once it ended.
    pub fn trailers(&mut self) -> Option<super::Headers> {
        match self {
            Body::Stream(source) => source.trailers(),
            _ => None,
        }
    }

    /// Goes on while the client takes nothing, as [`Source::poll_ahead`] has it.
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        if let Body::Stream(source) = self {
            source.poll_ahead(cx, queued);
        }
    }

    /// How many bytes it makes sense to gather before they are written.
    pub fn batch(&self) -> usize {
        match self {
            Body::Stream(source) => source.batch(),
            _ => 64 << 10,
        }
    }

    /// The next chunk; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        match self {
            Body::Stream(source) => source.poll_chunk(cx),
            _ => Poll::Ready(match std::mem::take(self) {
                Body::Full(bytes) => Some(Ok(Chunk::Data(bytes))),
                Body::File(part) => Some(Ok(Chunk::File(part))),
                _ => None,
            }),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Empty => f.write_str("Empty"),
            Body::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Body::File(part) => write!(f, "File({} bytes)", part.len),
            Body::Stream(_) => f.write_str("Stream"),
            Body::Tunnel(_) => f.write_str("Tunnel"),
        }
    }
}

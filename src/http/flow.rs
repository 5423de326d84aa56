//! What a hook decides, and what goes wrong on the way.

use std::fmt;
use std::io;

use bytes::Bytes;

use super::response::Response;

/// What happens to a request after a hook.
#[derive(Debug)]
pub enum Flow {
    /// Nothing was decided: the next hook.
    Next,
    /// Access is granted (it ends the search under `satisfy any`).
    Allow,
    /// The request ends with this status and the page that `error_page` or nginx has for it.
    Fail(u16),
    /// The request ends with this response.
    Respond(Box<Response>),
    /// The request starts again elsewhere.
    Jump(Target),
}

/// Where a request starts again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At another URI, which is already decoded.
    Uri {
        /// The new path.
        uri: Vec<u8>,
        /// The new arguments; without any, `$args` has no value.
        args: Option<Vec<u8>>,
    },
    /// In a named location; the name has its `@`.
    Named(Bytes),
}

/// Who failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The upstream server.
    Upstream,
    /// This machine: memory, files.
    Here,
}

/// In what part of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// While connecting.
    Connect,
    /// While shaking hands.
    Handshake,
    /// While sending the request or the response.
    Send,
    /// While reading the head.
    Head,
    /// While reading the body.
    Body,
    /// While passing bytes both ways.
    Upgraded,
}

/// Why.
#[derive(Debug)]
pub enum Cause {
    /// The operating system said so.
    Io(io::Error),
    /// A time limit ran out.
    TimedOut,
    /// The peer closed too early.
    Closed,
    /// The same, in words of its protocol.
    Short(&'static str),
    /// The peer broke the protocol; the text is nginx's sentence.
    Protocol(String),
    /// The body is larger than it may be.
    TooLarge,
}

/// A failure: enough to choose a status, a log line, and whether another upstream may be tried.
#[derive(Debug)]
pub struct Fault {
    /// Who.
    pub side: Side,
    /// When.
    pub stage: Stage,
    /// Why.
    pub cause: Cause,
}

impl Fault {
    /// A fault of the client.
    pub fn client(stage: Stage, cause: Cause) -> Self {
        Self { side: Side::Client, stage, cause }
    }

    /// Whether the response counts as complete all the same: an upstream that closed or stalled ended it, nonsense did not.
    pub fn ends(&self) -> bool {
        match (self.side, self.stage, &self.cause) {
            (_, Stage::Upgraded, Cause::Io(_)) => true,
            (Side::Upstream, _, cause) => !matches!(cause, Cause::Protocol(_)),
            _ => false,
        }
    }

    /// A fault of the upstream server.
    pub fn upstream(stage: Stage, cause: Cause) -> Self {
        Self { side: Side::Upstream, stage, cause }
    }

    /// A fault of ours.
    pub fn here(error: io::Error) -> Self {
        Self { side: Side::Here, stage: Stage::Body, cause: Cause::Io(error) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Io(error) => write!(f, "{error}"),
            Cause::TimedOut => f.write_str("timed out"),
            Cause::Closed => f.write_str("prematurely closed connection"),
            Cause::Short(text) => f.write_str(text),
            Cause::Protocol(text) => f.write_str(text),
            Cause::TooLarge => f.write_str("body too large"),
        }
    }
}

impl std::error::Error for Fault {}

//! What upstream servers did with a request: <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#variables>

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::headers::Headers;
use crate::net::Level;
use crate::net::tls::Dial;

/// One try at an upstream server, as `$upstream_*` report it.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// The server as `$upstream_addr` prints it.
    pub addr: Bytes,
    /// Its status; 0 when none came.
    pub status: u16,
    /// Time to connect.
    pub connect_time: Option<Duration>,
    /// Time to the end of the head.
    pub header_time: Option<Duration>,
    /// Time to the end of the body.
    pub response_time: Option<Duration>,
    /// Bytes behind the head.
    pub length: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
    /// Whether an internal redirect lies between it and the try before.
    pub after_jump: bool,
}

/// Every try of a request, in order, and what is to be logged of them. Shared with the body that is still under way.
#[derive(Debug, Default)]
pub struct Attempts {
    list: RefCell<Vec<Attempt>>,
    notes: RefCell<Vec<(Level, String)>>,
    /// Whether the reply is passed on without buffers and nothing was waited for since its head.
    pub passing: Cell<bool>,
    /// The fields behind the last reply's body.
    pub trailers: RefCell<Headers>,
}

impl Attempts {
    /// The tries.
    pub fn borrow(&self) -> Ref<'_, Vec<Attempt>> {
        self.list.borrow()
    }

    /// The tries, to be changed.
    pub fn borrow_mut(&self) -> RefMut<'_, Vec<Attempt>> {
        self.list.borrow_mut()
    }

    /// Leaves something for the error log.
    pub fn note(&self, level: Level, text: String) {
        self.notes.borrow_mut().push((level, text));
    }

    /// Whether there is something to be logged.
    pub fn has_notes(&self) -> bool {
        !self.notes.borrow().is_empty()
    }

    /// Takes what is to be logged.
    pub fn take_notes(&self) -> Vec<(Level, String)> {
        self.notes.take()
    }
}

/// The URL that was asked of a server: scheme and URI, with the server's name between them.
#[derive(Debug)]
pub struct Url {
    /// `http://` or its like.
    pub scheme: &'static str,
    /// What was sent.
    pub sent: Bytes,
    /// The URI in it.
    pub uri: fn(&[u8]) -> &[u8],
}

/// What nginx says it is doing when an exchange is over.
pub const SENDING: &str = "sending to client";

/// What the upstream did so far.
#[derive(Debug, Default)]
pub struct Upstream {
    /// The tries.
    pub attempts: Rc<Attempts>,
    /// The head of its last response.
    pub headers: Option<Rc<Headers>>,
    /// What was sent and how to find the URI in it, for the error log.
    pub url: Option<Url>,
    /// What nginx says it is doing once an exchange is over and the request goes on; empty where it says nothing.
    pub doing: &'static str,
    /// Whether its response is read on when the client has left.
    pub ignores_abort: bool,
    /// `$proxy_host` and `$proxy_port`, where the address holds variables.
    pub host: Option<(Bytes, Bytes)>,
    /// How the exchange that comes next talks TLS.
    pub secure: Option<Rc<Dial>>,
}

//! HTTP/2 towards clients (RFC 9113): what a connection's streams share, and what each has for its request.

pub mod frame;
pub mod link;
pub mod order;
pub mod output;
pub mod stream;

use std::cell::RefCell;
use std::rc::Rc;

pub use link::Link;
pub use stream::{End, Incoming, Stream};

use super::request::{Client, Version};
use crate::net::counts::Stage;

impl Version {
    /// HTTP/2.
    pub const HTTP_20: Self = Self(2000);
}

impl Client {
    /// What a request on a stream of this connection has in its place.
    pub fn on_stream(&self, stream: Rc<Stream>) -> Self {
        Self {
            stream: Rc::clone(&self.stream),
            input: RefCell::default(),
            peer: self.peer,
            peer_text: self.peer_text.clone(),
            local: self.local,
            local_text: self.local_text.clone(),
            proxied: self.proxied.clone(),
            number: self.number,
            requests: self.requests.clone(),
            started: self.started,
            stage: Stage::stream(),
            h2: Some(stream),
            open: None,
        }
    }
}

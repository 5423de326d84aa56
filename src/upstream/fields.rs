//! The header fields of a request that is sent on: what is set, what the body needs, and what the client sent.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_set_header>

use bytes::Bytes;

use super::shared::Names;
use crate::http::h1::write::field;
use crate::http::{Request, Value};

/// The fields of requests that are sent on.
pub struct Fields {
    /// `Host`, where the configuration sets it.
    pub host: Option<Value>,
    /// What else it sets.
    set: Vec<(Bytes, Value)>,
    /// Names that are not copied from the client.
    replaced: Names,
    /// Whether the body's length and coding are ours to state.
    states_length: bool,
    states_coding: bool,
}

impl Fields {
    /// The fields that these `*_set_header`s make; the protocol itself sees to those of `own`.
    pub fn new(set: &[(Bytes, Value)], own: &[&str]) -> Self {
        let is = |name: &str| set.iter().any(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        let mut replaced = Names::default();
        own.iter().for_each(|name| replaced.insert(name.as_bytes()));
        set.iter().for_each(|(name, _)| replaced.insert(name));
        let host = set.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"host")).map(|(_, value)| value.clone());
        let others = set.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host"));
        Self {
            host,
            set: others.cloned().collect(),
            replaced,
            states_length: !is("Content-Length"),
            states_coding: !is("Transfer-Encoding"),
        }
    }

    /// Writes all of them but `Host`; with `pass` the client's go along.
    pub fn write(&self, sent: Sent, pass: bool, request: &Request, out: &mut Vec<u8>) {
        for (name, value) in &self.set {
            let start = out.len();
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            let filled = out.len();
            value.append(request, out);
            if out.len() == filled {
                out.truncate(start);
            } else {
                out.extend_from_slice(b"\r\n");
            }
        }
        match sent {
            Sent::Length(length) if self.states_length => {
                field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
            }
            Sent::Chunked if self.states_coding => field(out, b"Transfer-Encoding", b"chunked"),
            _ => {}
        }
        if pass {
            for item in request.headers.iter() {
                if !self.replaced.has(item.known, item.name) {
                    field(out, item.name, item.value);
                }
            }
        }
    }
}

/// How the body that is sent on ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// There is none.
    Nothing,
    /// After so many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

//! Subrequests: a request that the server asks itself while it serves another.
//!
//! <https://nginx.org/en/docs/dev/development_guide.html#http_subrequests>

use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::attempts::SENDING;
use super::h1::Inbound;
use super::request::{Sent, Upstream, Vars, Version};
use super::{Client, Head, Headers, Method, Request, Response, Scope};
use crate::net::{Level, clock};

/// How often a request's URI may change (`rewrite or internal redirection cycle`).
pub const CHANGES: u8 = 10;
/// How deep subrequests may nest.
const DEPTH: u8 = 50;

/// What serves a subrequest: the virtual server of the request.
pub trait Serve {
    /// Serves `child`, whose path and arguments are set.
    fn serve<'a>(self: Arc<Self>, child: &'a mut Request) -> Pin<Box<dyn Future<Output = Response> + 'a>>;
}

/// What a subrequest knows of the request that the client sent.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its method's name.
    pub method_name: Bytes,
    /// How many requests lie above.
    pub depth: u8,
}

impl Request {
    /// A request of which nothing is known yet.
    pub fn new(client: &Rc<Client>, scope: Arc<dyn Scope>, started: Instant) -> Box<Self> {
        Box::new(Self {
            client: Rc::clone(client),
            real: None,
            scope,
            server: None,
            origin: None,
            line: Bytes::new(),
            method: Method::Get,
            method_name: Bytes::from_static(b"GET"),
            version: Version::HTTP_10,
            target: Bytes::new(),
            uri: Bytes::new(),
            args: Bytes::new(),
            has_args: false,
            is_target: true,
            plain: false,
            headers: Headers::default(),
            host: Bytes::new(),
            host_port: Bytes::new(),
            content_length: None,
            body: Inbound::length(Rc::clone(client), 0),
            vars: Vars::default(),
            internal: false,
            pipelined: false,
            request_id: OnceCell::new(),
            gzip: super::gzip::State::default(),
            keep_alive: false,
            error_page: false,
            error_status: 0,
            location: None,
            entered_ifs: Vec::new(),
            uri_changed: false,
            broke: false,
            uri_after_alias: false,
            changes_left: CHANGES,
            limit_rate: None,
            charset: None,
            upstream: Upstream::default(),
            carried: Head::default(),
            marks: super::marks::Marks::default(),
            sent: Sent::default(),
            started,
            head_len: 0,
        })
    }

    /// Asks the server for `uri` without a body. The child has this request's variables and limits until
    /// [`Request::adopt`] takes them back. The error is a status.
    pub async fn ask(&mut self, uri: Bytes, args: Bytes) -> Result<(Box<Request>, Response), u16> {
        let depth = self.origin.as_ref().map_or(0, |origin| origin.depth) + 1;
        let Some(server) = self.server.clone().filter(|_| depth <= DEPTH) else {
            let text = String::from_utf8_lossy(&uri).into_owned();
            self.log(Level::Error, &format!("subrequests cycle while processing \"{text}\""));
            return Err(500);
        };
        let mut child = Request::new(&self.client, Arc::clone(&self.scope), clock::instant());
        let method_name = self.origin.as_ref().map_or(&self.method_name, |origin| &origin.method_name).clone();
        child.server = Some(Arc::clone(&server));
        child.origin = Some(Origin { method_name, depth });
        child.real = self.real.clone();
        child.line = self.line.clone();
        child.version = self.version;
        child.target = self.target.clone();
        child.headers = self.headers.clone();
        child.host = self.host.clone();
        child.host_port = self.host_port.clone();
        child.request_id = self.request_id.clone();
        child.keep_alive = self.keep_alive;
        child.internal = true;
        child.vars = self.vars.lend();
        child.marks = std::mem::take(&mut self.marks);
        child.set_uri(uri, Some(args).filter(|args| !args.is_empty()));
        let response = server.serve(&mut child).await;
        Ok((child, response))
    }

    /// Takes back what a subrequest had of this request.
    pub fn adopt(&mut self, child: &mut Request) {
        self.vars.take_back(&mut child.vars);
        self.marks = std::mem::take(&mut child.marks);
        if child.upstream.url.is_some() {
            self.upstream.doing = SENDING;
        }
    }
}

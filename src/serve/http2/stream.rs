//! One stream: a request from its head to its log line (RFC 9113 §8.1).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Connection;
use super::head::Read;
use super::send::Sender;
use crate::http::fields::{self, Sink};
use crate::http::flow::{Cause, Fault, Stage};
use crate::http::h1::Inbound;
use crate::http::h2::frame::Code;
use crate::http::h2::{End, Incoming, Link, Stream};
use crate::http::{Body, Request, Response};
use crate::net::timer::within;
use crate::net::{Level, clock};
use crate::serve::runner::{self, Idle, Runner};
use crate::serve::{answer, build, phases};
use crate::table::{Location, Server};

/// A stream as long as its request lasts.
pub struct Open {
    stream: Rc<Stream>,
    /// What the client is told where its answer does not end.
    code: Cell<Code>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stream.close(self.code.get());
    }
}

thread_local! {
    static IDLE: Idle<Job, ()> = RefCell::default();
}

/// A request to be served.
pub struct Job {
    /// The connection it came on.
    pub connection: Rc<Connection>,
    /// Its stream.
    pub stream: Rc<Stream>,
    /// Its head.
    pub read: Read,
    /// When it began.
    pub started: Instant,
    /// Whether it has no body.
    pub ended: bool,
}

impl Job {
    /// Serves the request.
    pub async fn run(self) {
        runner::run(&IDLE, || Runner::new(|job: Self| job.serve()), self).await;
    }

    async fn serve(self) {
        let open = Open { stream: Rc::clone(&self.stream), code: Cell::new(Code::INTERNAL_ERROR) };
        let stalled = self.read.stalled;
        let (mut request, server, refused) = self.begin();
        if stalled {
            open.code.set(Code::PROTOCOL_ERROR);
            request.error_status = refused.unwrap_or_default();
            return server.root.loc.log(&request);
        }
        let (response, location) = phases::serve(&mut request, &server, refused).await;
        answer(&open, &mut request, response, &location, &server).await;
    }

    /// Makes a request of the head.
    fn begin(self) -> build::Built {
        let Self { connection, stream, read, started, ended } = self;
        let listen = &connection.listen;
        let client = Rc::new(connection.client.on_stream(Rc::clone(&stream)));
        let (mut request, server, refused) = match read.bad {
            None => build::request(&client, listen, &read.head, started),
            Some((status, text)) => {
                let (mut request, server) = build::refused(&client, listen, &read.head, started);
                build::refuse(&mut request, status, &text);
                (request, server, Some(status))
            }
        };
        for note in read.notes {
            request.log(Level::Info, &format!("{note} while reading client request headers"));
        }
        let incoming = Incoming::new(Rc::clone(&stream));
        let length = request.content_length.or(ended.then_some(0));
        let refused = if refused.is_none() && ended && length.is_some_and(|length| length > 0) {
            Some(build::refuse(&mut request, 400, "client prematurely closed stream"))
        } else {
            refused
        };
        request.head_len = read.size as u64;
        request.body = Inbound::stream(client, incoming, length, ended);
        (request, server, refused)
    }
}

/// Sends a response and logs the request.
async fn answer(
    open: &Open,
    request: &mut Request,
    response: Response,
    location: &Arc<Location>,
    server: &Arc<Server>,
) {
    let Response { mut head, mut body } = response;
    let stream = &open.stream;
    if head.silent {
        if head.status == 408 {
            open.code.set(Code::PROTOCOL_ERROR);
        }
        request.sent.head = head.into();
        tell_end(stream, request);
        return location.loc.log(request);
    }
    answer::trim(request, &mut head, &mut body);
    let bodiless = request.method == crate::http::Method::Head || matches!(head.status, 204 | 304);
    let trailers = head.trailers && !bodiless;
    let end = body.is_empty() && !trailers;
    let mut result = room(stream, location).await;
    if result.is_ok() {
        stream.head(end, |link, out| {
            let mut fields = Fields { link, out };
            link.encoder.borrow_mut().status(fields.out, head.status);
            fields::write(request, &mut head, &mut fields, |_| {});
        });
    }
    request.sent.head = head.into();
    let mut payload = 0;
    if result.is_ok() && !end {
        (payload, result) = send(stream, request, location, body, trailers).await;
    }
    request.sent.bytes = stream.sent.get();
    request.sent.head_bytes = stream.sent.get().saturating_sub(payload);
    request.sent.complete = result.as_ref().map_or_else(Fault::ends, |()| true);
    if let Err(fault) = &result {
        if matches!(fault.cause, Cause::TimedOut) {
            open.code.set(Code::PROTOCOL_ERROR);
        }
        tell_end(stream, request);
        answer::report(request, fault, &request.client.stream.clone(), false);
    }
    answer::log(request, server, location).await;
}

/// Waits until a head may be sent.
async fn room(stream: &Rc<Stream>, location: &Location) -> Result<(), Fault> {
    let room = std::future::poll_fn(|cx| stream.poll_room(cx, 0));
    match within(location.loc.core.send_timeout, room).await {
        Some(room) => room.map(|_| ()),
        None => Err(Fault::client(Stage::Send, Cause::TimedOut)),
    }
}

/// Sends a body and what follows it; returns how many bytes of it left as well.
async fn send(
    stream: &Rc<Stream>,
    request: &Request,
    location: &Arc<Location>,
    body: Body,
    trailers: bool,
) -> (u64, Result<(), Fault>) {
    let core = &location.loc.core;
    let notes = || answer::tell(request);
    let mut sender = Sender {
        stream,
        timeout: core.send_timeout,
        rate: answer::rate(request, core),
        chunk: location.loc.v2.chunk_size,
        started: clock::instant(),
        sent: 0,
        notes: &notes,
    };
    let own = || {
        location.loc.trailers(request);
        request.sent.trailers.borrow().clone()
    };
    let result = sender.send(body, trailers, own).await;
    (sender.sent, result)
}

/// Tells the log how the client ended the stream, if it did.
fn tell_end(stream: &Stream, request: &Request) {
    let Some(End::Client(code)) = stream.end.get() else { return };
    let id = stream.id;
    let text = match code {
        Code::CANCEL => format!("client canceled stream {id}"),
        Code::INTERNAL_ERROR => format!("client terminated stream {id} due to internal error"),
        Code(code) => format!("client terminated stream {id} with status {code}"),
    };
    request.log(Level::Info, &text);
}

/// Fields on their way into frames.
struct Fields<'a> {
    link: &'a Link,
    out: &'a mut Vec<u8>,
}

impl Sink for Fields<'_> {
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        if is_hop(name) {
            return;
        }
        let mut encoder = self.link.encoder.borrow_mut();
        match value {
            [one] => encoder.field(self.out, name, one),
            parts => encoder.field(self.out, name, &parts.concat()),
        }
    }
}

/// Whether HTTP/2 has no field of this name (§8.2.2).
fn is_hop(name: &[u8]) -> bool {
    let hop: &[u8] = match name.len() {
        7 => b"upgrade",
        10 if name.first().is_some_and(|c| c.eq_ignore_ascii_case(&b'c')) => b"connection",
        10 => b"keep-alive",
        16 => b"proxy-connection",
        17 => b"transfer-encoding",
        _ => return false,
    };
    name.eq_ignore_ascii_case(hop)
}

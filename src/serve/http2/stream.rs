//! One stream: a request from its head to its log line (RFC 9113 §8.1).

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::HeaderMap;

use super::Link;
use super::head::{self, Bad};
use super::send::Sender;
use crate::http::fields::{self, Sink};
use crate::http::flow::{Cause, Fault};
use crate::http::h1::Inbound;
use crate::http::h2::{Incoming, Side, append};
use crate::http::{Body, Request, Response};
use crate::net::{Level, clock};
use crate::serve::{answer, build, phases};
use crate::table::{Listen, Location, Server};

/// Serves a request; false where the client did not wait for all of its answer.
pub async fn run(link: &Link, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> bool {
    let (listen, connection) = (&link.listen, &link.client);
    let started = clock::instant();
    let (parts, body) = request.into_parts();
    let client = Rc::new(connection.on_stream(Side::new(respond)));
    let (head, bad) = head::head(&parts, &listen.default.root.loc.core.server);
    let (mut request, server, refused) = build::request(&client, listen, &head, started);
    let refused = refuse(&mut request, &server, listen, bad).or(refused);
    let incoming = Incoming::new(body, Rc::clone(&link.bell));
    let refused = if refused.is_none() && incoming.is_done() && request.content_length.is_some_and(|len| len > 0) {
        request.log(Level::Info, "client prematurely closed stream");
        Some(400)
    } else {
        refused
    };
    let announced = request.content_length.is_some();
    request.body = Inbound::stream(Rc::clone(&client), incoming, announced);
    let (response, location) = phases::serve(&mut request, &server, refused).await;
    answer(&mut request, response, &location, &server).await;
    request.sent.complete
}

/// What HTTP/2 requests are refused for before all else.
fn refuse(request: &mut Request, server: &Server, listen: &Listen, bad: Option<Bad>) -> Option<u16> {
    let loc = &server.root.loc;
    if !listen.http2 && !loc.v2.enabled {
        request.log(
            Level::Info,
            "client attempted to request the server name for which the negotiated protocol is disabled",
        );
        return Some(421);
    }
    let Bad(status, text) = bad?;
    request.log(Level::Info, text);
    Some(status)
}

/// Sends a response and logs the request.
async fn answer(request: &mut Request, response: Response, location: &Arc<Location>, server: &Arc<Server>) {
    let Response { mut head, mut body } = response;
    let client = Rc::clone(&request.client);
    let Some(side) = &client.h2 else { return };
    if answer::is_silence(head.status) || head.status == 408 {
        side.reset(if head.status == 408 { Reason::PROTOCOL_ERROR } else { Reason::INTERNAL_ERROR });
        request.sent.head = head.into();
        return location.loc.log(request);
    }
    answer::trim(request, &mut head, &mut body);
    let bodiless = request.method == crate::http::Method::Head || matches!(head.status, 204 | 304);
    let trailers = head.trailers && !bodiless;
    let mut out = Fields { map: HeaderMap::with_capacity(16), size: 16 };
    fields::write(request, &mut head, &mut out, |_| {});
    let status = head.status;
    request.sent.head_bytes = out.size;
    request.sent.bytes = out.size;
    request.sent.head = head.into();
    let end = body.is_empty() && !trailers;
    let result = match side.answer(status, out.map, end) {
        Ok(stream) if !end => send(request, location, stream, body, trailers).await,
        Ok(_) => Ok(()),
        Err(fault) => Err(fault),
    };
    request.sent.complete = result.is_ok();
    if let Err(fault) = &result {
        answer::report(request, fault, &client.stream, false);
        side.reset(match fault.cause {
            Cause::TimedOut => Reason::PROTOCOL_ERROR,
            _ => Reason::INTERNAL_ERROR,
        });
    }
    answer::log(request, server, location).await;
}

/// Sends a body and what follows it.
async fn send(
    request: &mut Request,
    location: &Arc<Location>,
    stream: h2::SendStream<Bytes>,
    body: Body,
    trailers: bool,
) -> Result<(), Fault> {
    let core = &location.loc.core;
    let rate = answer::rate(request, core);
    let notes = || answer::tell(request);
    let mut sender = Sender::new(stream, core.send_timeout, rate, location.loc.v2.chunk_size, &notes);
    let own = || {
        location.loc.trailers(request);
        request.sent.trailers.borrow().clone()
    };
    let result = sender.send(body, trailers, own).await;
    let sent = sender.sent;
    request.sent.bytes += sent;
    result
}

/// Fields as the library takes them, and their size in bytes.
struct Fields {
    map: HeaderMap,
    size: u64,
}

impl Sink for Fields {
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        self.size += (name.len() + value.iter().map(|part| part.len()).sum::<usize>()) as u64;
        match value {
            [one] => append(&mut self.map, name, one),
            parts => append(&mut self.map, name, &parts.concat()),
        }
    }
}

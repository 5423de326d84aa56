//! From the upstream's reply to our response.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::head::{self, Sent};
use super::pass::Loc;
use super::wire::Http1;
use super::{cookie, redirect};
use crate::conf::units;
use crate::http::body::Tunnel;
use crate::http::h1::write::Rate;
use crate::http::headers::Known;
use crate::http::{Body, Cause, Fault, Flow, Head, Headers, Method, Request, Response, Side, Target, uri};
use crate::net::Level;
use crate::net::addr::Endpoint;
use crate::net::clock;
use crate::upstream::exchange::{Outgoing, Reply};
use crate::upstream::{exchange, reply};

/// Passes the request on and answers with what comes back.
pub async fn respond(loc: &Loc, request: &mut Request) -> Flow {
    let to = match loc.destination(request).await {
        Ok(to) => to,
        Err(status) => return Flow::Fail(status),
    };
    request.upstream.host = Some((to.host.clone(), to.port.clone()));
    let first = request.upstream.attempts.borrow().len();
    let outgoing = match outgoing(loc, &to, request).await {
        Ok(outgoing) => outgoing,
        Err(status) => return Flow::Fail(status),
    };
    let protocol = Http1 { head: is_head(loc, request) };
    let reply = exchange::run(&protocol, &loc.upstream, &to.peers, &outgoing, request).await;
    if first > 0
        && let Some(attempt) = request.upstream.attempts.borrow_mut().get_mut(first)
    {
        attempt.after_jump = true;
    }
    match reply {
        Ok(reply) => answer(loc, reply, request),
        Err(status) => Flow::Fail(status),
    }
}

fn is_head(loc: &Loc, request: &Request) -> bool {
    match &loc.method {
        Some(method) => method.get(request).eq_ignore_ascii_case(b"HEAD"),
        None => request.method == Method::Head,
    }
}

/// Reads the client's body as far as it must be read first, and writes the head.
async fn outgoing(loc: &Loc, to: &super::pass::Destination, request: &mut Request) -> Result<Outgoing, u16> {
    let mut stream = None;
    let (sent, body) = if let Some(body) = &loc.set_body {
        let body = body.bytes(request);
        (Sent::Length(body.len() as u64), Body::Full(body))
    } else if !loc.upstream.request_buffering && loc.upstream.pass_request_body && !read_ready(request).await? {
        let chunked = request.body.is_chunked();
        // HTTP/1.0 has no chunks: such a body must be whole before its length is known.
        if chunked && loc.http10 {
            read(request).await?;
            let body = request.body.kept();
            (Sent::Length(body.len().unwrap_or_default()), body)
        } else {
            stream = Some(chunked);
            let length = request.content_length.unwrap_or_default();
            (if chunked { Sent::Chunked } else { Sent::Length(length) }, Body::Empty)
        }
    } else {
        read(request).await?;
        let body = if loc.upstream.pass_request_body { request.body.kept() } else { Body::Empty };
        let length = match request.body.is_chunked() {
            true => Some(request.body.kept().len().unwrap_or_default()),
            false => request.content_length,
        };
        (length.map_or(Sent::Nothing, Sent::Length), body)
    };
    let head = head::write(loc, to, sent, request).ok_or(500u16)?;
    Ok(Outgoing { head: head.into(), body, stream })
}

/// Reads what has come of the client's body; true if that is all of it.
async fn read_ready(request: &mut Request) -> Result<bool, u16> {
    if request.body.is_done() {
        return Ok(true);
    }
    let most = request.core().client_body_buffer_size;
    request.body.read_ready(most).await.map_err(|fault| refused(&fault, request))
}

/// Reads the client's body into memory or a file.
async fn read(request: &mut Request) -> Result<(), u16> {
    let scope = Arc::clone(&request.scope);
    request.body.read_all(scope.core()).await.map_err(|fault| refused(&fault, request))
}

/// The status to answer a body with that could not be read.
fn refused(fault: &Fault, request: &Request) -> u16 {
    match (fault.side, &fault.cause) {
        (Side::Client, Cause::TooLarge) => {
            let (received, more) = request.body.excess.unwrap_or_default();
            request.log(Level::Error, &format!("client intended to send too large chunked body: {received}+{more} bytes"));
            413
        }
        (Side::Client, Cause::TimedOut) => {
            request.log(Level::Info, "client timed out (110: Connection timed out) while reading client request body");
            408
        }
        (Side::Client, Cause::Protocol(text)) => {
            request.log(Level::Error, text);
            400
        }
        (Side::Client, _) => {
            request.log(Level::Info, "client prematurely closed connection");
            400
        }
        _ => {
            request.log(Level::Crit, &format!("{fault} while reading client request body"));
            500
        }
    }
}

/// Makes a response of the reply, or a jump where the reply asks for one.
fn answer(loc: &Loc, mut reply: Reply, request: &mut Request) -> Flow {
    let status = reply.head.status;
    drop_repeats(&mut reply.head.headers, request);
    let headers = Rc::new(reply.head.headers.clone());
    request.upstream.headers = Some(Rc::clone(&headers));
    if let Some(target) = accel_redirect(loc, &headers, request) {
        drop(reply::body(reply, &loc.upstream, Rate::default(), false));
        return target;
    }
    if loc.upstream.intercept_errors && request.core().error_pages.iter().any(|page| page.status == status) {
        if status == 401 {
            for value in headers.all(Known::WwwAuthenticate) {
                request.carried.headers.push(b"WWW-Authenticate", value);
            }
        }
        drop(reply::body(reply, &loc.upstream, Rate::default(), false));
        return Flow::Fail(status);
    }
    let mut head = copy(loc, &headers, request);
    head.status = status;
    head.line = Some(reply.head.line.clone()).filter(|line| line.len() > 3);
    head.content_length = reply.head.content_length;
    if status == 101 {
        return upgrade(loc, reply, head, request);
    }
    let bodiless = request.method == Method::Head;
    head.content_length = match reply.head.length {
        exchange::Length::Chunked => None,
        _ => head.content_length,
    };
    let rate = loc.upstream.limit_rate.as_ref().filter(|_| loc.upstream.buffering);
    let rate = rate.and_then(|rate| units::size(&rate.get(request))).unwrap_or_default();
    let body = reply::body(reply, &loc.upstream, Rate { limit: rate, after: 0 }, bodiless);
    Flow::Respond(Box::new(Response { head, body }))
}

fn upgrade(loc: &Loc, reply: Reply, mut head: Head, request: &mut Request) -> Flow {
    if request.headers.get(Known::Upgrade).is_none() {
        request.log(Level::Error, "upstream sent unexpected \"101 Switching Protocols\" response");
        return Flow::Fail(502);
    }
    head.content_length = None;
    let (stream, pending) = (Rc::clone(&reply.connection.stream), reply.rest.freeze());
    let tunnel = Tunnel { stream, pending, idle: loc.upstream.read_timeout, held: Some(Box::new(reply.choice)) };
    Flow::Respond(Box::new(Response { head, body: Body::Tunnel(Box::new(tunnel)) }))
}

/// Drops the repetitions of fields that may stand once, telling the log.
fn drop_repeats(headers: &mut Headers, request: &Request) {
    const SINGLE: [Known; 12] = [
        Known::ContentType,
        Known::Date,
        Known::LastModified,
        Known::ETag,
        Known::Server,
        Known::Location,
        Known::Refresh,
        Known::Expires,
        Known::XAccelExpires,
        Known::XAccelRedirect,
        Known::XAccelLimitRate,
        Known::XAccelCharset,
    ];
    let (mut seen, mut repeated) = (0u128, 0u128);
    for field in headers.iter() {
        let bit = 1u128 << field.known as u32;
        repeated |= seen & bit;
        seen |= bit;
    }
    for known in SINGLE.into_iter().filter(|known| repeated & (1u128 << *known as u32) != 0) {
        let mut first: Option<String> = None;
        headers.retain(|field| {
            let text = |bytes| String::from_utf8_lossy(bytes);
            let line = || format!("{}: {}", text(field.name), text(field.value));
            match (field.known == known, &first) {
                (false, _) => true,
                (true, None) => {
                    first = Some(line());
                    true
                }
                (true, Some(first)) => {
                    let line = line();
                    let problem = format!(
                        "upstream sent duplicate header line: \"{line}\", previous value: \"{first}\", ignored \
                         while reading response header from upstream"
                    );
                    request.log(Level::Warn, &problem);
                    false
                }
            }
        });
    }
}

/// The jump that `X-Accel-Redirect` asks for. Some fields of the reply go along.
fn accel_redirect(loc: &Loc, headers: &Headers, request: &mut Request) -> Option<Flow> {
    if loc.ignored.has(Known::XAccelRedirect, b"") {
        return None;
    }
    let to = headers.get(Known::XAccelRedirect)?.to_vec();
    for field in headers.iter() {
        let goes_along = match field.known {
            Known::ContentType => {
                let kind = Bytes::copy_from_slice(field.value);
                request.carried.content_type = Some(kind).filter(|kind| !kind.is_empty());
                false
            }
            Known::SetCookie | Known::CacheControl | Known::Expires | Known::AcceptRanges => true,
            _ => field.name.eq_ignore_ascii_case(b"content-disposition"),
        };
        if goes_along {
            request.carried.headers.push(field.name, field.value);
        }
    }
    limit_rate(loc, headers, request);
    if to.first() == Some(&b'@') {
        return Some(Flow::Jump(Target::Named(to.into())));
    }
    let Some((path, args)) = uri::safe(&to) else {
        let shown = String::from_utf8_lossy(&to).into_owned();
        request.log(Level::Error, &format!("unsafe URI \"{shown}\" was detected"));
        return Some(Flow::Fail(404));
    };
    if request.method != Method::Head {
        request.method = Method::Get;
        request.method_name = Bytes::from_static(b"GET");
    }
    Some(Flow::Jump(Target::Uri { uri: path.into_owned(), args: args.to_vec() }))
}

fn limit_rate(loc: &Loc, headers: &Headers, request: &mut Request) {
    if let Some(rate) = headers.get(Known::XAccelLimitRate).filter(|_| !loc.ignored.has(Known::XAccelLimitRate, b"")) {
        request.limit_rate = units::size(rate).or(request.limit_rate);
    }
}

/// Copies the fields of a reply that pass to the client.
fn copy(loc: &Loc, headers: &Headers, request: &mut Request) -> Head {
    // The upstream has judged the conditions of the request already.
    let mut head = Head { unconditional: true, ..Head::default() };
    limit_rate(loc, headers, request);
    if let Some(charset) = headers.get(Known::XAccelCharset).filter(|_| !loc.ignored.has(Known::XAccelCharset, b"")) {
        head.override_charset = Some(Bytes::copy_from_slice(charset));
    }
    for field in headers.iter() {
        if loc.hidden.has(field.known, field.name) {
            continue;
        }
        let value = || Bytes::copy_from_slice(field.value);
        match field.known {
            Known::ContentLength | Known::Connection | Known::KeepAlive | Known::TransferEncoding => {}
            Known::Upgrade if request.headers.get(Known::Upgrade).is_none() => {}
            Known::ContentType => head.content_type = Some(value()),
            Known::Date => head.date = Some(value()),
            Known::Server => head.server = Some(value()),
            Known::LastModified => {
                head.last_modified = clock::parse(field.value);
                head.headers.push(field.name, field.value);
            }
            Known::AcceptRanges if loc.upstream.force_ranges => {}
            Known::Location => match redirect::location(&loc.redirects, field.value, request) {
                Some(location) => head.location = Some(location.into()),
                None => head.headers.push(field.name, field.value),
            },
            Known::Refresh => match redirect::refresh(&loc.redirects, field.value, request) {
                Some(refresh) => head.headers.push(field.name, &refresh),
                None => head.headers.push(field.name, field.value),
            },
            Known::SetCookie => match cookie::rewrite(&loc.cookies, field.value, request) {
                Some(cookie) => head.headers.push(field.name, &cookie),
                None => head.headers.push(field.name, field.value),
            },
            _ => head.headers.push(field.name, field.value),
        }
    }
    head.allow_ranges |= loc.upstream.force_ranges;
    head
}

/// The addresses of a host name that variables named.
pub async fn resolve(request: &mut Request, name: &str, port: u16) -> Result<Vec<Endpoint>, u16> {
    let Some(resolver) = request.core().resolver.clone() else {
        request.log(Level::Error, &format!("no resolver defined to resolve {name}"));
        return Err(502);
    };
    match resolver.resolve(name).await {
        Ok(found) => Ok(found.iter().map(|ip| Endpoint::Inet((*ip, port).into())).collect()),
        Err(error) => {
            request.log(Level::Error, &format!("{name} could not be resolved ({error})"));
            Err(502)
        }
    }
}

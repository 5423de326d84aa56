//! From an upstream server's reply to our response: which fields pass, what `X-Accel-*` and `*_intercept_errors` make of it.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_ignore_headers>

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::exchange::Reply;
use super::protocol::{Length, Outgoing, Protocol};
use super::reply::Manner;
use super::shared::Shared;
use super::{Peers, exchange, reply, report};
use crate::conf::units;
use crate::http::attempts::SENDING;
use crate::http::body::Tunnel;
use crate::http::h1::write::Rate;
use crate::http::headers::Known;
use crate::http::request::Version;
use crate::http::{Body, Flow, Head, Headers, Method, Request, Response, Stage, Target, mime, uri};
use crate::net::{Level, clock};

/// Passes the request on and answers with what comes back.
pub async fn respond<P: Protocol>(
    protocol: &mut P,
    shared: &Shared,
    peers: &Arc<Peers>,
    outgoing: &Outgoing,
    request: &mut Request,
) -> Flow {
    let first = request.upstream.attempts.borrow().len();
    request.upstream.doing = "";
    let reply = exchange::run(protocol, shared, peers, outgoing, request).await;
    if first > 0
        && let Some(attempt) = request.upstream.attempts.borrow_mut().get_mut(first)
    {
        attempt.after_jump = true;
    }
    match reply {
        Ok(reply) => answer(protocol, shared, reply, request),
        Err(status) => {
            request.upstream.doing = SENDING;
            Flow::Fail(status)
        }
    }
}

/// Makes a response of the reply, or a jump where the reply asks for one.
fn answer<P: Protocol>(protocol: &P, shared: &Shared, mut reply: Reply, request: &mut Request) -> Flow {
    let status = reply.head.status;
    drop_repeats(&mut reply.head.headers, request);
    let buffered = reply::is_buffered(&reply.head.headers, &shared.conf);
    let headers = Rc::new(std::mem::take(&mut reply.head.headers));
    request.upstream.headers = Some(Rc::clone(&headers));
    reply.choice.learn(request);
    request.upstream.doing = report::stage(Stage::Head);
    wishes(shared, &headers, request);
    if let Some(target) = accel_redirect(shared, &headers, request) {
        drop_body(reply, shared);
        return target;
    }
    let has_page = || request.core().error_pages.iter().any(|page| page.status == status);
    if shared.conf.intercept_errors && (has_page() || (P::INTERCEPTS_404 && status == 404)) {
        if status == 401 {
            for value in headers.all(Known::WwwAuthenticate) {
                request.carried.headers.push(b"WWW-Authenticate", value);
            }
        }
        drop_body(reply, shared);
        request.upstream.doing = SENDING;
        return Flow::Fail(status);
    }
    request.upstream.ignores_abort = shared.conf.ignore_client_abort;
    let mut head = copy(protocol, shared, &headers, request);
    head.status = status;
    if matches!(reply.head.length, Length::Headless) {
        (request.version, request.keep_alive, head.status) = (Version::HTTP_09, false, 0);
    }
    head.line = Some(reply.head.line.clone()).filter(|line| !line.is_empty());
    head.content_length = reply.head.content_length;
    if status == 101 {
        return upgrade(shared, reply, head, request);
    }
    let bodiless = request.method == Method::Head;
    head.content_length = match reply.head.length {
        Length::Chunked => None,
        _ => head.content_length,
    };
    let rate = shared.conf.limit_rate.as_ref().filter(|_| shared.conf.buffering);
    let rate = rate.and_then(|rate| units::size(&rate.get(request))).unwrap_or_default();
    let stores = shared.conf.store.is_on() && status == 200 && !bodiless && buffered;
    let manner = Manner { rate: Rate { limit: rate, after: 0 }, bodiless, unwanted: false, buffered };
    let mut body = reply::body(reply, shared, manner);
    if stores {
        body = shared.conf.store.keep(body, &headers, &shared.limits, request);
    }
    Flow::Respond(Box::new(Response { head, body }))
}

/// Gives up a body that nobody wants.
fn drop_body(reply: Reply, shared: &Shared) {
    drop(reply::body(reply, shared, Manner { unwanted: true, ..Manner::default() }));
}

fn upgrade(shared: &Shared, reply: Reply, mut head: Head, request: &mut Request) -> Flow {
    head.content_length = None;
    if request.headers.get(Known::Upgrade).is_none() {
        // The client did not ask for it: it is told, and that is all.
        request.keep_alive = false;
        return Flow::Respond(Box::new(Response { head, body: Body::Empty }));
    }
    let (stream, pending) = (Rc::clone(&reply.connection.stream), reply.rest.freeze());
    let tunnel = Tunnel {
        stream,
        pending,
        started: reply.started,
        idle: shared.conf.read_timeout,
        send_timeout: shared.conf.send_timeout,
        held: Some(Box::new(reply.choice)),
    };
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
        Known::Status,
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
fn accel_redirect(shared: &Shared, headers: &Headers, request: &mut Request) -> Option<Flow> {
    if shared.ignored.has(Known::XAccelRedirect, b"") {
        return None;
    }
    let to = headers.get(Known::XAccelRedirect)?.to_vec();
    for field in headers.iter() {
        let goes_along = match field.known {
            Known::ContentType => {
                let kind = Bytes::copy_from_slice(field.value);
                request.carried.charset = mime::split(&kind).1;
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
    if to.first() == Some(&b'@') {
        return Some(Flow::Jump(Target::Named(to.into())));
    }
    let (path, args) = match uri::safe(&to) {
        Ok(safe) => safe,
        Err(shown) => {
            let shown = String::from_utf8_lossy(&shown);
            let problem = format!("unsafe URI \"{shown}\" was detected while reading response header from upstream");
            request.log(Level::Error, &problem);
            return Some(Flow::Fail(404));
        }
    };
    if request.method != Method::Head {
        request.method = Method::Get;
        request.method_name = Bytes::from_static(b"GET");
    }
    let args = to.contains(&b'?').then(|| args.to_vec());
    Some(Flow::Jump(Target::Uri { uri: path.into_owned(), args }))
}

/// Speed and charset that the reply asks for, whatever is sent in the end.
fn wishes(shared: &Shared, headers: &Headers, request: &mut Request) {
    let heeds = |known: &Known| !shared.ignored.has(*known, b"");
    let rate = Some(Known::XAccelLimitRate).filter(heeds).and_then(|known| headers.get(known)).and_then(units::number);
    request.limit_rate = rate.or(request.limit_rate);
    let charset = Some(Known::XAccelCharset).filter(heeds).and_then(|known| headers.all(known).last());
    request.charset = charset.map(|charset| headers.share(charset)).or(request.charset.take());
}

/// Copies the fields of a reply that pass to the client.
fn copy<P: Protocol>(protocol: &P, shared: &Shared, headers: &Headers, request: &mut Request) -> Head {
    // The upstream has judged the conditions of the request already.
    let mut head = Head { unconditional: true, headers: Headers::like(headers), ..Head::default() };
    if P::KEEPS_DATELESS {
        (head.has_date, head.has_server) = (!shared.hides.0, !shared.hides.1);
    }
    for (index, field) in headers.iter().enumerate() {
        if shared.hidden.has(field.known, field.name) {
            continue;
        }
        match field.known {
            Known::ContentLength | Known::Connection | Known::KeepAlive | Known::TransferEncoding => {}
            Known::Upgrade if request.version >= Version::HTTP_20 => {}
            Known::ContentType => head.content_type = Some(headers.share(field.value)),
            Known::Date | Known::Server => {
                (head.has_date, head.has_server) =
                    (head.has_date || field.known == Known::Date, head.has_server || field.known == Known::Server);
                head.headers.push_from(headers, index);
            }
            Known::LastModified => {
                head.last_modified = clock::parse(field.value);
                head.headers.push_from(headers, index);
            }
            Known::AcceptRanges if shared.conf.force_ranges => {}
            Known::Location | Known::Refresh | Known::SetCookie => match protocol.rewrite(field, request) {
                Some(new) if field.known == Known::Location => head.location = Some(new.into()),
                Some(new) => head.headers.push(field.name, &new),
                None => head.headers.push_from(headers, index),
            },
            _ => head.headers.push_from(headers, index),
        }
    }
    (head.allow_ranges, head.single_range) = (shared.conf.force_ranges, shared.conf.force_ranges);
    head
}

//! From a head to a request: its server, its path, how its body ends, and whether its connection is kept.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::head::Head;
use crate::conf::units;
use crate::http::h1::Inbound;
use crate::http::h1::parse::Span;
use crate::http::headers::Field;
use crate::http::request::Version;
use crate::http::{Client, Headers, Known, Method, Request, Scope, host, uri};
use crate::modules::ssl;
use crate::net::Level;
use crate::table::{Listen, Server};

/// A request with its server; a status where it must be refused.
pub type Built = (Box<Request>, Arc<Server>, Option<u16>);

/// Header fields that may stand once only.
const UNIQUE: [Known; 10] = [
    Known::ContentLength,
    Known::TransferEncoding,
    Known::IfModifiedSince,
    Known::IfUnmodifiedSince,
    Known::IfMatch,
    Known::IfNoneMatch,
    Known::IfRange,
    Known::Authorization,
    Known::ContentRange,
    Known::Expect,
];

/// Makes a request of a head.
pub fn request(client: &Rc<Client>, listen: &Arc<Listen>, head: &Head, started: Instant) -> Built {
    let mut request = blank(client, listen, head, started);
    let mut server = Arc::clone(&listen.default);
    let filled = path(&mut request, listen)
        .and_then(|()| line(&mut request, listen, head, &mut server))
        .and_then(|()| fields(&mut request, listen, head, &mut server));
    request.scope = Arc::clone(&server.root) as Arc<dyn Scope>;
    let refused = filled
        .and_then(|()| check(&mut request, listen, &server, head))
        .err()
        .map(|(status, log)| refuse(&mut request, status, &log));
    let refused = refused.or_else(|| insecure(&mut request, listen, &server));
    (request, server, refused)
}

/// Makes a request of a head that could not be read to its end, with the server its `Host` had named by then.
pub fn refused(
    client: &Rc<Client>,
    listen: &Arc<Listen>,
    head: &Head,
    started: Instant,
) -> (Box<Request>, Arc<Server>) {
    let mut request = blank(client, listen, head, started);
    if request.line.is_empty() && client.h2.is_none() {
        let end = head.bytes.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(head.bytes.len());
        request.line = head.bytes.slice(..end);
        // Whatever is wrong behind it, the answer has no body.
        if request.line.starts_with(b"HEAD ") {
            request.method = Method::Head;
        }
    }
    if head.line.is_some() {
        // What is wrong with the fields comes first.
        let _ = path(&mut request, listen);
    }
    let mut server = Arc::clone(&listen.default);
    for field in &head.fields {
        let known = request.headers.push_slice(field.name.clone(), field.value.clone());
        let text = head.bytes.slice(field.value.start as usize..field.value.end as usize);
        if known == Known::Host
            && let Some(found) = set_host(&mut request, listen, &text)
        {
            server = found;
        }
    }
    request.scope = Arc::clone(&server.root) as Arc<dyn Scope>;
    (request, server)
}

/// What was being read, for the log: `line` or `headers`.
pub fn reading(request: &Request) -> &'static str {
    if request.target.is_empty() { "line" } else { "headers" }
}

/// What TLS has against a request.
fn insecure(request: &mut Request, listen: &Listen, server: &Server) -> Option<u16> {
    let settings = &server.root.loc.ssl;
    if ssl::is_misdirected(settings, request) {
        let log = "client attempted to request the server name different from the one that was negotiated";
        return Some(refuse(request, 421, log));
    }
    let status = ssl::refuse(settings, request, listen.ssl)?;
    request.keep_alive = false;
    Some(status)
}

/// Tells the log why a request is refused with `status`.
pub fn refuse(request: &mut Request, status: u16, log: &str) -> u16 {
    if !log.is_empty() {
        let stage = if log.ends_with("request line") { "" } else { " while reading client request headers" };
        request.log(Level::Info, &format!("{log}{stage}"));
    }
    request.keep_alive = false;
    status
}

type Refusal = (u16, String);

/// A request of which nothing is known but its connection.
pub fn blank(client: &Rc<Client>, listen: &Listen, head: &Head, started: Instant) -> Box<Request> {
    let part = |span: &Span| head.bytes.slice(span.start as usize..span.end as usize);
    let line = head.line.as_ref();
    let method_name = line.map_or(Bytes::new(), |line| part(&line.method));
    let target = line.map_or(Bytes::new(), |line| part(&line.target));
    // An absolute form without a path means `/`.
    let target = if target.first() == Some(&b'?') { [b"/", &target[..]].concat().into() } else { target };
    let mut request = Request::new(client, Arc::clone(&listen.default.root) as Arc<dyn Scope>, started);
    request.line = line.map_or(Bytes::new(), |line| part(&line.line));
    request.method = Method::of(&method_name);
    request.method_name = method_name;
    let unknown = if client.h2.is_some() { Version::HTTP_20 } else { Version::HTTP_10 };
    request.version =
        line.map_or(unknown, |line| Version(if line.version < 2000 { line.version.min(1001) } else { line.version }));
    request.target = target;
    request.headers = Headers::over(head.bytes.clone(), head.fields.len());
    request.head_len = head.bytes.len() as u64;
    request
}

/// The host that an absolute target names.
fn line(request: &mut Request, listen: &Arc<Listen>, head: &Head, server: &mut Arc<Server>) -> Result<(), Refusal> {
    if let Some(span) = head.line.as_ref().and_then(|line| line.host.as_ref()) {
        let text = head.bytes.slice(span.start as usize..span.end as usize);
        let found = set_host(request, listen, &text);
        *server = found
            .ok_or((400, "client sent invalid host in request line while reading client request line".to_owned()))?;
    }
    Ok(())
}

/// Fields and host; `server` is the one that was found when the reading ends, well or not.
fn fields(request: &mut Request, listen: &Arc<Listen>, head: &Head, server: &mut Arc<Server>) -> Result<(), Refusal> {
    let (mut dropped, mut hosts) = (Vec::new(), 0);
    for field in &head.fields {
        let known = request.headers.push_slice(field.name.clone(), field.value.clone());
        let settings = &server.root.loc.core.server;
        let invalid = !field.valid || (field.underscore && !settings.underscores_in_headers);
        if invalid && settings.ignore_invalid_headers {
            dropped.push(request.headers.len() - 1);
            continue;
        }
        if known == Known::Host {
            hosts += 1;
            let text = head.bytes.slice(field.value.start as usize..field.value.end as usize);
            *server = host_field(request, listen, server, &text, hosts)?;
        }
    }
    if request.host.is_empty() {
        *server = find_server(request, listen);
    }
    if !dropped.is_empty() {
        ignore(request, &dropped);
    }
    Ok(())
}

/// Takes the target apart; one that cannot be is dropped. Whether slashes are merged is the default server's to say: no other is known yet.
fn path(request: &mut Request, listen: &Listen) -> Result<(), Refusal> {
    let target = std::mem::take(&mut request.target);
    let normal = uri::normalise(&target, listen.default.root.loc.core.server.merge_slashes)
        .map_err(|bad| (400, format!("{bad} while reading client request line")))?;
    request.plain = matches!(normal.path, Cow::Borrowed(_));
    request.args = target.slice_ref(normal.args);
    request.uri = match normal.path {
        Cow::Borrowed(path) => target.slice_ref(path),
        Cow::Owned(path) => path.into(),
    };
    request.target = target;
    Ok(())
}

fn host_field(
    request: &mut Request,
    listen: &Arc<Listen>,
    server: &Arc<Server>,
    text: &Bytes,
    count: usize,
) -> Result<Arc<Server>, Refusal> {
    if count > 1 {
        return Err((400, twice("host header", request, Known::Host)));
    }
    if !request.host.is_empty() {
        // The target's own host goes first, but the field must still be one.
        return match host::valid(text) {
            Some(_) => Ok(Arc::clone(server)),
            None => Err((400, "client sent invalid host header".to_owned())),
        };
    }
    set_host(request, listen, text).ok_or_else(|| (400, "client sent invalid host header".to_owned()))
}

/// Takes `text` for the host and finds its server.
fn set_host(request: &mut Request, listen: &Arc<Listen>, text: &Bytes) -> Option<Arc<Server>> {
    let valid = host::valid(text)?;
    request.host = match valid.name {
        Cow::Borrowed(name) => text.slice_ref(name),
        Cow::Owned(name) => name.into(),
    };
    if valid.port != 0 {
        let digits = text.split(|c| *c == b':').next_back().unwrap_or_default();
        let zeros = digits.iter().take_while(|c| **c == b'0').count();
        request.host_port = text.slice(text.len() - digits.len() + zeros..);
    }
    Some(find_server(request, listen))
}

fn find_server(request: &mut Request, listen: &Arc<Listen>) -> Arc<Server> {
    let mut host = request.host.clone();
    if host.is_empty()
        && let Some(asked) = request.client.stream.asked()
    {
        // Who names no host has said it in the handshake.
        host = asked.to_ascii_lowercase().into();
    }
    let Some((server, groups)) = listen.servers.find(&host) else { return Arc::clone(&listen.default) };
    if let Some((pattern, groups)) = groups {
        for (name, group) in pattern.names() {
            let range = groups.get(usize::from(*group)).copied().flatten();
            let value = range.map_or(Bytes::new(), |(start, end)| host.slice(start as usize..end as usize));
            server.root.store(request, name, value);
        }
        request.vars.set_captures(host, groups);
    }
    Arc::clone(server)
}

/// Drops invalid fields, telling the log.
fn ignore(request: &mut Request, dropped: &[usize]) {
    let mut number = 0;
    let mut lines = Vec::new();
    request.headers.retain(|Field { name, value, .. }| {
        let drop = dropped.contains(&number);
        number += 1;
        if drop {
            lines.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
        }
        !drop
    });
    for line in lines {
        request.log(
            Level::Info,
            &format!("client sent invalid header line: \"{line}\" while reading client request headers"),
        );
    }
}

/// The sentence for a field that stands twice.
fn twice(what: &str, request: &Request, known: Known) -> String {
    let mut lines =
        request.headers.iter().filter(|field| field.known == known).map(|field| {
            format!("\"{}: {}\"", String::from_utf8_lossy(field.name), String::from_utf8_lossy(field.value))
        });
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    format!("client sent duplicate {what}: {second}, previous value: {first}")
}

/// What HTTP/2 has no fields for (RFC 9113 §8.2.2).
fn frameless(request: &Request, head: &Head) -> Result<(), Refusal> {
    let headers = &request.headers;
    let forbidden = [
        (Known::Connection, "Connection"),
        (Known::KeepAlive, "Keep-Alive"),
        (Known::TransferEncoding, "Transfer-Encoding"),
        (Known::Upgrade, "Upgrade"),
    ];
    for (known, name) in forbidden {
        if headers.get(known).is_some() {
            return Err((400, format!("client sent \"{name}\" header")));
        }
    }
    let mut te = headers.all(Known::Te);
    let trailers = te.next().is_none_or(|value| value.eq_ignore_ascii_case(b"trailers"));
    if !trailers || te.next().is_some() {
        return Err((400, "client sent invalid \"TE\" header".to_owned()));
    }
    if request.host.is_empty() {
        return Err((400, "client sent neither \":authority\" nor \"Host\" header".to_owned()));
    }
    let authority = head.line.as_ref().and_then(|line| line.host.as_ref());
    let authority = authority.and_then(|span| head.bytes.get(span.start as usize..span.end as usize));
    if authority.is_some() && authority != headers.get(Known::Host) {
        return Err((400, "client sent \":authority\" and \"Host\" headers with different values".to_owned()));
    }
    Ok(())
}

/// What nginx refuses once the whole head is there; otherwise how the body ends and whether the connection is kept.
fn check(request: &mut Request, listen: &Listen, server: &Server, head: &Head) -> Result<(), Refusal> {
    let error = |status, text: &str| Err((status, text.to_owned()));
    let mut seen = 0u128;
    for Field { known, .. } in request.headers.iter() {
        let bit = 1u128 << known as u32;
        if seen & bit != 0 && UNIQUE.contains(&known) {
            return Err((400, twice("header line", request, known)));
        }
        seen |= bit;
    }
    if request.version == Version::HTTP_20 {
        if !listen.http2 && !server.root.loc.v2.enabled {
            let text = "client attempted to request the server name for which the negotiated protocol is disabled";
            return error(421, text);
        }
        frameless(request, head)?;
    }
    let has_host = request.headers.get(Known::Host).is_some();
    if request.version > Version::HTTP_10 && !has_host {
        return error(400, "client sent HTTP/1.1 request without \"Host\" header");
    }
    let length = request.headers.get(Known::ContentLength).map(units::number);
    if length == Some(None) {
        return error(400, "client sent invalid \"Content-Length\" header");
    }
    request.content_length = length.flatten();
    let client = Rc::clone(&request.client);
    request.body = Inbound::length(client, request.content_length.unwrap_or_default());
    if let Some(coding) = request.headers.get(Known::TransferEncoding) {
        if request.version < Version::HTTP_11 {
            return error(400, "client sent HTTP/1.0 request with \"Transfer-Encoding\" header");
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            let text = String::from_utf8_lossy(coding).into_owned();
            return Err((501, format!("client sent unknown \"Transfer-Encoding\": \"{text}\"")));
        }
        if request.content_length.is_some() {
            return error(400, "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time");
        }
        request.body = Inbound::chunked(Rc::clone(&request.client));
    }
    match request.method {
        Method::Connect => return error(405, "client sent CONNECT method"),
        Method::Trace => return error(405, "client sent TRACE method"),
        _ => {}
    }
    request.keep_alive =
        request.headers.all(Known::Connection).fold(request.version > Version::HTTP_10, |keep, value| {
            let says = |word: &[u8]| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
            !says(b"close") && (keep || says(b"keep-alive"))
        });
    let expects = request.headers.get(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    if expects && request.version == Version::HTTP_11 {
        request.body.expect();
    }
    Ok(())
}

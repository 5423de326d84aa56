//! The fields of a response in nginx's order, for whichever wire it leaves on (RFC 9110 §5).

use bytes::Bytes;

use super::core::{Core, Tokens};
use super::{Head, Known, Request};
use crate::net::clock;

/// Where fields go.
pub trait Sink {
    /// Takes a field; its value comes in parts that follow one another.
    fn field(&mut self, name: &[u8], value: &[&[u8]]);
}

/// nginx's line for a status, without the version; nothing for codes it has no words for.
pub fn status_line(status: u16) -> Option<&'static str> {
    Some(match status {
        100 => "100 Continue",
        101 => "101 Switching Protocols",
        103 => "103 Early Hints",
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        204 => "204 No Content",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        302 => "302 Moved Temporarily",
        303 => "303 See Other",
        304 => "304 Not Modified",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

/// The `Server` field's value.
pub fn server(core: &Core) -> &'static str {
    match core.server_tokens {
        Tokens::Off => "nginx",
        Tokens::On => crate::SERVER,
        Tokens::Build => crate::SERVER_BUILD,
    }
}

/// Writes the fields; `connection` adds those of the wire in their place.
pub fn write<S: Sink>(request: &Request, head: &mut Head, out: &mut S, connection: impl FnOnce(&mut S)) {
    let core = request.core();
    if !head.has_server {
        out.field(b"Server", &[server(core).as_bytes()]);
    }
    if !head.has_date {
        out.field(b"Date", &[clock::now().1.http.as_bytes()]);
    }
    if let Some(kind) = head.content_type.as_ref().filter(|kind| !kind.is_empty()) {
        match &head.charset {
            Some(charset) => out.field(b"Content-Type", &[kind, b"; charset=", charset]),
            None => out.field(b"Content-Type", &[kind]),
        }
    }
    if let Some(length) = head.content_length {
        out.field(b"Content-Length", &[itoa::Buffer::new().format(length).as_bytes()]);
    }
    let own = head.headers.get(Known::LastModified).is_none();
    match (&head.last_modified_text, head.last_modified.filter(|_| own)) {
        (Some(text), _) => out.field(b"Last-Modified", &[text]),
        (None, Some(time)) if matches!(head.status, 200 | 206 | 304) => {
            out.field(b"Last-Modified", &[clock::http(time).as_bytes()]);
        }
        _ => {}
    }
    let relative = location(request, head, out);
    connection(out);
    if core.gzip.vary && request.gzip.vary.get() {
        out.field(b"Vary", &[b"Accept-Encoding"]);
    }
    if let Some(location) = relative {
        out.field(b"Location", &[&location]);
    }
    for item in head.headers.iter() {
        out.field(item.name, &[item.value]);
    }
}

/// Writes `Location` made absolute, or returns it to be written as it is.
fn location<S: Sink>(request: &Request, head: &mut Head, out: &mut S) -> Option<Bytes> {
    let core = request.core();
    let location = head.location.clone()?;
    if location.first() != Some(&b'/') || !core.absolute_redirect {
        return Some(location);
    }
    let local = request.client.local;
    let host: Vec<u8> = if core.server_name_in_redirect {
        core.server.name.to_vec()
    } else if !request.host.is_empty() {
        request.host.to_vec()
    } else {
        match local {
            Some(local) => match local.ip() {
                std::net::IpAddr::V6(ip) => format!("[{ip}]").into_bytes(),
                ip => ip.to_string().into_bytes(),
            },
            None => b"localhost".to_vec(),
        }
    };
    let (scheme, port): (&[u8], u16) = if request.is_tls() { (b"https://", 443) } else { (b"http://", 80) };
    let mut url = [scheme, &host].concat();
    if let Some(local) = local.filter(|local| core.port_in_redirect && local.port() != port) {
        url.extend_from_slice(format!(":{}", local.port()).as_bytes());
    }
    url.extend_from_slice(&location);
    out.field(b"Location", &[&url]);
    head.location = Some(url.into());
    None
}

//! The request as it is sent on: its line and fields, in nginx's order.

use super::pass::Loc;
use crate::http::escape::{self, Set};
use crate::http::headers::Known;
use crate::http::Request;
use crate::upstream::Target;
use crate::upstream::fields::Sent;
use crate::upstream::target::Destination;

/// Fields that are not passed on as they come.
pub const DEFAULTS: [&str; 9] = [
    "Host",
    "Connection",
    "Proxy-Connection",
    "Content-Length",
    "Transfer-Encoding",
    "TE",
    "Keep-Alive",
    "Expect",
    "Upgrade",
];

/// Writes the head.
pub fn write(loc: &Loc, to: &Destination, sent: Sent, request: &Request) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    match &loc.method {
        Some(method) => method.append(request, &mut out),
        None => out.extend_from_slice(&request.method_name),
    }
    out.push(b' ');
    let before = out.len();
    uri(loc, to, request, &mut out);
    if out.len() == before {
        request.log(crate::net::Level::Error, "zero length URI to proxy");
        return None;
    }
    out.extend_from_slice(if loc.http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    let fields = &loc.fields;
    host(loc, to, request, &mut out);
    fields.write(sent, loc.shared.conf.pass_request_headers, request, &mut out);
    out.extend_from_slice(b"\r\n");
    Some(out)
}

fn host(loc: &Loc, to: &Destination, request: &Request, out: &mut Vec<u8>) {
    let set = loc.fields.host.as_ref().map(|value| value.get(request));
    match set {
        Some(value) if !value.is_empty() => field(out, b"Host", &value),
        Some(_) if loc.http10 => {}
        _ => field(out, b"Host", &to.host),
    }
}

/// Which URI is sent: that of `proxy_pass` with variables, what the client sent, or the path with its prefix replaced.
fn uri(loc: &Loc, to: &Destination, request: &Request, out: &mut Vec<u8>) {
    let variable = matches!(loc.target, Target::Variable { .. });
    match &to.uri {
        Some(uri) if variable => return out.extend_from_slice(uri),
        None if request.is_target => return out.extend_from_slice(&request.target),
        Some(uri) if !request.broke => {
            out.extend_from_slice(uri);
            path(request, request.uri.get(loc.replaced..).unwrap_or_default(), out);
        }
        _ => path(request, &request.uri, out),
    }
    if !request.args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&request.args);
    }
}

fn path(request: &Request, path: &[u8], out: &mut Vec<u8>) {
    if request.plain && !request.internal {
        out.extend_from_slice(path);
    } else {
        escape::escape(path, Set::Uri, out);
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    crate::http::h1::write::field(out, name, value);
}

/// `$proxy_add_x_forwarded_for`.
pub fn forwarded_for(request: &Request, out: &mut Vec<u8>) -> bool {
    for value in request.headers.all(Known::XForwardedFor) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(request.peer_text());
    true
}

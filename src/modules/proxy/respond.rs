//! One request of ours to a server that speaks HTTP/1 (RFC 9112).

use bytes::{Bytes, BytesMut};

use super::head;
use super::pass::{Loc, SCHEME};
use super::{cookie, redirect};
use crate::http::h1::write::Writer;
use crate::http::headers::{Field, Known};
use crate::http::request::Version;
use crate::http::{Body, Flow, Method, Request};
use crate::net::Level;
use crate::upstream::fields::Sent;
use crate::upstream::protocol::{Length, Outgoing, Protocol, ReplyHead};
use crate::upstream::target::Destination;
use crate::upstream::{answer, inlet, wire};

/// Passes the request on and answers with what comes back.
pub async fn respond(loc: &Loc, request: &mut Request) -> Flow {
    let to = match loc.target.resolve(&SCHEME, request).await {
        Ok(to) => to,
        Err(status) => return Flow::Fail(status),
    };
    if let Err(status) = to.dial(loc.dialer.as_ref(), request) {
        return Flow::Fail(status);
    }
    let outgoing = match outgoing(loc, &to, request).await {
        Ok(outgoing) => outgoing,
        Err(status) => return Flow::Fail(status),
    };
    let mut protocol = Http1 { loc, head: is_head(loc, request), chunked: request.body.is_chunked() };
    answer::respond(&mut protocol, &loc.shared, &to.peers, &outgoing, request).await
}

/// HTTP/1.0 and 1.1; HTTP/2 begins with the same head.
struct Http1<'a> {
    loc: &'a Loc,
    /// Whether the request is a HEAD: its response has no body whatever its fields say.
    head: bool,
    /// Whether a body that is sent while it comes goes in chunks.
    chunked: bool,
}

impl Protocol for Http1<'_> {
    const SCHEME: &'static str = SCHEME.name;
    const KEEPS_DATELESS: bool = true;

    fn head(&mut self, buf: &mut BytesMut, request: &Request) -> Result<Option<ReplyHead>, String> {
        loop {
            let Some(head) = wire::http(buf, self.head)? else { return Ok(None) };
            if matches!(head.length, Length::Headless) {
                return headless(head, request).map(Some);
            }
            // Interim responses but hints and the change of protocols are read over.
            if !(100..200).contains(&head.status) || matches!(head.status, 101 | 103) {
                return Ok(Some(head));
            }
        }
    }

    fn is_http2(&self) -> bool {
        self.loc.http2
    }

    fn uri(sent: &[u8]) -> &[u8] {
        sent.split(|&b| b == b' ').nth(1).unwrap_or_default()
    }

    fn piece(&self, bytes: Bytes, last: bool, to: &mut Writer<'_>) {
        to.data(bytes, self.chunked);
        if last {
            to.end(self.chunked);
        }
    }

    fn rewrite(&self, field: Field<'_>, request: &mut Request) -> Option<Vec<u8>> {
        match field.known {
            Known::Location => redirect::location(&self.loc.redirects, field.value, request),
            Known::Refresh => redirect::refresh(&self.loc.redirects, field.value, request),
            _ => cookie::rewrite(&self.loc.cookies, field.value, request),
        }
    }
}

/// What does not begin like a head is passed on as it is; HTTP/2 has no place for that.
fn headless(head: ReplyHead, request: &Request) -> Result<ReplyHead, String> {
    let problem = "upstream sent no valid HTTP/1.0 header";
    if request.version >= Version::HTTP_20 {
        return Err(problem.to_owned());
    }
    request.log(Level::Error, &format!("{problem} while reading response header from upstream"));
    Ok(head)
}

fn is_head(loc: &Loc, request: &Request) -> bool {
    match &loc.method {
        Some(method) => method.get(request).eq_ignore_ascii_case(b"HEAD"),
        None => request.method == Method::Head,
    }
}

/// Reads the client's body as far as it must be read first, and writes the head.
async fn outgoing(loc: &Loc, to: &Destination, request: &mut Request) -> Result<Outgoing, u16> {
    let body = match &loc.set_body {
        // Its variables may ask for the body that it replaces.
        Some(body) => {
            inlet::read(request).await?;
            Some(Body::Full(body.bytes(request)))
        }
        // HTTP/1.0 has no chunks: such a body must be whole before its length is known.
        None => inlet::body(&loc.shared.conf, !loc.http10, request).await?,
    };
    let sent = match &body {
        Some(body) if loc.set_body.is_some() => Sent::Length(body.len().unwrap_or_default()),
        None if request.body.is_chunked() => Sent::Chunked,
        None => Sent::Length(request.content_length.unwrap_or_default()),
        Some(_) if request.body.is_chunked() => Sent::Length(request.body.kept().len().unwrap_or_default()),
        Some(_) => request.content_length.map_or(Sent::Nothing, Sent::Length),
    };
    let head = head::write(loc, to, sent, request).ok_or(500u16)?;
    Ok(Outgoing { head: head.into(), body })
}

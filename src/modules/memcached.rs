//! Responses out of memcached: <https://nginx.org/en/docs/http/ngx_http_memcached_module.html>
//!
//! The protocol: <https://github.com/memcached/memcached/blob/master/doc/protocol.txt>

use bytes::{Bytes, BytesMut};

use super::{Phases, Seal};
use crate::conf::{Contexts, Diag, Directive, Local, on};
use crate::conf::units;
use crate::http::escape::{self, Set};
use crate::http::{Body, Cause, Flow, Headers, Method, Request, Value};
use crate::net::Level;
use crate::upstream::conf::{CONNECTING, NEXT_MEMCACHED};
use crate::upstream::protocol::{Decode, Decoded, Length, Outgoing, Protocol, ReplyHead};
use crate::upstream::target::{Pass, Prefix, Scheme};
use crate::upstream::{self, Mount, Shared, Target, answer};

/// `ngx_http_memcached_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    upstream: upstream::Conf,
    pass: Local<Option<(Pass, Value)>>,
    gzip_flag: u64,
}

/// What requests read.
pub struct Loc {
    shared: Shared,
    target: Target,
    /// `$memcached_key`.
    key: Value,
    gzip_flag: u64,
}

const SCOPES: Contexts = Contexts::SCOPES;
const PLACES: Contexts = Contexts(Contexts::LOCATION.0 | Contexts::LOCATION_IF.0);
const SCHEME: Scheme = Scheme { name: "memcached://", prefix: Prefix::Never, uri: false, port: 0, secure: None };
/// What follows a value.
const END: &[u8] = b"\r\nEND\r\n";

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Option<Box<Loc>>;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("memcached_pass", PLACES, 1..=1, |c, a| {
            let at = a.directive().end;
            let key = Value::parse(b"$memcached_key", &mut a.env.names, Some(at))?;
            c.pass.0 = Some((Pass::fixed(&SCHEME, a)?, key));
            Ok(())
        }),
        on("memcached_gzip_flag", SCOPES, 1..=1, |c, a| a.set(&mut c.gzip_flag)),
    ];

    const UPSTREAM: Option<Mount<Conf>> =
        Some(("memcached_", &[CONNECTING, NEXT_MEMCACHED], |conf| &mut conf.upstream));

    fn seal(mut conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Option<Box<Loc>>, Diag> {
        let Some((pass, key)) = conf.pass.0 else { return Ok(None) };
        conf.upstream.buffers.size = conf.upstream.buffer_size;
        (conf.upstream.buffering, conf.upstream.intercept_errors, conf.upstream.force_ranges) = (false, true, true);
        Ok(Some(Box::new(Loc {
            target: pass.seal(&SCHEME, cx.upstreams)?,
            shared: Shared::seal(conf.upstream, "memcached", &[], cx.env)?,
            key,
            gzip_flag: conf.gzip_flag,
        })))
    }

    fn enter_unnamed(outer: &Conf, inner: &mut Conf) {
        inner.pass.0.clone_from(&outer.pass.0);
    }

    fn passes(loc: &Option<Box<Loc>>) -> bool {
        loc.is_some()
    }

    async fn content(loc: &Option<Box<Loc>>, request: &mut Request) -> Flow {
        match loc {
            Some(loc) => pass(loc, request).await.unwrap_or_else(Flow::Fail),
            None => Flow::Next,
        }
    }
}

async fn pass(loc: &Loc, request: &mut Request) -> Result<Flow, u16> {
    if !matches!(request.method, Method::Get | Method::Head) {
        return Err(405);
    }
    let key = loc.key.get(request);
    if key.is_empty() {
        request.log(Level::Error, "the \"$memcached_key\" variable is not set");
        return Err(500);
    }
    let mut line = b"get ".to_vec();
    escape::escape(&key, Set::Memcached, &mut line);
    line.extend_from_slice(b"\r\n");
    let head = Bytes::from(line);
    let to = loc.target.resolve(&SCHEME, request).await?;
    let mut protocol = Memcached { loc, key: head.slice(4..head.len().saturating_sub(2)) };
    let outgoing = Outgoing { head, body: Some(Body::Empty) };
    Ok(answer::respond(&mut protocol, &loc.shared, &to.peers, &outgoing, request).await)
}

/// The protocol as one request speaks it.
struct Memcached<'a> {
    loc: &'a Loc,
    key: Bytes,
}

impl Protocol for Memcached<'_> {
    const SCHEME: &'static str = SCHEME.name;
    const INTERCEPTS_404: bool = true;

    fn head(&mut self, buf: &mut BytesMut, request: &Request) -> Result<Option<ReplyHead>, String> {
        let Some(end) = memchr::memchr(b'\n', buf) else { return Ok(None) };
        let line = buf.split_to(end + 1).freeze();
        let (size, line) = (line.len() as u64, line.slice(..end));
        let bad = |what: &str| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            match what {
                "response" => format!("memcached sent invalid response: \"{}\"", text(line)),
                what => format!("memcached sent invalid {what} in response \"{}\" for key \"{}\"", text(line), text(&self.key)),
            }
        };
        let Some(text) = line.strip_suffix(b"\r") else { return Err(bad("response")) };
        let mut headers = Headers::default();
        let Some(value) = text.strip_prefix(b"VALUE ") else {
            if text != b"END" {
                return Err(bad("response"));
            }
            let key = String::from_utf8_lossy(&self.key);
            let text = format!("key: \"{key}\" was not found by memcached while reading response header from upstream");
            request.log(Level::Info, &text);
            return Ok(Some(reply(404, headers, 0, size)));
        };
        let rest = value.strip_prefix(&self.key[..]).ok_or_else(|| bad("key"))?;
        let rest = rest.strip_prefix(b" ").ok_or_else(|| bad("response"))?;
        let space = memchr::memchr(b' ', rest).ok_or_else(|| bad("response"))?;
        let (flags, length) = rest.split_at_checked(space).unwrap_or_default();
        if self.loc.gzip_flag != 0 && units::number(flags).ok_or_else(|| bad("flags"))? & self.loc.gzip_flag != 0 {
            headers.push(b"Content-Encoding", b"gzip");
        }
        let length = length.get(1..).and_then(units::number).ok_or_else(|| bad("length"))?;
        headers.push(b"Content-Type", &request.core().content_type(request));
        Ok(Some(reply(200, headers, length, size)))
    }
}

fn reply(status: u16, headers: Headers, length: u64, size: u64) -> ReplyHead {
    let (line, content_length) = (Bytes::new(), Some(length));
    let length = if status == 404 { Length::Known(0) } else { Length::Coded(Box::new(Item { left: length, end: END })) };
    ReplyHead { status, line, headers, content_length, length, keep_alive: true, size }
}

/// A value and what follows it.
struct Item {
    left: u64,
    /// What is still to come of the end; nothing once it was found wrong.
    end: &'static [u8],
}

impl Decode for Item {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, Cause> {
        if self.left > 0 && !buf.is_empty() {
            let bytes = buf.split_to(buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))).freeze();
            self.left -= bytes.len() as u64;
            return Ok(Decoded::Data(bytes));
        }
        if self.end.is_empty() {
            return Ok(Decoded::Done(false));
        }
        if self.left > 0 || buf.is_empty() {
            return Ok(Decoded::More);
        }
        let Some(end) = self.end.strip_prefix(&buf[..]) else {
            buf.clear();
            self.end = &[];
            return Ok(Decoded::Note(Level::Error, "memcached sent invalid trailer".to_owned()));
        };
        buf.clear();
        self.end = end;
        Ok(if end.is_empty() { Decoded::Done(true) } else { Decoded::More })
    }

    fn may_close(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_with_their_mark() {
        let read = |pieces: &[&str]| {
            let (mut buf, mut item, mut body) = (BytesMut::new(), Item { left: 3, end: END }, Vec::new());
            let (mut notes, mut done) = (0, None);
            for piece in pieces {
                buf.extend_from_slice(piece.as_bytes());
                loop {
                    match item.decode(&mut buf).unwrap() {
                        Decoded::Data(bytes) => body.extend_from_slice(&bytes),
                        Decoded::Note(..) => notes += 1,
                        Decoded::More | Decoded::Trailers(_) => break,
                        Decoded::Done(reusable) => {
                            done = Some(reusable);
                            break;
                        }
                    }
                }
            }
            (body, notes, done)
        };
        assert_eq!(read(&["abc\r\nEND\r\n"]), (b"abc".to_vec(), 0, Some(true)));
        assert_eq!(read(&["a", "bc\r\nE", "ND\r", "\n"]), (b"abc".to_vec(), 0, Some(true)));
        assert_eq!(read(&["abcd\r\nEND\r\n"]), (b"abc".to_vec(), 1, Some(false)));
        assert_eq!(read(&["abc\r\nEN"]), (b"abc".to_vec(), 0, None));
    }
}

//! Byte ranges (RFC 9110 §14): <https://nginx.org/en/docs/http/ngx_http_core_module.html#max_ranges>

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::Diag;
use crate::http::flow::Fault;
use crate::http::range::{self, Multipart, Outcome};
use crate::http::request::Version;
use crate::http::{Body, Chunk, FilePart, Head, Known, Request, Source};
use crate::net::clock;

/// `ngx_http_range_filter_module`.
pub struct Module;

impl super::Module for Module {
    type Conf = ();
    type Main = ();
    type Loc = ();
    const PHASES: Phases = Phases::FILTER;

    fn seal((): (), (): &(), _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }

    fn filter((): &(), request: &Request, head: &mut Head, body: Body) -> Body {
        let max = usize::try_from(request.core().max_ranges).unwrap_or(usize::MAX).min(range::UNLIMITED);
        let Some(len) = head.content_length.filter(|_| head.allow_ranges && head.status == 200 && max > 0) else {
            return body;
        };
        if request.version < Version::HTTP_10 {
            return body;
        }
        // What streams past cannot be gone back in.
        let max = if head.single_range || matches!(body, Body::Stream(_)) { 1 } else { max };
        let asked = request.headers.get(Known::Range).filter(|_| is_current(request, head));
        match asked.map_or(Outcome::Ignore, |asked| range::parse(asked, len, max)) {
            Outcome::Ignore => {
                head.headers.push(b"Accept-Ranges", b"bytes");
                body
            }
            Outcome::Unsatisfiable => {
                head.refused = Some(416);
                // What was added so far stays, and the error page passes the filters again.
                head.headers.remove(Known::ETag);
                head.headers.push(b"Content-Range", range::unsatisfied(len).as_bytes());
                Body::Empty
            }
            Outcome::Ranges(ranges) => {
                (head.status, head.line) = (206, None);
                match ranges.as_slice() {
                    [range] => single(range, len, head, body),
                    _ => several(ranges, len, head, &body),
                }
            }
        }
    }
}

/// Whether `If-Range` allows parts: a tag or a date that is exactly the response's.
fn is_current(request: &Request, head: &Head) -> bool {
    match request.headers.get(Known::IfRange) {
        None => true,
        Some(tag) if tag.len() >= 2 && tag.ends_with(b"\"") => head.headers.get(Known::ETag) == Some(tag),
        Some(date) => head.last_modified.is_some_and(|modified| clock::parse(date) == Some(modified)),
    }
}

fn single(range: &Range<u64>, len: u64, head: &mut Head, body: Body) -> Body {
    head.headers.remove(Known::ContentRange);
    head.headers.push(b"Content-Range", range::content_range(range, len).as_bytes());
    head.content_length = Some(range.end - range.start);
    match body {
        Body::Stream(source) => Body::Stream(Box::new(Window { source, skip: range.start, left: range.end - range.start })),
        body => match part(&body, range) {
            Some(Chunk::Data(bytes)) => Body::Full(bytes),
            Some(Chunk::File(part)) => Body::File(part),
            _ => body,
        },
    }
}

fn several(ranges: Vec<Range<u64>>, len: u64, head: &mut Head, body: &Body) -> Body {
    let mut kind = head.content_type.take().unwrap_or_default().to_vec();
    if let Some(charset) = head.charset.take() {
        kind.extend_from_slice(b"; charset=");
        kind.extend_from_slice(&charset);
    }
    let Multipart { content_type, parts, end, length } = range::multipart(ranges, len, &kind, clock::random());
    head.content_type = Some(content_type.into());
    head.content_length = Some(length);
    let mut chunks = VecDeque::with_capacity(2 * parts.len() + 1);
    for (before, range) in parts {
        chunks.push_back(Chunk::Data(before.into()));
        chunks.extend(part(body, &range));
    }
    chunks.push_back(Chunk::Data(end.into()));
    Body::Stream(Box::new(Parts(chunks)))
}

/// A part of a body that lies in one piece.
fn part(body: &Body, range: &Range<u64>) -> Option<Chunk> {
    match body {
        Body::Full(bytes) => cut(&Chunk::Data(bytes.clone()), range.start, range.end - range.start),
        Body::File(file) => cut(&Chunk::File(file.clone()), range.start, range.end - range.start),
        _ => None,
    }
}

/// What a chunk has from `skip` on, at most `len` bytes.
fn cut(chunk: &Chunk, skip: u64, len: u64) -> Option<Chunk> {
    let len = chunk.len().checked_sub(skip)?.min(len);
    Some(match chunk {
        Chunk::Data(bytes) => {
            let (start, len) = (usize::try_from(skip).ok()?, usize::try_from(len).ok()?);
            Chunk::Data(bytes.slice(start..start + len))
        }
        Chunk::File(file) => Chunk::File(FilePart { offset: file.offset + skip, len, ..file.clone() }),
        Chunk::Flush => Chunk::Flush,
    })
}

/// Several parts, one after the other.
struct Parts(VecDeque<Chunk>);

impl Source for Parts {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// One part of what streams past.
struct Window {
    source: Box<dyn Source>,
    skip: u64,
    left: u64,
}

impl Source for Window {
    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        self.source.poll_ahead(cx, queued);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        while self.left > 0 {
            let chunk = match ready!(self.source.poll_chunk(cx)) {
                Some(Ok(chunk)) => chunk,
                end => return Poll::Ready(end),
            };
            let kept = cut(&chunk, self.skip.min(chunk.len()), self.left).unwrap_or(Chunk::Data(Bytes::new()));
            self.skip -= self.skip.min(chunk.len());
            self.left -= kept.len();
            if !kept.is_empty() || matches!(kept, Chunk::Flush) {
                return Poll::Ready(Some(Ok(kept)));
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_a_stream() {
        let chunks = ["abc", "", "def", "ghi"].map(|text| Chunk::Data(Bytes::from_static(text.as_bytes())));
        for (skip, left, want) in [(0, 9, "abcdefghi"), (4, 3, "efg"), (3, 1, "d"), (8, 1, "i")] {
            let source = Box::new(Parts(chunks.clone().into()));
            let (mut window, mut got) = (Window { source, skip, left }, Vec::new());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(Ok(Chunk::Data(bytes)))) = window.poll_chunk(&mut cx) {
                got.extend_from_slice(&bytes);
            }
            assert_eq!(String::from_utf8(got).unwrap(), want);
        }
    }
}

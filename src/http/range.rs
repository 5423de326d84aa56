//! Byte ranges: RFC 9110 section 14 and https://nginx.org/en/docs/http/ngx_http_core_module.html#max_ranges
use std::ops::Range;

use crate::conf::units;

/// `max_ranges` when it is not configured.
pub const UNLIMITED: usize = i32::MAX as usize;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answer as if the header were not there.
    Ignore,
    /// Answer 416.
    Unsatisfiable,
    /// Answer 206 with these, in the order of the request; never empty, each within the body and not empty.
    Ranges(Vec<Range<u64>>),
}

/// A body of `multipart/byteranges`.
#[derive(Debug, PartialEq, Eq)]
pub struct Multipart {
    /// The `Content-Type` of the response.
    pub content_type: String,
    /// The bytes in front of each range, then the range itself.
    pub parts: Vec<(Vec<u8>, Range<u64>)>,
    /// The closing boundary.
    pub end: Vec<u8>,
    /// The `Content-Length` in bytes.
    pub length: u64,
}

/// Reads a `Range` header for a body of `len` bytes. More than `max_ranges` ranges, or ranges that add up to more
/// than the body (plus some room for part headers while `max_ranges` is `UNLIMITED`), are ignored.
pub fn parse(header: &[u8], len: u64, max_ranges: usize) -> Outcome {
    let Some((unit, list)) = header.split_at_checked(6).filter(|(_, list)| !list.is_empty()) else {
        return Outcome::Ignore;
    };
    if max_ranges == 0 || !unit.eq_ignore_ascii_case(b"bytes=") {
        return Outcome::Ignore;
    }
    let mut ranges = Vec::new();
    let mut total = 0u64;
    for item in list.split(|&c| c == b',') {
        let Some(range) = item_range(item, len) else {
            return Outcome::Unsatisfiable;
        };
        if range.is_empty() {
            if range.start == 0 {
                return Outcome::Ignore;
            }
            continue;
        }
        total = total.saturating_add(range.end - range.start);
        if ranges.len() == max_ranges {
            return Outcome::Ignore;
        }
        ranges.push(range);
    }
    let heads = 256 * ranges.len() as u64;
    let wasteful = total > len || max_ranges == UNLIMITED && total.saturating_add(heads) > len.saturating_add(4096);
    match ranges.len() {
        0 => Outcome::Unsatisfiable,
        2.. if wasteful => Outcome::Ignore,
        _ => Outcome::Ranges(ranges),
    }
}

/// The `Content-Range` of one range of a body of `len` bytes.
pub fn content_range(range: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1))
}

/// The `Content-Range` of a 416 response.
pub fn unsatisfied(len: u64) -> String {
    format!("bytes */{len}")
}

/// Lays out several ranges of a body of `len` bytes; `content_type` (with its charset) may be empty, and
/// `boundary` is a number no other response in flight has.
pub fn multipart(ranges: Vec<Range<u64>>, len: u64, content_type: &[u8], boundary: u64) -> Multipart {
    let type_line = match content_type {
        [] => Vec::new(),
        value => [b"Content-Type: ", value, b"\r\n"].concat(),
    };
    let part = |range: Range<u64>| {
        let mut head = format!("\r\n--{boundary:020}\r\n").into_bytes();
        head.extend_from_slice(&type_line);
        head.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(&range, len)).as_bytes());
        (head, range)
    };
    let parts: Vec<_> = ranges.into_iter().map(part).collect();
    let end = format!("\r\n--{boundary:020}--\r\n").into_bytes();
    let body: u64 = parts.iter().map(|(head, range)| head.len() as u64 + range.end - range.start).sum();
    Multipart {
        content_type: format!("multipart/byteranges; boundary={boundary:020}"),
        length: body + end.len() as u64,
        parts,
        end,
    }
}

/// One of `a-b`, `a-` and `-n`, cut to the body; empty when nothing of the body is meant, `None` when malformed.
fn item_range(item: &[u8], len: u64) -> Option<Range<u64>> {
    let dash = item.iter().position(|&c| c == b'-')?;
    let (first, last) = (trim(item.get(..dash)?), item.get(dash + 1..)?);
    if first.is_empty() {
        // A suffix has no space between the dash and its length.
        let count = units::number(trim_end(last))?;
        return Some(len.saturating_sub(count)..len);
    }
    let first = units::number(first)?;
    let end = match trim(last) {
        [] => len,
        last => units::number(last)?.saturating_add(1).min(len),
    };
    Some(first..end)
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().take_while(|&&c| c == b' ').count();
    trim_end(text.get(start..).unwrap_or_default())
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [head @ .., b' '] = text {
        text = head;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        use Outcome::{Ignore, Unsatisfiable};
        let many = |list: &[(u64, u64)]| Outcome::Ranges(list.iter().map(|&(a, b)| a..b).collect());
        let table = [
            ("bytes=0-9", many(&[(0, 10)])),
            ("BYTES=0-9", many(&[(0, 10)])),
            ("bytes= 1 - 2 ", many(&[(1, 3)])),
            ("bytes=90-", many(&[(90, 100)])),
            ("bytes=90-1000", many(&[(90, 100)])),
            ("bytes=-10", many(&[(90, 100)])),
            ("bytes=-1000", many(&[(0, 100)])),
            ("bytes=0-0,-1", many(&[(0, 1), (99, 100)])),
            ("bytes=0-1, 5-3, 7-8", many(&[(0, 2), (7, 9)])),
            ("bytes=0-1,100-", many(&[(0, 2)])),
            ("bytes=0-49,50-99", many(&[(0, 50), (50, 100)])),
            ("bytes=0-49,49-99", Ignore),
            ("bytes=0-99,-1", Ignore),
            ("bytes=100-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-3", Unsatisfiable),
            ("bytes=a-", Unsatisfiable),
            ("bytes=1-b", Unsatisfiable),
            ("bytes=1-2,", Unsatisfiable),
            ("bytes=- 5", Unsatisfiable),
            ("bytes=1", Unsatisfiable),
            ("bytes=-", Unsatisfiable),
            ("bytes=99999999999999999999-", Unsatisfiable),
            ("bytes=", Ignore),
            ("items=0-5", Ignore),
            ("", Ignore),
        ];
        for (header, want) in table {
            assert_eq!(parse(header.as_bytes(), 100, UNLIMITED), want, "{header}");
        }
        assert_eq!(parse(b"bytes=0-", 0, UNLIMITED), Ignore);
        assert_eq!(parse(b"bytes=-5", 0, UNLIMITED), Ignore);
        assert_eq!(parse(b"bytes=5-", 0, UNLIMITED), Unsatisfiable);
        assert_eq!(parse(b"bytes=0-1", 100, 0), Ignore);
        assert_eq!(parse(b"bytes=0-1,3-4", 100, 1), Ignore);
        assert_eq!(parse(b"bytes=0-1,3-4,5-", 100, 3), many(&[(0, 2), (3, 5), (5, 100)]));
    }

    #[test]
    fn counts_the_heads_of_parts_unless_limited() {
        let header = format!("bytes={}", (0..40).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(","));
        assert_eq!(parse(header.as_bytes(), 100, UNLIMITED), Outcome::Ignore);
        assert!(matches!(parse(header.as_bytes(), 100, 40), Outcome::Ranges(list) if list.len() == 40));
    }

    #[test]
    fn lays_out_parts() {
        let got = multipart(vec![0..2, 5..9], 10, b"text/plain", 7);
        let flat = got.parts.iter().map(|(head, _)| String::from_utf8_lossy(head)).collect::<String>();
        let b = "00000000000000000007";
        let head = |range| format!("\r\n--{b}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n");
        assert_eq!(flat, head("0-1") + &head("5-8"));
        assert_eq!(got.content_type, format!("multipart/byteranges; boundary={b}"));
        assert_eq!(got.end, format!("\r\n--{b}--\r\n").as_bytes());
        assert_eq!(got.length, (flat.len() + 6 + got.end.len()) as u64);
        let bare = multipart(vec![0..1, 2..3], 10, b"", 7);
        assert!(bare.parts[0].0.starts_with(format!("\r\n--{b}\r\nContent-R").as_bytes()));
        assert_eq!(unsatisfied(5), "bytes */5");
    }
}

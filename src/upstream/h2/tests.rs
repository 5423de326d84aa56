//! What servers may send and what they may not, in nginx's words.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::frames::{Event, Frames, Link};
use crate::http::Cause;
use crate::http::h2::frame;
use crate::http::hpack::Encoder;

/// A frame by hand.
fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, payload.len(), frame::Kind(kind), flags, stream);
    out.extend_from_slice(payload);
    out
}

fn head(fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    let (mut out, mut encoder) = (Vec::new(), Encoder::default());
    let at = frame::begin_headers(&mut out, 1, end);
    fields.iter().for_each(|(name, value)| encoder.field(&mut out, name.as_bytes(), value.as_bytes()));
    frame::end_headers(&mut out, at, 3);
    out
}

const OK: (&str, &str) = (":status", "200");

/// What becomes of these bytes in pieces of `step`: what came, in words, and what is answered.
fn run(bytes: &[u8], step: usize) -> (String, Vec<u8>) {
    let mut frames = Frames::new(&Rc::new(Link::default()), 200);
    let (mut buf, mut said) = (BytesMut::new(), String::new());
    for piece in bytes.chunks(step) {
        buf.extend_from_slice(piece);
        loop {
            match frames.next(&mut buf) {
                Ok(Event::More | Event::Done) => break,
                Ok(Event::Head(block)) => said += &format!("{} ", block.status),
                Ok(Event::Data(bytes)) => said += &String::from_utf8_lossy(&bytes),
                Ok(Event::Trailers(fields)) => said += &format!(" {}", fields.iter().count()),
                Err(Cause::Protocol(words)) => return (words, frames.out.bytes()),
                Err(cause) => return (format!("{cause:?}"), frames.out.bytes()),
            }
        }
    }
    said += match (frames.done, frames.leaving) {
        (true, true) => " left",
        (true, false) => " done",
        _ => "",
    };
    (said, frames.out.bytes())
}

fn both(bytes: &[u8]) -> (String, Vec<u8>) {
    let whole = run(bytes, bytes.len().max(1));
    assert_eq!(run(bytes, 1), whole);
    whole
}

#[test]
fn a_reply_with_all_around_it() {
    let bytes = [
        raw(4, 0, 0, &[0, 4, 0, 0, 0, 9]),
        raw(4, 1, 0, &[]),
        head(&[(":status", "103"), ("link", "a")], false),
        raw(8, 0, 0, &[0, 0, 0, 1]),
        raw(1, 0x2c, 1, &[2, 0, 0, 0, 0, 7, 0x88, 0, 0]),
        raw(0, 8, 1, b"\x03ab\0\0\0"),
        raw(6, 0, 0, b"12345678"),
        raw(99, 0, 0, b"what is this"),
        raw(2, 0, 1, &[0; 5]),
        raw(0, 0, 1, b""),
        raw(0, 0, 1, b"cd"),
        head(&[("a", "b"), ("c", "d")], true),
        raw(3, 0, 1, &[0; 4]),
        raw(8, 0, 1, &[0, 0, 0, 1]),
    ]
    .concat();
    let (said, answers) = both(&bytes);
    assert_eq!(said, "103 200 abcd 2 done");
    assert_eq!(answers, [raw(4, 1, 0, &[]), raw(6, 1, 0, b"12345678")].concat());
    let leaving = [head(&[OK], true), raw(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'x'])].concat();
    assert_eq!(both(&leaving).0, "200  left");
}

#[test]
fn what_is_refused() {
    let (ok, end) = (head(&[OK], false), head(&[OK], true));
    let long = "x".repeat(300);
    for (bytes, words) in [
        (vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1], "upstream sent too large http2 frame: 16385"),
        (raw(0, 0, 1, b"a"), "upstream sent unexpected http2 frame: 0"),
        (raw(9, 4, 1, b"a"), "upstream sent unexpected http2 frame: 9"),
        ([raw(1, 0, 1, &[0x88]), raw(6, 0, 0, &[0; 8])].concat(), "upstream sent unexpected http2 frame: 6"),
        (raw(1, 4, 3, &[0x88]), "upstream sent frame for unknown stream 3"),
        (raw(1, 8, 1, &[]), "upstream sent headers frame with invalid length: 0"),
        (raw(1, 8, 1, &[9, 0x88]), "upstream sent http2 frame with too long padding: 9 in frame 1"),
        (raw(1, 4, 1, &[0x88, 0x40]), "upstream sent truncated http2 header"),
        (head(&[OK, ("a", &long)], true), "TooLarge"),
        (head(&[(":status", "103")], true), "upstream prematurely closed stream"),
        (raw(3, 0, 1, &[0, 0, 0, 8]), "upstream rejected request with error 8"),
        (raw(3, 0, 1, &[0; 5]), "upstream sent rst stream frame with invalid length: 5"),
        (raw(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]), "upstream sent goaway with error 2"),
        (raw(7, 0, 0, &[0; 7]), "upstream sent goaway frame with invalid length: 7"),
        (raw(7, 0, 1, &[0; 8]), "upstream sent goaway frame with non-zero stream id: 1"),
        (raw(8, 0, 1, &[0; 4]), "upstream sent zero window update"),
        (raw(8, 0, 1, &[0; 3]), "upstream sent window update frame with invalid length: 3"),
        (raw(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), "upstream sent too large window update"),
        (raw(4, 1, 0, &[0; 6]), "upstream sent settings frame with ack flag and non-zero length: 6"),
        (raw(4, 0, 0, &[0; 7]), "upstream sent settings frame with invalid length: 7"),
        (raw(4, 0, 1, &[]), "upstream sent settings frame with non-zero stream id: 1"),
        (
            raw(4, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            "upstream sent settings frame with too large initial window size: 2147483648",
        ),
        (raw(6, 0, 1, &[0; 8]), "upstream sent ping frame with non-zero stream id: 1"),
        (raw(6, 0, 0, &[0; 7]), "upstream sent ping frame with invalid length: 7"),
        (raw(6, 1, 0, &[0; 8]), "upstream sent ping frame with ack flag"),
        (raw(5, 4, 1, &[0; 4]), "upstream sent unexpected push promise frame"),
        ([ok.clone(), raw(0, 0, 3, b"a")].concat(), "upstream sent data frame for unknown stream 3"),
        ([ok.clone(), raw(0, 8, 1, b"")].concat(), "upstream sent too short http2 frame"),
        ([ok.clone(), raw(0, 8, 1, b"\x01")].concat(), "upstream sent http2 frame with too long padding: 1 in frame 0"),
        ([ok.clone(), head(&[("a", "b")], false)].concat(), "upstream sent trailer without end stream flag"),
        ([ok.clone(), head(&[OK], true)].concat(), "upstream sent invalid trailer \":status: 200\""),
        ([ok.clone(), head(&[("a", &long)], true)].concat(), "upstream sent too large http2 header"),
        ([ok, raw(3, 0, 1, &[0; 4])].concat(), "upstream rejected request with error 0"),
        ([end.clone(), raw(0, 0, 1, b"a")].concat(), "upstream sent frame for closed stream 1"),
        ([end, raw(3, 0, 1, &[0; 4]).repeat(2)].concat(), "upstream sent frame for closed stream 1"),
        (raw(4, 0, 0, &[]).repeat(1001), "upstream sent too many settings frames"),
        (raw(6, 0, 0, &[0; 8]).repeat(1001), "upstream sent too many ping frames"),
    ] {
        assert_eq!(both(&bytes).0, words);
    }
}

#[test]
fn bodies_have_the_length_that_was_told() {
    for (length, sent, words) in [
        (3, &b"abc"[..], ""),
        (2, b"abc", "upstream sent response body larger than indicated content length"),
        (4, b"abc", "upstream prematurely closed stream"),
    ] {
        let mut frames = Frames::new(&Rc::new(Link::default()), 200);
        let mut buf = BytesMut::from(&[head(&[OK], false), raw(0, 1, 1, sent)].concat()[..]);
        assert!(matches!(frames.next(&mut buf), Ok(Event::Head(_))));
        frames.length = Some(length);
        let ended = loop {
            match frames.next(&mut buf) {
                Ok(Event::Data(_)) => {}
                Ok(_) => break String::new(),
                Err(Cause::Protocol(words)) => break words,
                Err(cause) => panic!("{cause:?}"),
            }
        };
        assert_eq!(ended, words);
    }
}

#[test]
fn windows_of_the_server() {
    let link = Rc::new(Link::default());
    let mut frames = Frames::new(&link, 200);
    assert_eq!((frames.id, frames.room()), (1, 65_535));
    frames.data(Bytes::from(vec![0; 65_000]), false);
    assert_eq!(frames.room(), 535);
    let take = |frames: &mut Frames, bytes: Vec<u8>| {
        let mut buf = BytesMut::from(&bytes[..]);
        assert!(matches!(frames.next(&mut buf), Ok(Event::More)));
        frames.room()
    };
    assert_eq!(take(&mut frames, raw(4, 0, 0, &[0, 4, 0, 0, 0, 10])), 0, "less than nothing");
    assert_eq!(take(&mut frames, raw(8, 0, 1, &[0, 0, 0xfd, 0xe8])), 10);
    assert_eq!(take(&mut frames, raw(8, 0, 1, &[0, 0, 0xfd, 0xe8])), 535, "no more than the connection has");
    assert_eq!(take(&mut frames, raw(8, 0, 0, &[0, 1, 0, 0])), 65_010);
    let next = Frames::new(&link, 200);
    assert_eq!((next.id, next.room()), (3, 10), "settings last");
    assert_eq!(link.take_table(), None);
    take(&mut frames, raw(4, 0, 0, &[0, 1, 0, 0, 0, 9]));
    assert_eq!((link.take_table(), link.take_table()), (Some(9), None), "a smaller table is told once");
}

//! Frames of HTTP/2 (RFC 9113 §4, §6) and the dependencies they describe: any octets can be read, what is written is read
//! again, and the tree of streams stays small and without circles.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::h2::frame::{self, Dependency, HEAD, Head, Kind};
use nginx_rs::http::h2::order::Order;

fuzz_target!(|bytes: &[u8]| {
    let (mut rest, mut order) = (bytes, Order::default());
    while let Some(head) = Head::read(rest) {
        assert_eq!(Head::read(&head.octets()), Some(head));
        let payload = &rest[HEAD..];
        let payload = &payload[..head.len.min(payload.len())];
        rest = &rest[HEAD + payload.len()..];
        assert!(frame::unpad(head, payload).is_none_or(|inner| inner.len() <= payload.len()));
        assert!(frame::read_settings(payload).count() <= payload.len() / 6);
        let (id, is_open) = (head.stream, |id: u32| id % 3 == 0);
        match (head.kind, Dependency::read(payload)) {
            (Kind::PRIORITY, Some((on, _))) if on.on != id && id != 0 => order.depend(id, on, is_open),
            (Kind::HEADERS, _) if is_open(id) => order.open(id),
            (Kind::RST_STREAM, _) if is_open(id) => order.close(id),
            _ => {}
        }
        // A circle would have no end.
        let place = order.place(id);
        assert!(!place.precedes(place));
    }
    let mut out = Vec::new();
    let at = frame::begin_headers(&mut out, 1, true);
    out.extend_from_slice(bytes);
    frame::end_headers(&mut out, at, 1 + bytes.len() / 3);
    let (mut rest, mut block) = (&out[..], Vec::new());
    while let Some(head) = Head::read(rest) {
        block.extend_from_slice(&rest[HEAD..HEAD + head.len]);
        rest = &rest[HEAD + head.len..];
        assert_eq!(head.has(frame::END_HEADERS), rest.is_empty());
    }
    assert_eq!(block, bytes);
});

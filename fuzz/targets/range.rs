//! `Range` (RFC 9110 §14): what is sent lies within the body, and a multipart body is as long as it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::range::{Outcome, UNLIMITED, content_range, multipart, parse};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[a, b, most], header)) = bytes.split_first_chunk::<3>() else { return };
    let len = u64::from(u16::from_be_bytes([a, b]));
    let most = if most == 255 { UNLIMITED } else { usize::from(most) };
    for header in [header.to_vec(), [b"bytes=", header].concat()] {
        let Outcome::Ranges(ranges) = parse(&header, len, most) else { continue };
        assert!(!ranges.is_empty() && ranges.len() <= most);
        for range in &ranges {
            assert!(range.start < range.end && range.end <= len);
            assert_eq!(content_range(range, len), format!("bytes {}-{}/{len}", range.start, range.end - 1));
        }
        let made = multipart(ranges, len, b"text/plain", 7);
        let parts: u64 = made.parts.iter().map(|(head, range)| head.len() as u64 + range.end - range.start).sum();
        assert_eq!(made.length, parts + made.end.len() as u64);
    }
});

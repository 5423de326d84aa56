//! Heads of requests and responses (RFC 9112 §2 to §5): any bytes can be read, and what was read of a part holds for the
//! whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::h1::parse::{Line, Side, field, request_line, status_line};

fuzz_target!(|bytes: &[u8]| {
    let part = &bytes[..bytes.len() / 2];
    if let Ok(Some(line)) = request_line(bytes) {
        for span in [Some(&line.line), Some(&line.method), Some(&line.target), line.scheme.as_ref(), line.host.as_ref()]
        {
            let span = span.cloned().unwrap_or_default();
            assert!(span.start <= span.end && span.end as usize <= line.next && line.next <= bytes.len());
        }
        let method = &bytes[line.method.start as usize..line.method.end as usize];
        assert!(!method.is_empty() && method.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'_' | b'-')));
        fields(bytes, line.next, Side::Request);
    }
    match request_line(part) {
        Ok(None) => {}
        settled => assert_eq!(settled, request_line(bytes)),
    }
    match status_line(part) {
        Ok(None) => {}
        settled => assert_eq!(settled, status_line(bytes)),
    }
    if let Ok(Some(line)) = status_line(bytes) {
        assert!(line.next <= bytes.len() && line.code <= 999);
        fields(bytes, line.next, Side::Response);
    }
});

/// Reads all fields.
fn fields(bytes: &[u8], mut at: usize, side: Side) {
    loop {
        let next = match field(bytes, at, side) {
            Ok(Some(Line::Field(field, next))) => {
                let (name, value) = (field.name, field.value);
                assert!(name.start < name.end && name.end <= value.start && value.start <= value.end);
                assert!(value.end as usize <= next);
                let value = &bytes[value.start as usize..value.end as usize];
                // Tabs stay, as in nginx.
                assert!(!value.iter().any(|b| matches!(b, b'\n' | 0)) && value.first() != Some(&b' '));
                next
            }
            Ok(Some(Line::Junk(next))) => next,
            Ok(Some(Line::End(next))) => return assert!(next > at && next <= bytes.len()),
            Ok(None) => return,
            Err(bad) => return assert!(bad.start <= bad.at && bad.at < bytes.len()),
        };
        assert!(next > at && next <= bytes.len());
        at = next;
    }
}

//! The HTTP/1 codec towards upstream servers: heads of responses (RFC 9112 §4).

use bytes::BytesMut;

use crate::conf::units;
use crate::http::Headers;
use crate::http::h1::parse::{self, Field, Line, Side};
use crate::http::headers::Known;
use crate::upstream::exchange::{Length, Protocol, ReplyHead};

/// HTTP/1.0 and 1.1.
pub struct Http1 {
    /// Whether the request was a HEAD: its response has no body whatever its fields say.
    pub head: bool,
}

impl Protocol for Http1 {
    fn head(&self, buf: &mut BytesMut) -> Result<Option<ReplyHead>, String> {
        loop {
            let Some(head) = read(buf, self.head)? else { return Ok(None) };
            // Interim responses but the change of protocols are read over.
            if !(100..200).contains(&head.status) || head.status == 101 {
                return Ok(Some(head));
            }
        }
    }
}

fn read(buf: &mut BytesMut, bodiless: bool) -> Result<Option<ReplyHead>, String> {
    let line = match parse::status_line(buf) {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(None),
        Err(_) => return Err("upstream sent no valid HTTP/1.0 header".to_owned()),
    };
    let (mut next, mut fields): (usize, Vec<Field>) = (line.next, Vec::with_capacity(16));
    let end = loop {
        match parse::field(buf, next, Side::Response) {
            Ok(Some(Line::Field(field, after))) => {
                fields.push(field);
                next = after;
            }
            Ok(Some(Line::Junk(after))) => next = after,
            Ok(Some(Line::End(after))) => break after,
            Ok(None) => return Ok(None),
            Err(bad) => {
                let shown = String::from_utf8_lossy(buf.get(bad.start..bad.at).unwrap_or_default()).into_owned();
                let byte = buf.get(bad.at).copied().unwrap_or_default();
                return Err(format!("upstream sent invalid header: \"{shown}\\x{byte:02x}...\""));
            }
        }
    };
    let bytes = buf.split_to(end).freeze();
    let mut headers = Headers::over(bytes.clone(), fields.len());
    for field in &fields {
        headers.push_slice(field.name.clone(), field.value.clone());
    }
    let status = bytes.slice(line.status.start as usize..line.status.end as usize);
    frame(line.code, line.version, status, headers, bodiless).map(|head| Some(ReplyHead { size: end as u64, ..head }))
}

/// How the body ends and whether the connection goes on (RFC 9112 §6.3, §9.3).
fn frame(status: u16, version: u16, line: bytes::Bytes, headers: Headers, bodiless: bool) -> Result<ReplyHead, String> {
    for (known, name) in [(Known::ContentLength, "Content-Length"), (Known::TransferEncoding, "Transfer-Encoding")] {
        let mut values = headers.all(known);
        if let (Some(first), Some(second)) = (values.next(), values.next()) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (first, second) = (text(first), text(second));
            return Err(format!("upstream sent duplicate header line: \"{name}: {second}\", previous value: \"{name}: {first}\""));
        }
    }
    let content_length = match headers.get(Known::ContentLength) {
        Some(value) => match units::number(value) {
            Some(length) => Some(length),
            None => {
                let text = String::from_utf8_lossy(value).into_owned();
                return Err(format!("upstream sent invalid \"Content-Length\" header: \"Content-Length: {text}\""));
            }
        },
        None => None,
    };
    let chunked = match headers.get(Known::TransferEncoding) {
        Some(value) if value.eq_ignore_ascii_case(b"chunked") => true,
        Some(value) => {
            let text = String::from_utf8_lossy(value).into_owned();
            return Err(format!("upstream sent unknown \"Transfer-Encoding\": \"{text}\""));
        }
        None => false,
    };
    if chunked && content_length.is_some() {
        return Err("upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time".to_owned());
    }
    let says = |word: &[u8]| {
        let holds = |value: &[u8]| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        headers.all(Known::Connection).any(holds)
    };
    let empty = bodiless || matches!(status, 204 | 304);
    let length = match content_length {
        _ if empty => Length::Known(0),
        _ if chunked => Length::Chunked,
        Some(length) => Length::Known(length),
        None => Length::UntilClose,
    };
    let keep_alive = !says(b"close")
        && (version >= 1001 || says(b"keep-alive"))
        && length != Length::UntilClose
        && status != 101;
    Ok(ReplyHead { status, line, headers, content_length, length, keep_alive, size: 0 })
}

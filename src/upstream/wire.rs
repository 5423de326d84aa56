//! Heads of replies: those of HTTP/1 (RFC 9112 §4) and those of CGI (RFC 3875 §6), which the other protocols carry.

use bytes::{Bytes, BytesMut};

use super::protocol::{Length, ReplyHead};
use crate::conf::units;
use crate::http::Headers;
use crate::http::h1::parse::{self, Line, Side};
use crate::http::headers::Known;

/// Fields that nginx keeps to itself where applications speak in the way of CGI.
pub const CGI_HIDDEN: [&str; 6] =
    ["Status", "X-Accel-Expires", "X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"];

/// Reads a head of HTTP/1.0 or 1.1, or finds that there is none. A `bodiless` reply, the answer to a HEAD, has no body whatever its fields say.
pub fn http(buf: &mut BytesMut, bodiless: bool) -> Result<Option<ReplyHead>, String> {
    let line = match parse::status_line(buf) {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(None),
        Err(_) => {
            let head = frame(200, 9, Bytes::new(), Headers::default(), false)?;
            return Ok(Some(ReplyHead { length: Length::Headless, ..head }));
        }
    };
    if line.code == 103 && line.version < 1001 {
        return Err("upstream sent HTTP/1.0 response with early hints".to_owned());
    }
    let Some(Fields { headers, bytes }) = fields(buf, line.next, "header")? else { return Ok(None) };
    let text = bytes.slice(line.status.start as usize..line.status.end as usize);
    let size = bytes.len() as u64;
    frame(line.code, line.version, text, headers, bodiless).map(|head| Some(ReplyHead { size, ..head }))
}

/// Reads a head of CGI: fields, `Status` among them, perhaps behind a status line as HTTP has it.
pub fn cgi(buf: &mut BytesMut, may_have_line: bool) -> Result<Option<ReplyHead>, String> {
    let line = match may_have_line.then(|| parse::status_line(buf)) {
        Some(Ok(Some(line))) => Some(line),
        Some(Ok(None)) => return Ok(None),
        None | Some(Err(_)) => None,
    };
    let Some(Fields { headers, bytes }) = fields(buf, line.as_ref().map_or(0, |line| line.next), "header")? else {
        return Ok(None);
    };
    let (status, text) = match (line, headers.named(b"status").next()) {
        (Some(line), _) => (line.code, bytes.slice(line.status.start as usize..line.status.end as usize)),
        (None, Some(status)) => {
            let code = status.get(..3).and_then(units::number).and_then(|code| u16::try_from(code).ok());
            let invalid = || format!("upstream sent invalid status \"{}\"", String::from_utf8_lossy(status));
            // A code alone gets nginx's reason.
            (code.ok_or_else(invalid)?, if status.len() > 3 { Bytes::copy_from_slice(status) } else { Bytes::new() })
        }
        (None, None) if headers.get(Known::Location).is_some() => (302, Bytes::from_static(b"302 Moved Temporarily")),
        (None, None) => (200, Bytes::from_static(b"200 OK")),
    };
    let size = bytes.len() as u64;
    let mut head = frame(status, 1000, text, headers, false)?;
    head.keep_alive = false;
    if matches!(head.length, Length::Chunked) {
        head.length = Length::UntilClose;
    }
    Ok(Some(ReplyHead { size, ..head }))
}

/// The fields of a head, and all of its bytes.
pub struct Fields {
    /// The fields.
    pub headers: Headers,
    /// The bytes.
    pub bytes: Bytes,
}

/// Reads the fields that begin at `next`; `what` they are is said where they are malformed.
pub fn fields(buf: &mut BytesMut, mut next: usize, what: &str) -> Result<Option<Fields>, String> {
    let mut headers = Headers::over(Bytes::new(), 16);
    let end = loop {
        match parse::field(buf, next, Side::Response) {
            Ok(Some(Line::Field(field, after))) => {
                headers.push_part(buf, field.name, field.value);
                next = after;
            }
            Ok(Some(Line::Junk(after))) => next = after,
            Ok(Some(Line::End(after))) => break after,
            Ok(None) => return Ok(None),
            Err(bad) => {
                let shown = String::from_utf8_lossy(buf.get(bad.start..bad.at).unwrap_or_default()).into_owned();
                let byte = buf.get(bad.at).copied().unwrap_or_default();
                return Err(format!("upstream sent invalid {what}: \"{shown}\\x{byte:02x}...\""));
            }
        }
    };
    let bytes = buf.split_to(end).freeze();
    headers.rest_on(bytes.clone());
    Ok(Some(Fields { headers, bytes }))
}

/// The length of a body that its fields tell, and whether it is chunked; one at most (RFC 9112 §6.3).
pub fn lengths(headers: &Headers) -> Result<(Option<u64>, bool), String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let only = |known| {
        let mut found = headers.iter().filter(|field| field.known == known);
        let first = found.next();
        match (first, found.next()) {
            (Some(first), Some(second)) => Err(format!(
                "upstream sent duplicate header line: \"{}: {}\", previous value: \"{}: {}\"",
                text(second.name),
                text(second.value),
                text(first.name),
                text(first.value)
            )),
            _ => Ok(first),
        }
    };
    let (length, coding) = (only(Known::ContentLength)?, only(Known::TransferEncoding)?);
    let length = match length.map(|field| units::number(field.value).ok_or(field)) {
        Some(Err(field)) => {
            let (name, value) = (text(field.name), text(field.value));
            return Err(format!("upstream sent invalid \"Content-Length\" header: \"{name}: {value}\""));
        }
        Some(Ok(length)) => Some(length),
        None => None,
    };
    let chunked = match coding {
        Some(field) if !field.value.eq_ignore_ascii_case(b"chunked") => {
            return Err(format!("upstream sent unknown \"Transfer-Encoding\": \"{}\"", text(field.value)));
        }
        coding => coding.is_some(),
    };
    if chunked && length.is_some() {
        return Err("upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time".to_owned());
    }
    Ok((length, chunked))
}

/// How the body ends and whether the connection goes on (RFC 9112 §6.3, §9.3).
fn frame(status: u16, version: u16, line: Bytes, headers: Headers, bodiless: bool) -> Result<ReplyHead, String> {
    let (content_length, chunked) = lengths(&headers)?;
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
        && !matches!(length, Length::UntilClose)
        && status != 101;
    Ok(ReplyHead { status, line, headers, content_length, length, keep_alive, size: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_cgi_that_is_a_code_alone_has_no_line() {
        let line = |status: &str| {
            let mut buf = BytesMut::from(format!("Status: {status}\r\n\r\n").as_bytes());
            let head = cgi(&mut buf, false).unwrap().unwrap();
            (head.status, head.line)
        };
        assert_eq!(line("404"), (404, Bytes::new()));
        assert_eq!(line("404 Gone"), (404, Bytes::from_static(b"404 Gone")));
    }
}

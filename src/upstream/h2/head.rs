//! From a request's head as HTTP/1 has it to HTTP/2's fields (RFC 9113 §8.3.1).

use crate::http::hpack::Encoder;

/// The longest name or value that nginx sends, in bytes.
const LONGEST: usize = 127 + (1 << 21) - 1;

/// Appends the fields of a request to `out`. The error is nginx's sentence.
pub fn write(out: &mut Vec<u8>, encoder: &mut Encoder, head: &[u8], secure: bool) -> Result<(), &'static str> {
    let mut lines = head.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next().unwrap_or_default();
    let (method, rest) = cut(line, memchr::memchr(b' ', line));
    let (target, _) = cut(rest, memchr::memrchr(b' ', rest));
    let fields = lines.filter_map(|line| {
        let (name, value) = cut(line, Some(memchr::memchr(b':', line)?));
        Some((name, value.strip_prefix(b" ").unwrap_or(value)))
    });
    let host = fields.clone().find(|(name, _)| name.eq_ignore_ascii_case(b"host")).map_or(&b""[..], |(_, host)| host);
    for (text, words) in
        [(method, "too long http2 method"), (target, "too long http2 URI"), (host, "too long http2 host")]
    {
        if text.len() > LONGEST {
            return Err(words);
        }
    }
    encoder.field(out, b":method", method);
    encoder.field(out, b":scheme", if secure { b"https" } else { b"http" });
    encoder.field(out, b":path", target);
    encoder.field(out, b":authority", host);
    for (name, value) in fields.filter(|(name, _)| !is_dropped(name)) {
        if name.len() > LONGEST {
            return Err("too long http2 header name");
        }
        if value.len() > LONGEST {
            return Err("too long http2 header value");
        }
        encoder.field(out, name, value);
    }
    Ok(())
}

/// The text around the byte at this place; all of it where there is none.
fn cut(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    let at = at.unwrap_or(text.len());
    (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default())
}

/// Whether HTTP/2 has no such field (§8.2.2), or has it elsewhere.
fn is_dropped(name: &[u8]) -> bool {
    const DROPPED: [&str; 6] = ["host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hpack::Decoder;

    #[test]
    fn heads_become_fields() {
        let head = b"POST /a?b HTTP/1.1\r\nHost: h:80\r\nConnection: close\r\nX-A: 1\r\nx-a: \r\n\r\n";
        let mut out = Vec::new();
        write(&mut out, &mut Encoder::default(), head, true).unwrap();
        let mut text = String::new();
        let mut add = |name: &[u8], value: &[u8]| {
            text += &format!("{}={};", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        };
        Decoder::new(0).decode(&out, &mut add).unwrap();
        assert_eq!(text, ":method=POST;:scheme=https;:path=/a?b;:authority=h:80;x-a=1;x-a=;");
    }

    #[test]
    fn long_values_are_refused() {
        let head = [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &vec![b'x'; LONGEST + 1], b"\r\n\r\n"].concat();
        assert_eq!(write(&mut Vec::new(), &mut Encoder::default(), &head, false), Err("too long http2 header value"));
    }
}

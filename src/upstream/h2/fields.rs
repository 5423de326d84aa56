//! The fields of a reply or behind it, as a server may send them (RFC 9113 §8.2, §8.3.2), in nginx's words where it may not.

use crate::http::Headers;
use crate::http::hpack::{Decoder, Error};

/// What a block of fields holds.
pub struct Block {
    /// Its status; 0 behind a body.
    pub status: u16,
    /// The fields.
    pub headers: Headers,
    /// Bytes of their names and values.
    pub size: u64,
}

/// Reads the block of a reply's head, or with `behind` of what stands behind its body, of at most `limit` bytes.
pub fn read(block: &[u8], behind: bool, limit: u64) -> Result<Block, String> {
    let mut read = Block { status: 0, headers: Headers::default(), size: 0 };
    let mut failed = None;
    // No table was allowed, so that nothing is to be kept from one block for the next.
    let decoded = Decoder::new(0).decode(block, &mut |name, value| {
        if failed.is_none() {
            failed = read.take(name, value, behind, limit).err();
        }
    });
    if let Some(sentence) = failed {
        return Err(sentence);
    }
    decoded.map_err(words)?;
    if read.status == 0 && !behind {
        return Err("upstream sent no :status header".to_owned());
    }
    Ok(read)
}

impl Block {
    fn take(&mut self, name: &[u8], value: &[u8], behind: bool, limit: u64) -> Result<(), String> {
        let line = || format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        if !is_name(name) || value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err(format!("upstream sent invalid header: \"{}\"", line()));
        }
        self.size += (name.len() + value.len()) as u64;
        if self.size > limit {
            return Err("upstream sent too large http2 header".to_owned());
        }
        match (name.first() == Some(&b':'), behind) {
            (true, true) => return Err(format!("upstream sent invalid trailer \"{}\"", line())),
            (true, false) if name != b":status" => return Err(format!("upstream sent invalid header \"{}\"", line())),
            (true, false) => return self.take_status(value),
            (false, false) if self.status == 0 => return Err("upstream sent no :status header".to_owned()),
            (false, _) => self.headers.push(name, value),
        }
        Ok(())
    }

    fn take_status(&mut self, value: &[u8]) -> Result<(), String> {
        if self.status != 0 {
            return Err("upstream sent duplicate :status header".to_owned());
        }
        let says = |what| format!("upstream sent {what} :status \"{}\"", String::from_utf8_lossy(value));
        let &[a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else { return Err(says("invalid")) };
        let digit = |byte: u8| u16::from(byte - b'0');
        self.status = digit(a) * 100 + digit(b) * 10 + digit(c);
        if self.status < 200 && self.status != 103 { Err(says("unexpected")) } else { Ok(()) }
    }
}

fn is_name(name: &[u8]) -> bool {
    let inner = name.strip_prefix(b":").unwrap_or(name);
    inner.iter().all(|&byte| !matches!(byte, 0..=b' ' | 0x7f | b':' | b'A'..=b'Z'))
}

fn words(error: Error) -> String {
    match error {
        Error::Truncated => "upstream sent truncated http2 header".to_owned(),
        Error::LongIndex => "upstream sent http2 table index with continuation flag".to_owned(),
        Error::LongLength => "upstream sent too large http2 header value length".to_owned(),
        Error::Index(index) => format!("upstream sent invalid http2 table index: {index}"),
        Error::LongSize => "upstream sent invalid http2 dynamic table size update: 31".to_owned(),
        Error::TableSize(size) => format!("upstream sent invalid http2 dynamic table size update: {}", size.min(31)),
        Error::Huffman => "upstream sent invalid encoded header".to_owned(),
        Error::EmptyName => "upstream sent zero http2 header name length".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hpack::Encoder;

    fn refusal(fields: &[(&str, &str)], behind: bool) -> String {
        let (mut block, mut encoder) = (Vec::new(), Encoder::default());
        // The encoder would make names lower, so that theirs are written by hand.
        for (name, value) in fields {
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                block.extend([0, name.len() as u8]);
                block.extend_from_slice(name.as_bytes());
                block.push(value.len() as u8);
                block.extend_from_slice(value.as_bytes());
            } else {
                encoder.field(&mut block, name.as_bytes(), value.as_bytes());
            }
        }
        read(&block, behind, 100).err().unwrap_or_default()
    }

    #[test]
    fn what_is_refused() {
        let ok = (":status", "200");
        for (fields, words) in [
            (&[ok, ("a", "b")][..], ""),
            (&[("a", "b"), ok], "upstream sent no :status header"),
            (&[], "upstream sent no :status header"),
            (&[ok, ok], "upstream sent duplicate :status header"),
            (&[(":status", "2000")], "upstream sent invalid :status \"2000\""),
            (&[(":status", "2x0")], "upstream sent invalid :status \"2x0\""),
            (&[(":status", "100")], "upstream sent unexpected :status \"100\""),
            (&[(":status", "103")], ""),
            (&[ok, (":path", "/")], "upstream sent invalid header \":path: /\""),
            (&[ok, ("a:", "")], "upstream sent invalid header: \"a:: \""),
            (&[ok, ("Ab", "c")], "upstream sent invalid header: \"Ab: c\""),
            (&[ok, ("a", "b\nc")], "upstream sent invalid header: \"a: b\nc\""),
            (&[ok, ("a", &"x".repeat(100))], "upstream sent too large http2 header"),
        ] {
            assert_eq!(refusal(fields, false), words, "{fields:?}");
        }
        assert_eq!(refusal(&[ok], true), "upstream sent invalid trailer \":status: 200\"");
        assert_eq!(refusal(&[("a", "b")], true), "");
        assert_eq!(read(&[0xbe], false, 100).err().unwrap(), "upstream sent invalid http2 table index: 62");
    }
}

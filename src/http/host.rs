//! The host a request is for: https://nginx.org/en/docs/http/request_processing.html and RFC 3986 section 3.2.2
use std::borrow::Cow;
use std::sync::Arc;

use super::pattern::Pattern;
use super::uri::literal_byte;

/// A host as server names are compared with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without a trailing dot; a literal keeps its brackets.
    pub name: Cow<'a, [u8]>,
    /// The port, 0 when there is none.
    pub port: u16,
}

/// A name as `server_name` writes it.
#[derive(Clone, Debug)]
pub enum Name {
    /// A name or a wildcard, in lower case.
    Text(Vec<u8>),
    /// `~pattern`.
    Regex(Arc<Pattern>),
}

/// Checks and normalises `host` or `host:port`; `None` for what nginx answers with 400.
pub fn valid(text: &[u8]) -> Option<Host<'_>> {
    let literal = text.starts_with(b"[");
    let end = if literal { text.iter().position(|&c| c == b']').map(|at| at + 1)? } else { name_end(text) };
    let (name, port) = text.split_at_checked(end)?;
    let inner = if literal { name.get(1..end - 1)? } else { name };
    let (mut upper, mut dot) = (false, false);
    for &c in inner {
        // Nearly all names are nothing but these and dots.
        if matches!(c, b'a'..=b'z' | b'0'..=b'9') {
            dot = false;
            continue;
        }
        let allowed = literal_byte(c) || (c == b'%' && !literal);
        if !allowed || (dot && c == b'.') {
            return None;
        }
        (upper, dot) = (upper || c.is_ascii_uppercase(), c == b'.');
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    let port = match port.split_first() {
        None => 0,
        Some((b':', digits)) => digits.iter().try_fold(0u16, |port, digit| {
            let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
            port.checked_mul(10)?.checked_add(digit)
        })?,
        Some(_) => return None,
    };
    let name = if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    (!name.is_empty()).then_some(Host { name, port })
}

fn name_end(text: &[u8]) -> usize {
    memchr::memchr(b':', text).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validates() {
        let future = "[v0123456789abcdef.!$&'()*+,;=-._~abcdefghijklmnopqrstuvwxyz0123456789:]";
        let table: &[(&str, Option<(&str, u16)>)] = &[
            ("", None),
            (".", None),
            (":80", None),
            ("l", Some(("l", 0))),
            ("LocalHost:8080", Some(("localhost", 8080))),
            ("a.b.:", Some(("a.b", 0))),
            ("a.b.:88", Some(("a.b", 88))),
            ("a.b.:1.2", None),
            ("..a", None),
            ("a..", None),
            ("a..b", None),
            ("a:65535", Some(("a", 65535))),
            ("a:65536", None),
            ("a:9000:80", None),
            ("a_b%20~!c", Some(("a_b%20~!c", 0))),
            ("a b", None),
            ("a/b", None),
            ("a\\b", None),
            ("a@b", None),
            ("a\x02", None),
            ("\u{430}", None),
            ("[::1]", Some(("[::1]", 0))),
            ("[::FFFF:1.2.3.4]:5", Some(("[::ffff:1.2.3.4]", 5))),
            (future, Some((future, 0))),
            ("[::1].", None),
            ("[::1].:8", None),
            ("[a..b]", None),
            ("[a%20]", None),
            ("[::1", None),
            ("x[::1]", None),
            ("[]", Some(("[]", 0))),
        ];
        for (text, want) in table {
            let got = valid(text.as_bytes());
            assert_eq!(got.as_ref().map(|h| (&*h.name, h.port)), want.map(|(n, p)| (n.as_bytes(), p)), "{text}");
        }
    }
}

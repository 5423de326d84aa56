//! Escaping and unescaping of URIs, HTML and JSON: RFC 3986 section 2 and
//! https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format

/// Which bytes `escape` writes as `%XX`; each set is nginx's of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// A whole path.
    Uri,
    /// One argument.
    Args,
    /// Anything but RFC 3986's unreserved bytes.
    Component,
    /// A link inside HTML.
    Html,
    /// The target of a `Refresh` header.
    Refresh,
    /// A memcached key.
    Memcached,
}

/// How far `unescape` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unescape {
    /// Everything.
    All,
    /// Up to the first `?`, written or encoded.
    Uri,
    /// As `Uri`, but only visible ASCII above `%` is decoded, the rest stays as it was.
    Redirect,
}

/// Appends `text` to `out`, the bytes of `set` as `%XX` in upper case.
pub fn escape(text: &[u8], set: Set, out: &mut Vec<u8>) {
    let table = set.table();
    out.reserve(text.len());
    for &c in text {
        if table.get(usize::from(c)) == Some(&true) {
            out.extend([b'%', digit(c >> 4), digit(c & 15)]);
        } else {
            out.push(c);
        }
    }
}

/// Whether `escape` would change `text`.
pub fn needs_escape(text: &[u8], set: Set) -> bool {
    let table = set.table();
    text.iter().any(|&c| table.get(usize::from(c)) == Some(&true))
}

/// Decodes `%XX`. A `%` before no hex digit is dropped, one before a single hex digit takes both bytes with it.
pub fn unescape(text: &[u8], mode: Unescape) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&c, tail)) = rest.split_first() {
        let (byte, tail) = if c == b'%' { unquote(tail) } else { (Some(c), tail) };
        let escape = rest.get(..rest.len() - tail.len()).unwrap_or_default();
        rest = tail;
        let Some(byte) = byte else { continue };
        let decoded = escape.len() == 3;
        if mode != Unescape::All && byte == b'?' && escape.len() != 2 {
            out.push(byte);
            break;
        }
        if mode == Unescape::Redirect && decoded && !(0x26..0x7f).contains(&byte) {
            out.extend_from_slice(escape);
        } else {
            out.push(byte);
        }
    }
    out.extend_from_slice(if mode == Unescape::All { &[] } else { rest });
    out
}

/// Appends `text` with `< > & "` written as entities.
pub fn html(text: &[u8], out: &mut Vec<u8>) {
    for &c in text {
        match c {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(c),
        }
    }
}

/// Appends `text` as the inside of a JSON string.
pub fn json(text: &[u8], out: &mut Vec<u8>) {
    for &c in text {
        match c {
            b'"' | b'\\' => out.extend([b'\\', c]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => out.extend([b'\\', b'u', b'0', b'0', b'0' + (c >> 4), digit(c & 15)]),
            _ => out.push(c),
        }
    }
}

/// The value of a hexadecimal digit in either case.
pub fn hex(c: u8) -> Option<u8> {
    char::from(c).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl Set {
    fn table(self) -> &'static [bool; 256] {
        const fn build(set: Set) -> [bool; 256] {
            let mut table = [false; 256];
            let mut c = 0u8;
            loop {
                #[allow(clippy::indexing_slicing, reason = "a byte cannot exceed 255, and this runs while compiling")]
                {
                    table[c as usize] = set.escapes(c);
                }
                if c == u8::MAX {
                    return table;
                }
                c += 1;
            }
        }
        static URI: [bool; 256] = build(Set::Uri);
        static ARGS: [bool; 256] = build(Set::Args);
        static COMPONENT: [bool; 256] = build(Set::Component);
        static HTML: [bool; 256] = build(Set::Html);
        static REFRESH: [bool; 256] = build(Set::Refresh);
        static MEMCACHED: [bool; 256] = build(Set::Memcached);
        match self {
            Set::Uri => &URI,
            Set::Args => &ARGS,
            Set::Component => &COMPONENT,
            Set::Html => &HTML,
            Set::Refresh => &REFRESH,
            Set::Memcached => &MEMCACHED,
        }
    }

    const fn escapes(self, c: u8) -> bool {
        /// What RFC 3986 allows nowhere in a URI; nginx leaves `}` out of it for `Refresh` and adds `~`.
        const fn never(c: u8) -> bool {
            matches!(c, 0..=b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | 0x7f..)
        }
        match self {
            Set::Uri => never(c) || matches!(c, b'#' | b'%' | b'?' | b'}'),
            Set::Args => never(c) || matches!(c, b'#' | b'%' | b'?' | b'}' | b'&' | b'+' | b';'),
            Set::Component => !(c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~')),
            Set::Html => never(c) || matches!(c, b'#' | b'%' | b'\'' | b'}'),
            Set::Refresh => never(c) || matches!(c, b'\'' | b'~'),
            Set::Memcached => c <= b' ' || c == b'%',
        }
    }
}

/// The byte after a `%` and what remains: `tail` minus two digits, minus one byte that is no digit (and stays as
/// it is), or minus what a broken escape swallows.
fn unquote(tail: &[u8]) -> (Option<u8>, &[u8]) {
    match tail {
        [high, rest @ ..] => match (hex(*high), rest.split_first()) {
            (None, _) => (Some(*high), rest),
            (Some(high), Some((low, rest))) => (hex(*low).map(|low| high << 4 | low), rest),
            (Some(_), None) => (None, rest),
        },
        [] => (None, tail),
    }
}

fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'A' - 10 }
}

/// Decodes base64 (RFC 4648 section 4); padding may be missing, and what stands behind it does not matter.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.split(|&b| b == b'=').next().unwrap_or_default();
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let missing = 4 - group.len();
        bits <<= 6 * missing;
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.extend_from_slice(bytes.get(..3 - missing.min(3))?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_the_sets_of_nginx() {
        let visible: Vec<u8> = (b' '..=0x7f).collect();
        let table = [
            (Set::Uri, " \"#%<>?\\^`{|}\x7f"),
            (Set::Args, " \"#%&+;<>?\\^`{|}\x7f"),
            (Set::Component, " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}\x7f"),
            (Set::Html, " \"#%'<>\\^`{|}\x7f"),
            (Set::Refresh, " \"'<>\\^`{|~\x7f"),
            (Set::Memcached, " %"),
        ];
        for (set, want) in table {
            let got: Vec<u8> = visible.iter().copied().filter(|c| needs_escape(&[*c], set)).collect();
            assert_eq!(String::from_utf8(got).unwrap(), want, "{set:?}");
            assert!(needs_escape(b"\x1f", set));
            assert_eq!(needs_escape(b"\xff", set), set != Set::Memcached);
        }
        let mut out = b">".to_vec();
        escape("a b\u{430}".as_bytes(), Set::Uri, &mut out);
        assert_eq!(out, b">a%20b%D0%B0");
    }

    #[test]
    fn unescapes() {
        use Unescape::{All, Redirect, Uri};
        let table: &[(&str, Unescape, &str)] = &[
            ("a%20b%2F?%41", All, "a b/?A"),
            ("%zz%4z%", All, "zz"),
            ("a%4", All, "a"),
            ("a%20?%20", Uri, "a ?%20"),
            ("a%3f%20", Uri, "a?%20"),
            ("%?%20", Uri, "? "),
            ("%41%20%25%3F%41", Redirect, "A%20%25?%41"),
            ("%7f%7E", Redirect, "%7f~"),
        ];
        for (text, mode, want) in table {
            assert_eq!(String::from_utf8(unescape(text.as_bytes(), *mode)).unwrap(), *want, "{text} {mode:?}");
        }
    }

    #[test]
    fn writes_html_and_json() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        html(b"<a href=\"x'&y\">", &mut a);
        json(b"a\"\\\n\r\t\x08\x0c\x01\x1f/\xff", &mut b);
        assert_eq!(a, b"&lt;a href=&quot;x'&amp;y&quot;&gt;");
        assert_eq!(b, b"a\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001F/\xff");
    }
}

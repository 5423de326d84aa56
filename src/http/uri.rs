//! Request targets: splitting, decoding and normalising. RFC 9112 section 3.2, RFC 3986 section 5.2.4 and
//! https://nginx.org/en/docs/http/ngx_http_core_module.html#location
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::escape::{self, Unescape};

/// A request target that cannot be served; its words are nginx's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadUri;

impl fmt::Display for BadUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client sent invalid request")
    }
}

impl std::error::Error for BadUri {}

/// A target split into its decoded, normalised path and its arguments as they came.
#[derive(Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    /// Starts with `/`. Borrowed means that the bytes are those of the request.
    pub path: Cow<'a, [u8]>,
    /// What stands between `?` and `#`, empty when there is neither.
    pub args: &'a [u8],
}

/// Decodes `raw` (an origin-form target, or `?…` for an empty path) and resolves `.`, `..` and, with
/// `merge_slashes`, `//`. Fails on controls, on `%00`, on a broken `%xx` and on a path above the root.
pub fn normalise(raw: &[u8], merge_slashes: bool) -> Result<Normal<'_>, BadUri> {
    if raw.iter().any(|&c| c <= b' ' || c == 0x7f) {
        return Err(BadUri);
    }
    let (path, args, simple) = scan(raw)?;
    let path = if simple { Cow::Borrowed(path) } else { Cow::Owned(resolve(path, merge_slashes)?) };
    Ok(Normal { path, args })
}

/// The parts of `http://host:port/path?args` as offsets into the target it was split from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absolute {
    /// The scheme without its colon.
    pub scheme: Range<usize>,
    /// The host with its port as written; may be empty.
    pub host: Range<usize>,
    /// The origin-form rest: `/path?args`, `?args`, or for an empty rest the first `/` of `://`.
    pub rest: Range<usize>,
}

/// Splits an absolute-form target, holding the host to letters, digits, `.`, `-` and bracketed literals.
pub fn absolute(target: &[u8]) -> Result<Absolute, BadUri> {
    let scheme = target.iter().position(|&c| c == b':').ok_or(BadUri)?;
    let (name, tail) = target.split_at_checked(scheme).ok_or(BadUri)?;
    let letter_first = name.first().is_some_and(u8::is_ascii_alphabetic);
    let scheme_byte = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
    let tail = tail.strip_prefix(b"://").filter(|_| letter_first && name.iter().all(scheme_byte)).ok_or(BadUri)?;
    let length = authority(tail).ok_or(BadUri)?;
    let start = scheme + 3;
    let rest = match tail.get(length) {
        None => scheme + 1..scheme + 2,
        Some(b'/' | b'?') => start + length..target.len(),
        Some(_) => return Err(BadUri),
    };
    Ok(Absolute { scheme: 0..scheme, host: start..start + length, rest })
}

/// The length of the `host` or `host:port` that `text` starts with; `None` for a broken bracketed literal.
pub fn authority(text: &[u8]) -> Option<usize> {
    let host = match text.first() {
        Some(b'[') => {
            1 + text.iter().skip(1).position(|c| !literal_byte(*c)).filter(|&n| text.get(n + 1) == Some(&b']'))? + 1
        }
        _ => leading(text, |c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-')),
    };
    match text.get(host..)?.split_first() {
        Some((b':', port)) => Some(host + 1 + leading(port, |c| c.is_ascii_digit())),
        _ => Some(host),
    }
}

/// A decoded path and raw arguments.
pub type Safe<'a> = (Cow<'a, [u8]>, &'a [u8]);

/// Checks a URI named by an upstream or a client (`X-Accel-Redirect`, `Destination`), decodes its path and
/// splits off its arguments; an error, as it is told, where it is empty, holds NUL or would leave its root.
pub fn safe(uri: &[u8]) -> Result<Safe<'_>, Cow<'_, [u8]>> {
    let (path, args) = split_args(uri);
    if path.is_empty() || leaves_root(path) {
        return Err(Cow::Borrowed(uri));
    }
    if !path.contains(&b'%') {
        return Ok((Cow::Borrowed(path), args));
    }
    let decoded = escape::unescape(path, Unescape::All);
    if leaves_root(&decoded) { Err(Cow::Owned(decoded)) } else { Ok((Cow::Owned(decoded), args)) }
}

/// Splits at the first `?`; the arguments are empty where there is none.
pub fn split_args(uri: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'?', uri) {
        Some(at) => (uri.get(..at).unwrap_or_default(), uri.get(at + 1..).unwrap_or_default()),
        None => (uri, &[]),
    }
}

/// What follows the last dot of the last segment, empty when that segment has none or starts with it.
pub fn extension(path: &[u8]) -> &[u8] {
    let segment = path.iter().rposition(|&c| c == b'/').map_or(0, |at| at + 1);
    let segment = path.get(segment..).unwrap_or_default();
    match segment.iter().rposition(|&c| c == b'.') {
        Some(dot) if dot > 0 => segment.get(dot + 1..).unwrap_or_default(),
        _ => &[],
    }
}

/// The raw value of the first argument called `name`, in any case.
pub fn arg<'a>(args: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    args.split(|&c| c == b'&').find_map(|pair| {
        let (key, value) = pair.split_at_checked(name.len())?;
        value.strip_prefix(b"=").filter(|_| !name.is_empty() && key.eq_ignore_ascii_case(name))
    })
}

/// The raw path, the arguments, and whether the path needs neither decoding nor resolving.
fn scan(raw: &[u8]) -> Result<(&[u8], &[u8], bool), BadUri> {
    let mut simple = raw.starts_with(b"/");
    if !simple && !raw.starts_with(b"?") {
        return Err(BadUri);
    }
    let mut before = 0;
    for (at, &c) in raw.iter().enumerate() {
        match c {
            b'/' | b'.' => simple &= before != b'/',
            b'%' => simple = false,
            b'?' => {
                let (path, args) = raw.split_at(at);
                let args = args.get(1..).unwrap_or_default();
                return Ok((path, args.split(|&c| c == b'#').next().unwrap_or_default(), simple));
            }
            b'#' => return Ok((raw.split_at(at).0, &[], simple)),
            _ => {}
        }
        before = c;
    }
    Ok((raw, &[], simple))
}

fn resolve(path: &[u8], merge_slashes: bool) -> Result<Vec<u8>, BadUri> {
    let mut out = Vec::with_capacity(path.len() + 1);
    out.push(b'/');
    let mut segment = 1;
    let mut bytes = path.iter().skip(1).copied();
    while let Some(c) = bytes.next() {
        let c = if c == b'%' { decode(&mut bytes)? } else { c };
        if c != b'/' {
            out.push(c);
            continue;
        }
        match out.get(segment..) {
            Some(b"." | b"..") => close(&mut out, segment)?,
            Some(b"") if merge_slashes => {}
            _ => out.push(c),
        }
        segment = out.len();
    }
    close(&mut out, segment)?;
    Ok(out)
}

/// Takes a last segment `.` or `..` off `out`.
fn close(out: &mut Vec<u8>, segment: usize) -> Result<(), BadUri> {
    match out.get(segment..) {
        Some(b".") => out.truncate(segment),
        Some(b"..") => {
            let parent = out.get(..segment - 1).and_then(|head| head.iter().rposition(|&c| c == b'/'));
            out.truncate(parent.ok_or(BadUri)? + 1);
        }
        _ => {}
    }
    Ok(())
}

fn decode(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, BadUri> {
    let mut digit = || bytes.next().and_then(escape::hex).ok_or(BadUri);
    let c = digit()? << 4 | digit()?;
    if c == 0 { Err(BadUri) } else { Ok(c) }
}

fn leaves_root(path: &[u8]) -> bool {
    path.contains(&0) || path.split(|&c| c == b'/').any(|segment| segment == b"..")
}

fn leading(text: &[u8], wanted: impl Fn(&u8) -> bool) -> usize {
    text.iter().take_while(|c| wanted(c)).count()
}

/// Unreserved, sub-delims and `:`, as RFC 3986 allows them between brackets.
#[inline]
pub(super) fn literal_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'.' | b':' | b'-' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        // raw, path, args, borrowed
        let table: &[(&str, &str, &str, bool)] = &[
            ("/", "/", "", true),
            ("/a/b.html?x=1&y=%20", "/a/b.html", "x=1&y=%20", true),
            ("/a?", "/a", "", true),
            ("/a?b?c", "/a", "b?c", true),
            ("/a#b?c", "/a", "", true),
            ("/a?b#c?d", "/a", "b", true),
            ("?a=b", "/", "a=b", false),
            ("/.well-known/x", "/.well-known/x", "", false),
            ("/a//b///c", "/a/b/c", "", false),
            ("//", "/", "", false),
            ("/./a/./b/.", "/a/b/", "", false),
            ("/a/b/../c", "/a/c", "", false),
            ("/a/b/..", "/a/", "", false),
            ("/a/..?x", "/", "x", false),
            ("/a/.#x", "/a/", "", false),
            ("/a/...", "/a/...", "", false),
            ("/a/..b/.c", "/a/..b/.c", "", false),
            ("/a/%2e%2E/b", "/b", "", false),
            ("/a%2fb%2F%2fc", "/a/b/c", "", false),
            ("/a%3Fb%23c%25d?e%3f", "/a?b#c%d", "e%3f", false),
            ("/%D0%B0+b%20c", "/\u{430}+b c", "", false),
            ("/a%2525", "/a%25", "", false),
            ("/\u{430}", "/\u{430}", "", true),
        ];
        for (raw, path, args, borrowed) in table {
            let got = normalise(raw.as_bytes(), true).unwrap();
            assert_eq!((&*got.path, got.args), (path.as_bytes(), args.as_bytes()), "{raw}");
            assert_eq!(matches!(got.path, Cow::Borrowed(_)), *borrowed, "{raw}");
        }
        for (raw, path) in [("/a//b", "/a//b"), ("//", "//"), ("/a//../b", "/a/b"), ("//..", "/"), ("/a/.//b", "/a//b")]
        {
            assert_eq!(&*normalise(raw.as_bytes(), false).unwrap().path, path.as_bytes(), "{raw}");
        }
        for raw in [
            "", "a", "*", "/..", "/../a", "/a/../..", "/%2e%2e", "/%00", "/%", "/%4", "/%zz", "/%4g", "/a b", "/a\x01",
            "/\x7f", "/?\t",
        ] {
            assert_eq!(normalise(raw.as_bytes(), true), Err(BadUri), "{raw:?}");
        }
    }

    #[test]
    fn splits_absolute_forms() {
        let table = [
            ("http://a/b?c", Some(("http", "a", "/b?c"))),
            ("http://a:80/", Some(("http", "a:80", "/"))),
            ("HTTPS://[::1]:8/x", Some(("HTTPS", "[::1]:8", "/x"))),
            ("http://a", Some(("http", "a", "/"))),
            ("http://a:", Some(("http", "a:", "/"))),
            ("http://a?b", Some(("http", "a", "?b"))),
            ("http:///x", Some(("http", "", "/x"))),
            ("h+2.-://a/", Some(("h+2.-", "a", "/"))),
            ("1http://a/", None),
            ("http:/a/", None),
            ("http://a_b/", None),
            ("http://a:8b/", None),
            ("http://[::1/", None),
            ("http://[::1]x/", None),
            ("http://u@a/", None),
            ("nothing", None),
        ];
        for (text, want) in table {
            let got = absolute(text.as_bytes()).ok();
            assert_eq!(got.map(|a| (&text[a.scheme], &text[a.host], &text[a.rest])), want, "{text}");
        }
    }

    #[test]
    fn keeps_safe_uris() {
        let table = [
            ("/a?b", Some(("/a", "b"))),
            ("/a%20b?c%20", Some(("/a b", "c%20"))),
            ("/a..b/..c", Some(("/a..b/..c", ""))),
            ("", None),
            ("?a", None),
            ("..", None),
            ("../a", None),
            ("/../a", None),
            ("/a/..", None),
            ("/a/..?b", None),
            ("/%2e./a", None),
            ("/a%00", None),
            ("/a\0", None),
        ];
        for (text, want) in table {
            let got = safe(text.as_bytes()).ok();
            assert_eq!(
                got.as_ref().map(|(p, a)| (&**p, *a)),
                want.map(|(p, a)| (p.as_bytes(), a.as_bytes())),
                "{text}"
            );
        }
    }

    #[test]
    fn finds_extensions_and_arguments() {
        let table = [
            ("/a.html", "html"),
            ("/a.b/c", ""),
            ("/a.tar.gz", "gz"),
            ("/.profile", ""),
            ("/a/.b.c", "c"),
            ("/a.", ""),
        ];
        for (path, want) in table {
            assert_eq!(extension(path.as_bytes()), want.as_bytes(), "{path}");
        }
        let args = b"xa=0&A=1&a=2&b&c=&d=x=y";
        let table = [("a", Some("1")), ("b", None), ("c", Some("")), ("d", Some("x=y")), ("", None), ("e", None)];
        for (name, want) in table {
            assert_eq!(arg(args, name.as_bytes()), want.map(str::as_bytes), "{name}");
        }
    }
}

//! `log_format`: <https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format>

use std::sync::Arc;

use bytes::Bytes;
use parser::ast::Span;

use crate::conf::args::text;
use crate::conf::names::{Names, VarId};
use crate::conf::{Args, Problem};
use crate::http::{Request, escape};

/// The format that every configuration has.
pub const COMBINED: &[u8] = b"$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
\"$http_referer\" \"$http_user_agent\"";

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Bytes),
    Variable(VarId),
}

/// How values are written, so that no request can forge a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\xXX` for quotes, backslashes and whatever is not printable ASCII.
    #[default]
    Default,
    /// As inside of a JSON string.
    Json,
    /// As they are.
    None,
}

/// What a line of a log looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    pieces: Arc<[Piece]>,
    escape: Escape,
}

impl Format {
    /// The words behind the name of a `log_format`.
    pub fn read(args: &mut Args<'_>) -> Result<Self, Problem> {
        let mut words = args.words().enumerate().skip(1).peekable();
        let mut escape = Escape::Default;
        if let Some((at, word)) = words.next_if(|(_, word)| word.starts_with(b"escape=")) {
            escape = match word.get(7..).unwrap_or_default() {
                b"default" => Escape::Default,
                b"json" => Escape::Json,
                b"none" => Escape::None,
                other => return Err(Problem::new(format!("unknown log format escaping \"{}\"", text(other))).at(at)),
            };
        }
        let mut pieces = Vec::new();
        for (at, word) in words {
            let span = args.directive().args.get(at).map(|word| word.span);
            parse(word, &mut args.env.names, span, &mut pieces).map_err(|problem| problem.at(at))?;
        }
        Ok(Self { pieces: pieces.into(), escape })
    }

    /// The format `combined`.
    pub fn combined(names: &mut Names) -> Self {
        let mut pieces = Vec::new();
        let parsed = parse(COMBINED, names, None, &mut pieces);
        debug_assert!(parsed.is_ok());
        Self { pieces: pieces.into(), escape: Escape::Default }
    }

    /// Appends the line of `request`, with its newline.
    pub fn write(&self, request: &Request, out: &mut Vec<u8>) {
        for piece in &*self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Variable(id) => {
                    let start = out.len();
                    match request.variable(*id, out) {
                        true => self.escape.from(start, out),
                        false if self.escape == Escape::Default => out.push(b'-'),
                        false => {}
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

impl Escape {
    /// Escapes what stands in `out` from `start` on; most values need nothing.
    fn from(self, start: usize, out: &mut Vec<u8>) {
        let value = out.get(start..).unwrap_or_default();
        let unsafe_byte = |b: &u8| match self {
            Escape::Default => matches!(b, 0..0x20 | b'"' | b'\\' | 0x7f..),
            Escape::Json => matches!(b, 0..0x20 | b'"' | b'\\'),
            Escape::None => false,
        };
        if !value.iter().any(unsafe_byte) {
            return;
        }
        let value = out.split_off(start);
        if self == Escape::Json {
            return escape::json(&value, out);
        }
        for byte in value {
            match unsafe_byte(&byte) {
                true => out.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
                false => out.push(byte),
            }
        }
    }
}

fn parse(text: &[u8], names: &mut Names, at: Option<Span>, pieces: &mut Vec<Piece>) -> Result<(), Problem> {
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, tail) = rest.split_at(rest.iter().position(|&b| b == b'$').unwrap_or(rest.len()));
        if !literal.is_empty() {
            pieces.push(Piece::Literal(Bytes::copy_from_slice(literal)));
        }
        rest = tail;
        if tail.first() == Some(&b'$') {
            let (name, after) = name(tail)?;
            pieces.push(Piece::Variable(names.id(&name, at)));
            rest = after;
        }
    }
    Ok(())
}

/// The name behind a `$`, and what follows it.
fn name(dollar: &[u8]) -> Result<(String, &[u8]), Problem> {
    let invalid = || Problem::new(format!("invalid parameter \"{}\"", text(dollar)));
    let body = dollar.get(1..).unwrap_or_default();
    let (braced, body) = match body.strip_prefix(b"{") {
        Some(body) => (true, body),
        None => (false, body),
    };
    if body.is_empty() {
        return Err(invalid());
    }
    let end = body.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_')).unwrap_or(body.len());
    let (name, rest) = body.split_at(end);
    let rest = match rest.strip_prefix(b"}") {
        Some(rest) if braced => rest,
        _ if braced => {
            let problem = format!("the closing bracket in \"{}\" variable is missing", text(name));
            return Err(Problem::new(problem));
        }
        _ => rest,
    };
    if name.is_empty() { Err(invalid()) } else { Ok((text(name).into_owned(), rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_faults() {
        let read = |word: &str| match name(word.as_bytes()) {
            Ok((name, rest)) => format!("{name}|{}", text(rest)),
            Err(problem) => problem.sentence(""),
        };
        assert_eq!(read("$a_1-b"), "a_1|-b");
        assert_eq!(read("${a}b"), "a|b");
        assert_eq!(read("${a-b}"), "the closing bracket in \"a\" variable is missing");
        assert_eq!(read("$"), "invalid parameter \"$\"");
        assert_eq!(read("$-"), "invalid parameter \"$-\"");
        assert_eq!(read("${}x"), "invalid parameter \"${}x\"");
    }

    #[test]
    fn escapes() {
        let escaped = |escape: Escape, value: &[u8]| {
            let mut out = [b"a\"", value].concat();
            escape.from(2, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(escaped(Escape::Default, b"x y"), "a\"x y");
        assert_eq!(escaped(Escape::Default, b"\"\\\n\x7f\xc3"), "a\"\\x22\\x5C\\x0A\\x7F\\xC3");
        assert_eq!(escaped(Escape::Json, b"\"\\\n\x01"), "a\"\\\"\\\\\\n\\u0001");
        assert_eq!(escaped(Escape::None, b"\"\n"), "a\"\"\n");
    }
}

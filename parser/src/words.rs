//! Words, blanks and punctuation: the tokens of <https://nginx.org/en/docs/beginners_guide.html#conf_structure>.
//!
//! nginx reads its files through a buffer of 4096 bytes that has to hold a word, or a comment, as a whole. A blank that
//! ends a word still belongs to it there, `;` and `{` do not, which is why some limits below look off by one.

use nom::branch::alt;
use nom::bytes::complete::{tag, take, take_till, take_till1, take_while, take_while1};
use nom::character::complete::one_of;
use nom::combinator::{eof, recognize, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{fold_many0, many0_count};
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};

use crate::ast::Quote;

/// Bytes in nginx's buffer.
pub(crate) const BUFFER: usize = 4096;

/// What a statement is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// The bytes of a word as they stand, without quotes, and how it was quoted.
    Word(&'a [u8], Quote),
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`
    Close,
    /// The end of the text.
    End,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The text ends within a word.
    End,
    /// A word that does not fit into the buffer.
    Long,
    /// A comment that does not.
    LongComment,
    /// A quoted word that does not end within the buffer.
    LongQuoted(char),
    /// Not this kind of token: another one is tried.
    Other,
}

/// Where there is no token, and where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop<'a> {
    /// What is wrong.
    pub trouble: Trouble,
    /// The text from the offending byte on.
    pub at: &'a [u8],
    /// The text behind the damage.
    pub resume: &'a [u8],
}

impl<'a> ParseError<&'a [u8]> for Stop<'a> {
    fn from_error_kind(input: &'a [u8], _: ErrorKind) -> Self {
        Stop { trouble: Trouble::Other, at: input, resume: input }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// The outcome of a rule of this grammar.
pub(crate) type Rule<'a, T> = IResult<&'a [u8], T, Stop<'a>>;

/// The next token behind blanks and comments, with the text from its first byte on. `limit` is the size of the buffer.
pub(crate) fn token(input: &[u8], limit: usize) -> Rule<'_, (&[u8], Token<'_>)> {
    let (start, ()) = blanks(input, limit)?;
    let (rest, token) = alt((
        |input| bare(input, limit),
        |input| quoted(input, limit),
        value(Token::Semicolon, tag(";")),
        value(Token::Open, tag("{")),
        value(Token::Close, tag("}")),
        value(Token::End, eof),
    ))
    .parse(start)?;
    Ok((rest, (start, token)))
}

/// The byte a quoted word is followed by, where nginx does not expect it there.
pub(crate) fn after_quote(rest: &[u8]) -> Option<u8> {
    rest.first().copied().filter(|byte| !ends_bare(*byte) && *byte != b')')
}

/// What a word means: `\"`, `\'`, `\\`, `\t`, `\r` and `\n` are resolved; before anything else a backslash stays.
pub(crate) fn resolve(raw: &[u8]) -> Vec<u8> {
    if !raw.contains(&b'\\') {
        return raw.to_vec();
    }
    let escape = alt((
        value(&b"\t"[..], tag("t")),
        value(&b"\r"[..], tag("r")),
        value(&b"\n"[..], tag("n")),
        recognize(one_of("\"'\\")),
    ));
    let piece = alt((take_till1(|byte| byte == b'\\'), preceded(tag("\\"), escape), take(1_usize)));
    let append = |mut text: Vec<u8>, part: &[u8]| {
        text.extend_from_slice(part);
        text
    };
    let whole: IResult<&[u8], Vec<u8>, ()> = fold_many0(piece, || Vec::with_capacity(raw.len()), append).parse(raw);
    whole.map_or_else(|_| raw.to_vec(), |(_, text)| text)
}

/// Whether nginx takes the byte for space between words.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn blanks(input: &[u8], limit: usize) -> Rule<'_, ()> {
    value((), many0_count(alt((take_while1(is_blank), |input| comment(input, limit))))).parse(input)
}

fn comment(input: &[u8], limit: usize) -> Rule<'_, &[u8]> {
    let (rest, text) = recognize(pair(tag("#"), take_till(|byte| byte == b'\n'))).parse(input)?;
    fits(input, text.len(), limit).map_err(|_| stop(Trouble::LongComment, input, rest))?;
    Ok((rest, text))
}

fn bare(input: &[u8], limit: usize) -> Rule<'_, Token<'_>> {
    let plain = take_till1(|byte| ends_bare(byte) || matches!(byte, b'\\' | b'$'));
    let piece = alt((plain, escape, variable));
    if input.first().is_none_or(|byte| ends_bare(*byte) || matches!(byte, b'}' | b'#' | b'"' | b'\'')) {
        return Err(nom::Err::Error(Stop::from_error_kind(input, ErrorKind::Not)));
    }
    let (rest, raw) = recognize(many0_count(piece)).parse(input)?;
    let blank = usize::from(rest.first().is_some_and(|byte| is_blank(*byte)));
    fits(input, raw.len() + blank, limit).map_err(|trouble| stop(trouble, input, rest))?;
    if rest.is_empty() {
        return Err(stop(Trouble::End, rest, rest));
    }
    Ok((rest, Token::Word(raw, Quote::None)))
}

fn quoted(input: &[u8], limit: usize) -> Rule<'_, Token<'_>> {
    let (body, mark) = one_of("\"'").parse(input)?;
    let window = body.get(..limit).unwrap_or(body);
    let plain = take_till1(|byte| char::from(byte) == mark || byte == b'\\');
    let (tail, raw) = recognize(many0_count(alt((plain, escape)))).parse(window)?;
    if tail.is_empty() {
        fits(body, raw.len(), limit).map_err(|_| stop(Trouble::LongQuoted(mark), input, end_of_line(body)))?;
        return Err(stop(Trouble::End, tail, tail));
    }
    let (rest, _) = take(raw.len() + 1)(body)?;
    let blank = usize::from(rest.first().is_some_and(|byte| is_blank(*byte)));
    fits(body, raw.len() + 1 + blank, limit).map_err(|trouble| stop(trouble, body, rest))?;
    let quote = if mark == '"' { Quote::Double } else { Quote::Single };
    Ok((rest, Token::Word(raw, quote)))
}

/// A backslash and what it protects; at the end of the text, the backslash alone.
fn escape(input: &[u8]) -> Rule<'_, &[u8]> {
    recognize(pair(tag("\\"), alt((take(1_usize), eof)))).parse(input)
}

/// A dollar and the braces behind it, which open no block.
fn variable(input: &[u8]) -> Rule<'_, &[u8]> {
    recognize(pair(tag("$"), take_while(|byte| byte == b'{'))).parse(input)
}

fn ends_bare(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b';' | b'{')
}

/// Whether nginx gets to see the byte `length` bytes behind the `start` of a word that the buffer has to keep.
fn fits(start: &[u8], length: usize, limit: usize) -> Result<(), Trouble> {
    if length >= limit && start.len() > limit { Err(Trouble::Long) } else { Ok(()) }
}

/// Behind an opening quote that is never closed: the `;` or `{` its line ends with, otherwise the line feed.
fn end_of_line(input: &[u8]) -> &[u8] {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, rest) = input.split_at_checked(line).unwrap_or((input, &[]));
    let text = line.trim_ascii_end();
    if !text.ends_with(b";") && !text.ends_with(b"{") {
        return rest;
    }
    input.get(text.len() - 1..).unwrap_or(rest)
}

fn stop<'a>(trouble: Trouble, at: &'a [u8], resume: &'a [u8]) -> nom::Err<Stop<'a>> {
    nom::Err::Failure(Stop { trouble, at, resume })
}

//! The chunked transfer coding: RFC 9112 section 7.1, line ends strictly CRLF as nginx 1.31 wants them.
use std::io::Write as _;
use std::ops::Range;

/// The last chunk and the end of a body without trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// Takes a chunked body apart as it arrives.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    left: u64,
    keep_trailers: bool,
}

/// What `decode` found in the bytes it was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// These are bytes of the body; go on after them.
    Data(Range<usize>),
    /// All bytes are used up and more are needed.
    More,
    /// The body ends before this offset.
    Done(usize),
}

/// The bytes are not a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadChunk;

impl Decoder {
    /// A decoder at the start of a body. It skips trailers, or with `keep_trailers` is done in front of them, so that
    /// they are read as header lines are.
    pub fn new(keep_trailers: bool) -> Self {
        Self { state: State::Start, left: 0, keep_trailers }
    }

    /// The bytes that the current chunk announced and `decode` has not returned yet.
    pub fn pending(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Takes the next step through `buf`, which starts where the last step ended.
    pub fn decode(&mut self, buf: &[u8]) -> Result<Step, BadChunk> {
        for (at, &c) in buf.iter().enumerate() {
            if self.state == State::Data {
                let here = u64::try_from(buf.len() - at).unwrap_or(u64::MAX).min(self.left);
                self.left -= here;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step::Data(at..at + usize::try_from(here).unwrap_or(usize::MAX)));
            }
            self.state = self.framing(c)?;
            if self.state == State::Done {
                return Ok(Step::Done(at + 1));
            }
        }
        Ok(Step::More)
    }

    /// One byte of anything but data.
    fn framing(&mut self, c: u8) -> Result<State, BadChunk> {
        let size = super::super::escape::hex;
        Ok(match (self.state, c) {
            (State::Start, c) => {
                self.left = u64::from(size(c).ok_or(BadChunk)?);
                State::Size
            }
            (State::Size, b'\r') | (State::Extension, b'\r') => State::SizeLf,
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::Size, c) => {
                let digit = u64::from(size(c).ok_or(BadChunk)?);
                self.left = self.left.checked_mul(16).map(|n| n + digit).filter(|n| *n <= LARGEST).ok_or(BadChunk)?;
                State::Size
            }
            (State::SizeLf, b'\n') if self.left > 0 => State::Data,
            (State::SizeLf, b'\n') if self.keep_trailers => State::Done,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::Trailers, b'\r') => State::EndLf,
            (State::TrailerLine, b'\r') => State::TrailerLf,
            (State::EndLf, b'\n') => State::Done,
            (State::SizeLf | State::TrailerLf, b'\n') => State::Trailers,
            (State::Extension, c) if c != b'\n' => State::Extension,
            (State::Trailers | State::TrailerLine, c) if c != b'\n' => State::TrailerLine,
            _ => return Err(BadChunk),
        })
    }
}

/// Appends the line in front of a chunk of `size` bytes, which must not be 0; a CRLF follows the chunk.
pub fn head(size: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{size:x}\r\n");
}

/// Sizes stay clear of the end of a signed 64-bit offset.
const LARGEST: u64 = i64::MAX as u64 - 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and where it ended, or `None` where it has not.
    fn run(text: &[u8], piece: usize, keep_trailers: bool) -> Result<Option<(Vec<u8>, usize)>, BadChunk> {
        let (mut decoder, mut body, mut at) = (Decoder::new(keep_trailers), Vec::new(), 0);
        while at < text.len() {
            let buf = &text[at..text.len().min(at + piece)];
            match decoder.decode(buf)? {
                Step::Data(range) => {
                    body.extend_from_slice(&buf[range.clone()]);
                    at += range.end;
                }
                Step::More => at += buf.len(),
                Step::Done(end) => return Ok(Some((body, at + end))),
            }
        }
        Ok(None)
    }

    #[test]
    fn decodes() {
        let table: &[(&str, Option<(&str, usize)>)] = &[
            ("3\r\nabc\r\n0\r\n\r\nX", Some(("abc", 13))),
            ("0\r\n\r\n", Some(("", 5))),
            ("00a;x=\"y\"\r\n0123456789\r\n1 \r\nA\r\n0 ; q\r\nT: u\r\nV: w\r\n\r\n", Some(("0123456789A", 51))),
            ("3\r\nabc", None),
            ("", None),
        ];
        for (text, want) in table {
            for piece in [1, 2, 3, 7, 1000] {
                let want = want.map(|(body, end)| (body.as_bytes().to_vec(), end));
                assert_eq!(run(text.as_bytes(), piece, false), Ok(want), "{text:?} by {piece}");
            }
        }
        let kept = Ok(Some((b"a".to_vec(), 9)));
        assert_eq!(run(b"1\r\na\r\n0\r\nT: u\r\n\r\n", 3, true), kept);
    }

    #[test]
    fn refuses() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "3\nabc",
            "3\r\r",
            "3;a\n",
            "3;a\rb",
            "3\r\nabcd",
            "3\r\nabc\n",
            "1\r\na\r\r",
            "0\n",
            "0\r\n\n",
            "0\r\nT: u\n",
            "0\r\nT\ru",
            "0\r\n\r\r",
            "7ffffffffffffff7\r\n",
            "10000000000000000",
        ] {
            assert_eq!(run(text.as_bytes(), 1, false), Err(BadChunk), "{text:?}");
        }
        let mut decoder = Decoder::new(false);
        assert_eq!(
            (decoder.decode(b"7ffffffffffffff6\r\nab"), decoder.pending()),
            (Ok(Step::Data(18..20)), LARGEST - 2)
        );
    }

    #[test]
    fn encodes() {
        let mut out = Vec::new();
        head(0xAB, &mut out);
        assert_eq!(out, b"ab\r\n");
    }
}

//! Records of FastCGI: <https://fastcgi-archives.github.io/FastCGI_Specification.html>, sections 3 and 8.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use crate::http::body::Source;
use crate::http::{Body, Cause, Chunk, Fault, FilePart};
use crate::net::Level;
use crate::upstream::params::Framing;
use crate::upstream::protocol::{Decode, Decoded};

const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
/// Bytes of a header.
const HEADER: usize = 8;
/// Bytes of a body that one record carries.
const PIECE: usize = 32 << 10;
/// What ends a body.
pub const LAST: &[u8] = &[1, STDIN, 0, 1, 0, 0, 0, 0];

/// The records in front of a body: the parameters, which end where `params` does.
pub fn open(keep: bool, params: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&[1, BEGIN_REQUEST, 0, 1, 0, 8, 0, 0, 0, 1, u8::from(keep), 0, 0, 0, 0, 0]);
    out.extend_from_slice(&header(PARAMS, u16::try_from(params.len()).ok()?));
    out.extend_from_slice(params);
    out.extend_from_slice(padding(params.len()));
    out.extend_from_slice(&header(PARAMS, 0));
    Some(())
}

/// Names and values behind the lengths of both: a byte each, or four.
pub struct Pairs;

impl Framing for Pairs {
    fn open(name: &[u8], out: &mut Vec<u8>) {
        match u8::try_from(name.len()) {
            Ok(short @ 0..=127) => out.push(short),
            _ => out.extend_from_slice(&long(name.len())),
        }
        out.push(0);
        out.extend_from_slice(name);
    }

    fn close(name: &[u8], out: &mut Vec<u8>, at: usize) {
        let (size, place) = (out.len() - at, at - name.len() - 1);
        match (u8::try_from(size), out.get_mut(place)) {
            (Ok(short @ 0..=127), Some(byte)) => *byte = short,
            _ => drop(out.splice(place..=place, long(size))),
        }
    }
}

fn long(length: usize) -> [u8; 4] {
    (u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31).to_be_bytes()
}

/// Calls `put` with the pieces of the records that carry `bytes`.
pub fn stdin(mut bytes: Bytes, mut put: impl FnMut(Bytes)) {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE));
        let len = piece.len();
        put(Bytes::copy_from_slice(&header(STDIN, u16::try_from(len).unwrap_or_default())));
        put(piece);
        put(Bytes::from_static(padding(len)));
    }
}

fn header(kind: u8, length: u16) -> [u8; HEADER] {
    let ([high, low], padding) = (length.to_be_bytes(), padding(usize::from(length)).len());
    [1, kind, 0, 1, high, low, u8::try_from(padding).unwrap_or_default(), 0]
}

fn padding(length: usize) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; HEADER];
    ZEROS.get(..length.next_multiple_of(HEADER) - length).unwrap_or_default()
}

/// A body that was read ahead, in records.
pub struct Stdin {
    body: Body,
    file: Option<FilePart>,
    ready: std::collections::VecDeque<Chunk>,
    done: bool,
}

impl Stdin {
    /// The records of `body`.
    pub fn new(body: Body) -> Self {
        Self { body, file: None, ready: Default::default(), done: false }
    }

    fn part(&mut self, mut part: FilePart) {
        let len = part.len.min(PIECE as u64);
        let piece = FilePart { len, ..part.clone() };
        (part.offset, part.len) = (part.offset + len, part.len - len);
        let short = u16::try_from(len).unwrap_or_default();
        self.ready.push_back(Chunk::Data(Bytes::copy_from_slice(&header(STDIN, short))));
        self.ready.push_back(Chunk::File(piece));
        self.ready.push_back(Chunk::Data(Bytes::from_static(padding(usize::from(short)))));
        self.file = Some(part).filter(|part| part.len > 0);
    }
}

impl Source for Stdin {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            if let Some(part) = self.file.take() {
                self.part(part);
                continue;
            }
            match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(Chunk::Data(bytes))) => stdin(bytes, |piece| self.ready.push_back(Chunk::Data(piece))),
                Some(Ok(Chunk::File(part))) => self.file = Some(part).filter(|part| part.len > 0),
                None if !std::mem::replace(&mut self.done, true) => {
                    self.ready.push_back(Chunk::Data(Bytes::from_static(LAST)));
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

/// What comes back, record by record.
#[derive(Default)]
pub struct Records {
    kind: u8,
    /// Bytes of the record's content and padding that are still to come.
    left: usize,
    padding: usize,
    /// Whether its header was read and its end was not.
    open: bool,
}

/// A piece of a record.
pub enum Piece {
    /// Bytes of the reply.
    Stdout(Bytes),
    /// The reply ends.
    Closed,
    /// Words for the error log.
    Stderr(Bytes),
    /// The request ends, with its last record still to be read.
    Ending,
    /// The request has ended.
    Ended,
    /// More is needed.
    More,
}

impl Records {
    /// Takes the next piece off the start of `buf`; the error is nginx's sentence.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Piece, String> {
        loop {
            if !self.open {
                let Some(head) = buf.first_chunk::<HEADER>().copied() else { return Ok(Piece::More) };
                buf.advance(HEADER);
                self.begin(head)?;
                match (self.kind, self.left) {
                    (STDOUT, 0) => return Ok(Piece::Closed),
                    (END_REQUEST, _) => return Ok(Piece::Ending),
                    _ => {}
                }
            }
            if self.left > 0 {
                if buf.is_empty() {
                    return Ok(Piece::More);
                }
                let content = buf.split_to(buf.len().min(self.left)).freeze();
                self.left -= content.len();
                match self.kind {
                    STDOUT => return Ok(Piece::Stdout(content)),
                    STDERR => return Ok(Piece::Stderr(content)),
                    _ => continue,
                }
            }
            let skip = buf.len().min(self.padding);
            buf.advance(skip);
            self.padding -= skip;
            if self.padding > 0 {
                return Ok(Piece::More);
            }
            self.open = false;
            if self.kind == END_REQUEST {
                return Ok(Piece::Ended);
            }
        }
    }

    fn begin(&mut self, [version, kind, id_high, id_low, high, low, padding, _]: [u8; HEADER]) -> Result<(), String> {
        if version != 1 {
            return Err(format!("upstream sent unsupported FastCGI protocol version: {version}"));
        }
        if !matches!(kind, STDOUT | STDERR | END_REQUEST) {
            return Err(format!("upstream sent invalid FastCGI record type: {kind}"));
        }
        if id_high != 0 {
            return Err(format!("upstream sent unexpected FastCGI request id high byte: {id_high}"));
        }
        if id_low != 1 {
            return Err(format!("upstream sent unexpected FastCGI request id low byte: {id_low}"));
        }
        self.kind = kind;
        self.left = usize::from(u16::from_be_bytes([high, low]));
        self.padding = usize::from(padding);
        self.open = true;
        Ok(())
    }

    /// The kind of the record under way.
    pub fn kind(&self) -> u8 {
        self.kind
    }
}

/// What an application wrote to its error stream, as nginx logs it.
pub fn complaint(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | b'.' | b' ')).map_or(1, |last| last + 1);
    text.get(..end).unwrap_or(text)
}

/// The body of a reply in its records.
pub struct Stdout {
    /// The record that was under way when the head ended.
    pub records: Records,
    /// What stood behind the head in it.
    pub first: Bytes,
    /// Bytes of the body that its head announced and that are still to come.
    pub rest: Option<u64>,
    /// Whether the connection is kept.
    pub keep: bool,
    /// Whether the reply is buffered: otherwise its end counts only with that of the request.
    pub buffered: bool,
}

impl Stdout {
    /// As much of `bytes` as the head announced; nothing where that is too much.
    fn data(&mut self, mut bytes: Bytes) -> Decoded {
        const EXCESS: &str = "upstream sent more data than specified in \"Content-Length\" header";
        let Some(rest) = &mut self.rest else { return Decoded::Data(bytes) };
        if *rest == 0 && !bytes.is_empty() {
            self.keep = false;
            self.rest = None;
            self.records = Records { kind: END_REQUEST, open: true, ..Records::default() };
            return Decoded::Note(Level::Warn, EXCESS.to_owned());
        }
        if bytes.len() as u64 > *rest {
            self.first = bytes.split_off(usize::try_from(*rest).unwrap_or(usize::MAX));
        }
        *rest -= bytes.len() as u64;
        Decoded::Data(bytes)
    }
}

impl Decode for Stdout {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, Cause> {
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            return Ok(self.data(first));
        }
        let short = self.rest.is_some_and(|rest| rest > 0);
        loop {
            return match self.records.next(buf).map_err(Cause::Protocol)? {
                Piece::Stdout(bytes) => Ok(self.data(bytes)),
                Piece::Closed if short && self.buffered => Err(Cause::Short("upstream prematurely closed FastCGI stdout")),
                Piece::Ending if short => Err(Cause::Short("upstream prematurely closed FastCGI request")),
                Piece::Closed | Piece::Ending => continue,
                Piece::Stderr(text) => {
                    let text = String::from_utf8_lossy(complaint(&text)).into_owned();
                    Ok(Decoded::Note(Level::Error, format!("FastCGI sent in stderr: \"{text}\"")))
                }
                Piece::Ended => Ok(Decoded::Done(self.keep)),
                Piece::More => Ok(Decoded::More),
            };
        }
    }

    fn may_close(&self) -> bool {
        !self.keep && self.rest.is_none_or(|rest| rest == 0)
    }

    fn held(&self) -> usize {
        self.first.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        [&header(kind, length), content, padding(content.len())].concat()
    }

    #[test]
    fn reads_records_in_any_pieces() {
        let all = [record(STDERR, b"oops\n"), record(STDOUT, b"ab"), record(STDOUT, b""), record(END_REQUEST, &[0; 8])].concat();
        for step in 1..all.len() {
            let (mut buf, mut coding) = (
                BytesMut::new(),
                Stdout { records: Records::default(), first: Bytes::from_static(b"x"), rest: Some(3), keep: true, buffered: true },
            );
            let (mut body, mut notes, mut done) = (Vec::new(), String::new(), false);
            for piece in all.chunks(step) {
                buf.extend_from_slice(piece);
                loop {
                    match coding.decode(&mut buf).unwrap() {
                        Decoded::Data(bytes) => body.extend_from_slice(&bytes),
                        Decoded::Note(_, text) => notes += text.split('"').nth(1).unwrap_or_default().trim(),
                        Decoded::More | Decoded::Trailers(_) => break,
                        Decoded::Done(keep) => {
                            done = keep;
                            break;
                        }
                    }
                }
            }
            assert!(done && body == b"xab" && notes == "oops", "{step}: {notes}");
        }
    }

    #[test]
    fn lengths_and_padding() {
        for (name, value, lengths) in [
            (3, 127, &[3, 127][..]),
            (127, 0, &[127, 0]),
            (3, 128, &[3, 0x80, 0, 0, 128]),
            (128, 300, &[0x80, 0, 0, 128, 0x80, 0, 1, 44]),
        ] {
            let (name, value) = (vec![b'n'; name], vec![b'v'; value]);
            let mut out = b"in front".to_vec();
            Pairs::open(&name, &mut out);
            let at = out.len();
            out.extend_from_slice(&value);
            Pairs::close(&name, &mut out, at);
            assert_eq!(out, [b"in front", lengths, &name, &value].concat());
        }
        assert_eq!((padding(0).len(), padding(3).len(), padding(16).len()), (0, 5, 0));
        assert_eq!(complaint(b"a. \r\n"), b"a");
        assert_eq!(complaint(b"\n"), b"\n");
    }
}

//! Converting bodies: <https://nginx.org/en/docs/http/ngx_http_charset_module.html#source_charset>

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::table::Table;
use crate::http::flow::Fault;
use crate::http::{Body, Chunk, Pieces, Source};

/// A conversion under way.
pub(super) struct Recode {
    table: Arc<Table>,
    /// The beginning of a character whose end has not come.
    begun: Vec<u8>,
}

impl Recode {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Self { table, begun: Vec::new() }
    }

    /// Converts a body.
    pub(super) fn body(mut self, body: Body) -> Body {
        match body {
            Body::Full(bytes) => Body::Full(self.convert(&bytes).into()),
            Body::File(_) | Body::Stream(_) => Body::Stream(Box::new(Recoded { recode: self, body: Pieces::new(body) })),
            body => body,
        }
    }

    fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        match &*self.table {
            Table::Bytes(table) => {
                out.extend(bytes.iter().map(|&b| table.get(usize::from(b)).copied().unwrap_or(b'?')));
            }
            Table::ToUtf8(table) => bytes.iter().for_each(|b| match table.get(b) {
                Some(character) => out.extend_from_slice(character),
                None => out.push(if b.is_ascii() { *b } else { b'?' }),
            }),
            Table::FromUtf8(table) => {
                let whole = std::mem::take(&mut self.begun);
                let whole = if whole.is_empty() { bytes.to_vec() } else { [&whole, bytes].concat() };
                for chunk in whole.utf8_chunks() {
                    chunk.valid().chars().for_each(|c| push(c, table, &mut out));
                    // What is cut short at the end may go on in the next piece.
                    match chunk.invalid() {
                        [] => {}
                        cut if whole.ends_with(cut) && may_go_on(cut) => self.begun = cut.to_vec(),
                        _ => out.push(b'?'),
                    }
                }
            }
        }
        out
    }
}

fn push(c: char, table: &std::collections::HashMap<u32, u8>, out: &mut Vec<u8>) {
    match (u8::try_from(c), table.get(&u32::from(c))) {
        (_, Some(&byte)) => out.push(byte),
        (Ok(byte), None) if byte.is_ascii() => out.push(byte),
        _ => out.extend_from_slice(format!("&#{};", u32::from(c)).as_bytes()),
    }
}

/// Whether these bytes begin a character.
fn may_go_on(cut: &[u8]) -> bool {
    std::str::from_utf8(cut).is_err_and(|error| error.error_len().is_none())
}

struct Recoded {
    recode: Recode,
    body: Pieces,
}

impl Source for Recoded {
    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        self.body.poll_ahead(cx, queued);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        loop {
            let bytes = match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(Chunk::Data(bytes))) => bytes,
                other => return Poll::Ready(other),
            };
            let converted = self.recode.convert(&bytes);
            if !converted.is_empty() {
                return Poll::Ready(Some(Ok(Chunk::Data(Bytes::from(converted)))));
            }
        }
    }

    fn trailers(&mut self) -> Option<crate::http::Headers> {
        self.body.trailers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_utf8_both_ways() {
        let to = Table::ToUtf8([(0xc1, "б".as_bytes().to_vec())].into());
        assert_eq!(Recode::new(Arc::new(to)).convert(b"a\xc1\xff"), "aб?".as_bytes());
        let from = Arc::new(Table::FromUtf8([(u32::from('б'), 0xc1)].into()));
        let mut recode = Recode::new(Arc::clone(&from));
        let mut got = Vec::new();
        for byte in "aбd€\u{1f600}".as_bytes() {
            got.extend(recode.convert(&[*byte]));
        }
        assert_eq!(got, b"a\xc1d&#8364;&#128512;");
        assert_eq!(Recode::new(from).convert(b"\xff\xd0"), b"?");
    }
}

//! `split_clients`: <https://nginx.org/en/docs/http/ngx_http_split_clients_module.html>

use std::sync::Arc;

use bytes::Bytes;
use parser::ast;

use super::Seal;
use crate::conf::args::text;
use crate::conf::names::VarId;
use crate::conf::{Args, Contexts, Diag, Directive, Field, Problem, block};
use crate::http::{Computed, Request, Value};

/// `ngx_http_split_clients_module`.
pub struct Module;

/// The `split_clients` blocks.
pub type Main = Vec<(VarId, Arc<Split>)>;

impl super::Module for Module {
    type Conf = ();
    type Main = Main;
    type Loc = ();

    const MAIN_DIRECTIVES: &'static [Directive<Main>] = &[block("split_clients", Contexts::HTTP, 2..=2, split_clients)];

    fn seal((): (), _: &Main, _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }

    fn computed(main: &Main) -> Vec<(VarId, Arc<dyn Computed>)> {
        main.iter().map(|(id, split)| (*id, Arc::clone(split) as Arc<dyn Computed>)).collect()
    }
}

/// One `split_clients`.
#[derive(Debug)]
pub struct Split {
    subject: Value,
    /// Each with the hash that lies just behind it; the last ones have none.
    parts: Vec<(Option<u32>, Bytes)>,
}

impl Computed for Split {
    fn compute(&self, request: &Request) -> Option<Bytes> {
        let hash = murmur(&self.subject.get(request));
        let part = self.parts.iter().find(|(end, _)| end.is_none_or(|end| hash < end));
        Some(part.map_or(Bytes::new(), |(_, value)| value.clone()))
    }
}

/// All, in hundredths of a percent.
const WHOLE: u32 = 10_000;

fn split_clients(main: &mut Main, args: &mut Args<'_>) -> Result<(), Problem> {
    let subject = Value::read(args.word(0), args)?;
    let id = args.define(1)?;
    let (mut parts, mut sum, mut end) = (Vec::new(), 0, 0u32);
    for row in args.rows() {
        let share = match share(row) {
            Ok(share) => share,
            Err(problem) => {
                args.fail(row, problem.arg, problem.sentence("split_clients"));
                continue;
            }
        };
        sum = share.map_or(WHOLE, |share| share.saturating_add(sum));
        if sum > WHOLE {
            args.fail_at_end("percent total is greater than 100%");
            break;
        }
        let value = row.args.first().map(|word| Bytes::copy_from_slice(&word.text)).unwrap_or_default();
        let bounded = share.filter(|_| sum < WHOLE).map(|share| {
            let size = u64::from(share) * u64::from(u32::MAX) / u64::from(WHOLE);
            end = end.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
            end
        });
        parts.push((bounded, value));
    }
    main.push((id, Arc::new(Split { subject, parts })));
    Ok(())
}

/// The share of a row in hundredths of a percent; none is what is left.
fn share(row: &ast::Directive) -> Result<Option<u32>, Problem> {
    if row.args.len() != 1 {
        return Err(Problem::new("invalid number of arguments in \"%DIRECTIVE%\" directive"));
    }
    let word = row.name.text.as_slice();
    if word == b"*" {
        return Ok(None);
    }
    let invalid = || Problem::new(format!("invalid percent value \"{}\"", text(word)));
    let number = word.strip_suffix(b"%").ok_or_else(invalid)?;
    hundredths(number).filter(|&share| share > 0).map(Some).ok_or_else(invalid)
}

/// A decimal number with at most two places behind its dot, times 100.
fn hundredths(text: &[u8]) -> Option<u32> {
    let (mut value, mut places) = (0u32, None);
    for &byte in text {
        match (byte, places) {
            (b'.', None) => places = Some(0),
            (b'0'..=b'9', None) => value = value.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?,
            (b'0'..=b'9', Some(count @ 0..2)) => {
                value = value.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
                places = Some(count + 1);
            }
            _ => return None,
        }
    }
    let scale = 10u32.pow(2 - places.unwrap_or_default());
    value.checked_mul(scale).filter(|_| !text.is_empty())
}

/// MurmurHash2 with seed 0: <https://github.com/aappleby/smhasher>.
fn murmur(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u32::from(byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents() {
        let table = [
            ("0.5", Some(50)),
            ("51.2", Some(5120)),
            ("100", Some(10_000)),
            (".05", Some(5)),
            ("1.234", None),
            ("", None),
            ("-1", None),
            ("1.2.3", None),
        ];
        for (text, want) in table {
            assert_eq!(hundredths(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn hashes() {
        let hashes = [&b""[..], b"/", b"abcd", b"127.0.0.1x"].map(murmur);
        assert_eq!(hashes, [0, 0xa78a_1f7b, 0x2687_3021, 0xe8fa_2eca]);
    }
}

//! Numbers, sizes and times as written in nginx's configuration: https://nginx.org/en/docs/syntax.html

/// The largest value nginx holds in a signed 64-bit integer; anything above is an error there and here.
const MAX: u64 = i64::MAX as u64;

const MS: u64 = 1000;
const MINUTE: u64 = 60 * MS;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A non-negative decimal number: digits only, at most `i64::MAX`.
pub fn number(text: &[u8]) -> Option<u64> {
    (!text.is_empty()).then(|| text.iter().try_fold(0, push_digit))?
}

/// A size in bytes: a number with an optional `k` or `m` in either case.
pub fn size(text: &[u8]) -> Option<u64> {
    match text.split_last()? {
        (b'k' | b'K', digits) => scaled(digits, 1 << 10),
        (b'm' | b'M', digits) => scaled(digits, 1 << 20),
        _ => number(text),
    }
}

/// An offset in bytes: a size that may also end in `g`.
pub fn offset(text: &[u8]) -> Option<u64> {
    match text.split_last()? {
        (b'g' | b'G', digits) => scaled(digits, 1 << 30),
        _ => size(text),
    }
}

/// A time in milliseconds; a number without a unit means seconds. Units from `w` down to `ms`.
pub fn msec(text: &[u8]) -> Option<u64> {
    time(text, Rank::Month, true)
}

/// A time in seconds; units from `y` down to `s`.
pub fn sec(text: &[u8]) -> Option<u64> {
    time(text, Rank::Start, false)
}

/// The place of a unit in a combined time such as `1h 30m`: each must rank above the one before it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Rank {
    Start,
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Milli,
    Space,
}

fn time(text: &[u8], start: Rank, millis: bool) -> Option<u64> {
    let (mut rest, mut rank, mut total, mut any_digit) = (text, start, 0u64, false);
    loop {
        let (digits, tail) = rest.split_at(rest.iter().take_while(|c| c.is_ascii_digit()).count());
        any_digit |= !digits.is_empty();
        let (next, scale, after) = if tail.is_empty() { (rank, MS, tail) } else { unit(tail, rank, millis)? };
        let value = digits.iter().try_fold(0, push_digit)?;
        let value = value.checked_mul(if millis { scale } else { scale / MS })?;
        total = total.checked_add(value).filter(|v| *v <= MAX)?;
        if tail.is_empty() {
            return any_digit.then_some(total);
        }
        rank = next;
        rest = after.iter().position(|c| *c != b' ').and_then(|n| after.get(n..)).unwrap_or_default();
    }
}

/// The rank, the milliseconds and the text after a unit that may follow `rank`.
fn unit(text: &[u8], rank: Rank, millis: bool) -> Option<(Rank, u64, &[u8])> {
    let (first, tail) = text.split_first()?;
    let (next, scale, tail) = match first {
        b'y' => (Rank::Year, 365 * DAY, tail),
        b'M' => (Rank::Month, 30 * DAY, tail),
        b'w' => (Rank::Week, 7 * DAY, tail),
        b'd' => (Rank::Day, DAY, tail),
        b'h' => (Rank::Hour, HOUR, tail),
        b'm' => match tail.strip_prefix(b"s") {
            Some(tail) => (Rank::Milli, u64::from(millis), tail),
            None => (Rank::Minute, MINUTE, tail),
        },
        b's' => (Rank::Second, MS, tail),
        b' ' if rank < Rank::Second => (Rank::Space, MS, tail),
        _ => return None,
    };
    (next > rank && scale > 0).then_some((next, scale, tail))
}

fn scaled(digits: &[u8], scale: u64) -> Option<u64> {
    number(digits)?.checked_mul(scale).filter(|v| *v <= MAX)
}

fn push_digit(value: u64, digit: &u8) -> Option<u64> {
    let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
    value.checked_mul(10)?.checked_add(digit).filter(|v| *v <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes() {
        let max = i64::MAX.to_string();
        for (text, want) in [("", None), ("0", Some(0)), ("007", Some(7)), ("-1", None), ("1 ", None), ("1x", None)] {
            assert_eq!(number(text.as_bytes()), want, "{text}");
        }
        assert_eq!(number(max.as_bytes()), Some(i64::MAX as u64));
        assert_eq!(number(b"9223372036854775808"), None);
        let table = [
            ("", None, None),
            ("k", None, None),
            ("1", Some(1), Some(1)),
            ("8k", Some(8192), Some(8192)),
            ("8K", Some(8192), Some(8192)),
            ("1m", Some(1 << 20), Some(1 << 20)),
            ("2G", None, Some(2 << 30)),
            ("1kk", None, None),
            ("1.5m", None, None),
            ("9007199254740991k", Some(9007199254740991 << 10), Some(9007199254740991 << 10)),
            ("9007199254740992k", None, None),
            ("8589934592g", None, None),
        ];
        for (text, a, b) in table {
            assert_eq!((size(text.as_bytes()), offset(text.as_bytes())), (a, b), "{text}");
        }
    }

    #[test]
    fn times() {
        // text, as milliseconds, as seconds
        let table = [
            ("", None, None),
            ("s", None, None),
            ("0", Some(0), Some(0)),
            ("10", Some(10_000), Some(10)),
            ("500ms", Some(500), None),
            ("1s500ms", Some(1500), None),
            ("1s 500", Some(501_000), Some(501)),
            ("1h30m", Some(5_400_000), Some(5400)),
            ("1h 30m", Some(5_400_000), Some(5400)),
            ("30m1h", None, None),
            ("1m1m", None, None),
            ("1y", None, Some(31_536_000)),
            ("1M", None, Some(2_592_000)),
            ("1y1M", None, Some(34_128_000)),
            ("1w1d", Some(691_200_000), Some(691_200)),
            ("1hm", Some(3_600_000), Some(3600)),
            ("1 2", Some(3000), Some(3)),
            ("1 2s", None, None),
            ("1s2 ", None, None),
            ("1s ", Some(1000), Some(1)),
            ("1H", None, None),
            ("1\t", None, None),
            ("-1", None, None),
            ("9223372036854775807", None, Some(i64::MAX as u64)),
            ("9223372036854775808s", None, None),
            ("9223372036854775807s1", None, None),
        ];
        for (text, a, b) in table {
            assert_eq!((msec(text.as_bytes()), sec(text.as_bytes())), (a, b), "{text:?}");
        }
    }
}

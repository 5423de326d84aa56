//! What is wrong with a message from a name server (RFC 1035 §4.1), in the words of nginx's error log.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#resolver>

use super::Query;

const HEADER: usize = 12;
const SHORT: &str = "short DNS response";
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const DNAME: u16 = 39;

/// Why `bytes` are of no use as an answer to `query`, if they are not; with it, notes on records that do not belong there.
pub(super) fn find(query: &Query<'_>, bytes: &[u8], tcp: bool, note: &mut dyn FnMut(String)) -> Option<String> {
    check(query, bytes, tcp, note).err()
}

fn check(query: &Query<'_>, bytes: &[u8], tcp: bool, note: &mut dyn FnMut(String)) -> Result<(), String> {
    let short = || SHORT.to_owned();
    let word = |at| word(bytes, at).ok_or_else(short);
    if bytes.len() < HEADER {
        return Err(short());
    }
    let (id, flags, questions, answers) = (word(0)?, word(2)?, word(4)?, word(6)?);
    let truncated = flags & 0x0200 != 0;
    if flags & 0xf870 != 0x8000 || (truncated && tcp) {
        let transport = if tcp { "TCP" } else { "UDP" };
        return Err(format!("invalid {transport} DNS response {id} fl:{flags:04X}"));
    }
    match flags & 0xf {
        1 if id == query.id => {
            return Err(format!("DNS error (1: Format error), query id:{id}, name:\"{}\"", query.name));
        }
        1 => return Err(format!("DNS error (1: Format error), query id:{id}")),
        code @ 6.. => return Err(format!("DNS error ({code}: Unknown error), query id:{id}")),
        _ => {}
    }
    if questions != 1 {
        return Err("invalid number of questions in DNS response".to_owned());
    }
    let (name, at) = question(bytes)?;
    if at + 4 + usize::from(answers) * 12 > bytes.len() {
        return Err(short());
    }
    let (kind, class) = (word(at)?, word(at + 2)?);
    if class != 1 {
        return Err(format!("unknown query class {class} in DNS response"));
    }
    if !matches!(kind, A | AAAA | SRV) {
        return Err(format!("unknown query type {kind} in DNS response"));
    }
    if kind != u16::from(query.kind) || !name.eq_ignore_ascii_case(query.name) {
        return Err(format!("unexpected DNS response for {name}"));
    }
    if id != query.id {
        return Err(format!("wrong ident {id} in DNS response for {name}, expect {}", query.id));
    }
    if flags & 0xf != 0 || truncated {
        return Ok(());
    }
    records(kind, bytes, at + 4, answers, note)
}

/// The name that was asked for, and where it ends.
fn question(bytes: &[u8]) -> Result<(String, usize), String> {
    let (mut name, mut at) = (String::new(), HEADER);
    loop {
        match bytes.get(at) {
            None => return Err(SHORT.to_owned()),
            Some(0) if at == HEADER => return Err("zero-length domain name in DNS response".to_owned()),
            Some(0) => return Ok((name, at + 1)),
            Some(mark) if mark & 0xc0 != 0 => {
                return Err("unexpected compression pointer in DNS response".to_owned());
            }
            Some(&length) => {
                let end = at + 1 + usize::from(length);
                let label = bytes.get(at + 1..end).ok_or(SHORT)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                at = end;
            }
        }
    }
}

fn records(kind: u16, bytes: &[u8], mut at: usize, count: u16, note: &mut dyn FnMut(String)) -> Result<(), String> {
    for _ in 0..count {
        at = owner(bytes, at)?;
        let (found, class, length) = match (word(bytes, at), word(bytes, at + 2), word(bytes, at + 8)) {
            (Some(found), Some(class), Some(length)) if at + 10 < bytes.len() => (found, class, usize::from(length)),
            _ => return Err(SHORT.to_owned()),
        };
        if class != 1 {
            return Err(format!("unexpected RR class {class} in DNS response"));
        }
        let (name, wanted) = match found {
            A if kind != SRV => ("A", 4),
            AAAA if kind != SRV => ("AAAA", 16),
            SRV if kind == SRV => ("SRV", 7),
            CNAME | DNAME => ("", 0),
            _ => {
                note(format!("unexpected RR type {found} in DNS response"));
                ("", 0)
            }
        };
        if wanted > 0 && found != kind {
            return Err(format!("unexpected {name} record in DNS response"));
        }
        if wanted > 0 && (length < wanted || (length != wanted && found != SRV)) {
            return Err(format!("invalid {name} record in DNS response"));
        }
        at += 10 + length;
        if wanted > 0 && at > bytes.len() {
            return Err(SHORT.to_owned());
        }
    }
    Ok(())
}

/// Where the name that a record begins with ends.
fn owner(bytes: &[u8], start: usize) -> Result<usize, String> {
    let mut at = start;
    loop {
        match bytes.get(at) {
            None => return Err(SHORT.to_owned()),
            Some(mark) if mark & 0xc0 != 0 => return Ok(at + 2),
            Some(0) if at == start => return Err("invalid name in DNS response".to_owned()),
            Some(0) => return Ok(at + 1),
            Some(&length) => at += 1 + usize::from(length),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use simple_dns::TYPE;

    use super::*;

    #[test]
    fn says_what_nginx_says() {
        let query = Query::new("a.test", TYPE::A).unwrap();
        let id = query.id.to_be_bytes();
        let message = |flags: u16, answers: u16, tail: &[u8]| {
            let counts = [0, 1, 0, u8::try_from(answers).unwrap(), 0, 0, 0, 0];
            [&id[..], &flags.to_be_bytes(), &counts, b"\x01a\x04test\0\0\x01\0\x01", tail].concat()
        };
        let record =
            |kind: u8, class: u8, length: u8| [0xc0, 12, 0, kind, 0, class, 0, 0, 0, 9, 0, length, 127, 0, 0, 1];
        let table: [(Vec<u8>, &str); 9] = [
            (b"abc".to_vec(), "short DNS response"),
            (message(0x0100, 0, b""), "invalid UDP DNS response ID fl:0100"),
            (message(0x8181, 0, b""), "DNS error (1: Format error), query id:ID, name:\"a.test\""),
            (message(0x8189, 0, b""), "DNS error (9: Unknown error), query id:ID"),
            (message(0x8180, 1, b""), "short DNS response"),
            (message(0x8180, 1, &record(1, 3, 4)), "unexpected RR class 3 in DNS response"),
            (message(0x8180, 1, &record(1, 1, 5)), "invalid A record in DNS response"),
            (message(0x8180, 1, &record(28, 1, 4)), "unexpected AAAA record in DNS response"),
            (message(0x8182, 0, b""), ""),
        ];
        for (bytes, want) in table {
            let want = want.replace("ID", &query.id.to_string());
            assert_eq!(find(&query, &bytes, false, &mut |_| {}).unwrap_or_default(), want);
        }
        let mut notes = Vec::new();
        let text = message(0x8180, 1, &record(16, 1, 4));
        assert_eq!(find(&query, &text, false, &mut |text| notes.push(text)), None);
        assert_eq!(notes, ["unexpected RR type 16 in DNS response"]);
    }

    #[test]
    fn whatever_comes_is_looked_at_to_its_end() {
        let query = Query::new("a.test", TYPE::AAAA).unwrap();
        let mut whole = [&query.id.to_be_bytes()[..], &[0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]].concat();
        whole.extend_from_slice(b"\x01a\x04test\0\0\x1c\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x02\xc0\x0c");
        whole.extend_from_slice(b"\xc0\x0c\0\x1c\0\x01\0\0\0\x09\0\x10abcdefghijklmnop");
        assert_eq!(find(&query, &whole, true, &mut |_| {}), None);
        for length in 0..whole.len() {
            find(&query, &whole[..length], true, &mut |_| {});
            let mut changed = whole.clone();
            for byte in [0, 0x3f, 0xff] {
                changed[length] = byte;
                find(&query, &changed, false, &mut |_| {});
            }
        }
    }
}

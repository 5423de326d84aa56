//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>), as
//! `listen … proxy_protocol` reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Buf, Bytes};

/// What a header says of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Who connected: the address as it came or, in version 2, as text.
    pub source: Bytes,
    /// The port of that.
    pub source_port: u16,
    /// Where to.
    pub destination: Bytes,
    /// The port of that.
    pub destination_port: u16,
    tlvs: Bytes,
}

/// A header without addresses (`UNKNOWN`, `LOCAL`) is there and says nothing.
pub type Found = Option<Header>;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1.
const LONGEST: usize = 107;
/// Bytes of a TLV's type and length, and of what stands before the TLVs inside the one of TLS.
const TLV: usize = 3;
const TLS: usize = 5;
const TLS_TYPE: u64 = 0x20;

/// Reads a header from the start of `buf` and says how long it is; nothing while it is not whole. The error is nginx's
/// sentence.
pub fn read(buf: &[u8]) -> Result<Option<(Found, usize)>, String> {
    let known = buf.len().min(SIGNATURE.len());
    if !buf.is_empty() && buf.get(..known) == SIGNATURE.get(..known) {
        return version_2(buf);
    }
    let Some(end) = buf.iter().take(LONGEST).position(|&b| b == b'\n') else {
        let known = buf.len().min(6);
        let may_be = buf.len() < LONGEST && buf.get(..known) == b"PROXY ".get(..known);
        return if may_be { Ok(None) } else { Err(broken(buf)) };
    };
    let line = buf.get(..end).unwrap_or_default();
    let found = line.strip_suffix(b"\r").and_then(|line| version_1(line.strip_prefix(b"PROXY ")?));
    found.map(|found| Some((found, end + 1))).ok_or_else(|| broken(buf))
}

fn broken(buf: &[u8]) -> String {
    let line = buf.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    format!("broken header: \"{}\"", String::from_utf8_lossy(line))
}

/// What stands behind `PROXY `.
fn version_1(line: &[u8]) -> Option<Found> {
    if line.starts_with(b"UNKNOWN") {
        return Some(None);
    }
    let mut words = line.strip_prefix(b"TCP4 ").or_else(|| line.strip_prefix(b"TCP6 "))?.split(|&b| b == b' ');
    let is_address = |word: &&[u8]| word.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'));
    let mut address = || words.next().filter(is_address).map(Bytes::copy_from_slice);
    let (source, destination) = (address()?, address()?);
    let mut port = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    let (source_port, destination_port) = (port()?, port()?);
    let header = Header { source, source_port, destination, destination_port, tlvs: Bytes::new() };
    words.next().is_none().then_some(Some(header))
}

fn version_2(buf: &[u8]) -> Result<Option<(Found, usize)>, String> {
    let Some((fixed, mut rest)) = buf.split_at_checked(SIGNATURE.len() + 4) else { return Ok(None) };
    let &[command, family, high, low] = fixed.last_chunk::<4>().unwrap_or(&[0; 4]);
    if command >> 4 != 2 {
        return Err(format!("unknown PROXY protocol version: {}", command >> 4));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = fixed.len() + length;
    rest = match rest.get(..length) {
        Some(rest) => rest,
        None => return Ok(None),
    };
    // Only PROXY commands of stream connections carry addresses we know.
    let found = match (command & 0xf, family) {
        (1, 0x11) => addresses(rest, |rest| Ipv4Addr::from_bits(rest.get_u32()).into(), 4),
        (1, 0x21) => addresses(rest, |rest| Ipv6Addr::from_bits(rest.get_u128()).into(), 16),
        _ => return Ok(Some((None, end))),
    };
    found.map(|header| Some((Some(header), end))).ok_or_else(|| broken(buf))
}

fn addresses(mut rest: &[u8], next: fn(&mut &[u8]) -> IpAddr, size: usize) -> Option<Header> {
    if rest.len() < 2 * size + 4 {
        return None;
    }
    let (source, destination) = (next(&mut rest).to_string().into(), next(&mut rest).to_string().into());
    let (source_port, destination_port) = (rest.get_u16(), rest.get_u16());
    Some(Header { source, source_port, destination, destination_port, tlvs: Bytes::copy_from_slice(rest) })
}

impl Header {
    /// The TLV that `$proxy_protocol_tlv_NAME` means, where it came. The error is nginx's sentence.
    pub fn tlv(&self, name: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(inner) = name.strip_prefix(b"ssl_") else {
            let names: &[(&[u8], u64)] =
                &[(b"alpn", 1), (b"authority", 2), (b"unique_id", 5), (b"ssl", TLS_TYPE), (b"netns", 0x30)];
            return Ok(lookup(&self.tlvs, number(name, names, name)?)?.map(<[u8]>::to_vec));
        };
        let Some(tls) = lookup(&self.tlvs, TLS_TYPE)? else { return Ok(None) };
        let Some((fixed, tlvs)) = tls.split_at_checked(TLS) else { return Ok(None) };
        if inner == b"verify" {
            let verify = fixed.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            return Ok(Some(verify.to_string().into_bytes()));
        }
        let names: &[(&[u8], u64)] =
            &[(b"version", 0x21), (b"cn", 0x22), (b"cipher", 0x23), (b"sig_alg", 0x24), (b"key_alg", 0x25)];
        Ok(lookup(tlvs, number(inner, names, name)?)?.map(<[u8]>::to_vec))
    }
}

/// The type that a name or `0x…` stands for; `whole` is for the message.
fn number(name: &[u8], names: &[(&[u8], u64)], whole: &[u8]) -> Result<u64, String> {
    let shown = String::from_utf8_lossy(whole);
    if let Some(digits) = name.strip_prefix(b"0x") {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        return u64::from_str_radix(digits, 16).map_err(|_| format!("invalid PROXY protocol TLV \"{shown}\""));
    }
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number).ok_or_else(|| format!("unknown PROXY protocol TLV \"{shown}\""))
}

fn lookup(mut tlvs: &[u8], wanted: u64) -> Result<Option<&[u8]>, String> {
    while !tlvs.is_empty() {
        let parts = tlvs.split_at_checked(TLV).and_then(|(head, rest)| {
            let &[kind, high, low] = head.first_chunk::<TLV>()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            Some((kind, value, rest))
        });
        let (kind, value, rest) = parts.ok_or("broken PROXY protocol TLV")?;
        if u64::from(kind) == wanted {
            return Ok(Some(value));
        }
        tlvs = rest;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines() {
        let (found, end) = read(b"PROXY TCP4 192.0.2.1 192.0.2.2 123 80\r\nGET").unwrap().unwrap();
        let header = found.unwrap();
        assert_eq!((&header.source[..], header.source_port, end), (&b"192.0.2.1"[..], 123, 39));
        assert_eq!((&header.destination[..], header.destination_port), (&b"192.0.2.2"[..], 80));
        assert_eq!(read(b"PROXY UNKNOWN 1 2\r\n"), Ok(Some((None, 19))));
        assert_eq!(read(b"PROXY TCP6 ::1 ::1 1"), Ok(None));
        assert_eq!(read(b""), Ok(None));
        for bad in
            ["GET / HTTP/1.0\r\n", "PROXY TCP5 1 2 3 4\r\n", "PROXY TCP4 a.b.c.d x 1 2\r\n", "PROXY TCP4 1 2 3\n"]
        {
            let line = bad.split(['\r', '\n']).next().unwrap();
            assert_eq!(read(bad.as_bytes()), Err(format!("broken header: \"{line}\"")));
        }
    }

    #[test]
    fn reads_version_2() {
        let head = |command: u8, family: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            [SIGNATURE, &[command, family], &length, body].concat()
        };
        let body = [
            &[192, 0, 2, 1, 192, 0, 2, 2, 0, 123, 22, 46][..],
            b"\x01\x00\x02h2\x20\x00\x08\x01\0\0\0\x07\x22\x00\x00",
        ]
        .concat();
        let bytes = head(0x21, 0x11, &body);
        let (found, end) = read(&bytes).unwrap().unwrap();
        let header = found.unwrap();
        assert_eq!((&header.source[..], header.destination_port, end), (&b"192.0.2.1"[..], 5678, bytes.len()));
        assert_eq!(header.tlv(b"alpn"), Ok(Some(b"h2".to_vec())));
        assert_eq!(header.tlv(b"ssl_verify"), Ok(Some(b"7".to_vec())));
        assert_eq!(header.tlv(b"ssl_0x22"), Ok(Some(Vec::new())));
        assert_eq!(header.tlv(b"0x0001"), Ok(Some(b"h2".to_vec())));
        assert_eq!(header.tlv(b"netns"), Ok(None));
        assert!(header.tlv(b"0xzz").is_err() && header.tlv(b"other").is_err());
        assert_eq!(read(&head(0x20, 0x00, b"")), Ok(Some((None, 16))));
        assert_eq!(read(&bytes[..20]), Ok(None));
        assert!(read(&head(0x31, 0x11, b"")).is_err() && read(&head(0x21, 0x11, b"1")).is_err());
    }
}

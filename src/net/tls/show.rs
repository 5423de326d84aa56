//! Certificates as OpenSSL prints them: PEM, names (RFC 2253), serial numbers, fingerprints, times.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use x509_parser::prelude::*;

/// Whose name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The certificate's own.
    Subject,
    /// That of its authority.
    Issuer,
}

/// The certificate as PEM, without the last line feed.
pub fn pem(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----"
}

/// A name; the old form has slashes and the order of the certificate.
pub fn name(der: &[u8], who: Who, legacy: bool) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let name = if who == Who::Subject { cert.subject() } else { cert.issuer() };
    let mut parts: Vec<String> = name
        .iter()
        .map(|rdn| {
            rdn.iter().map(|one| attribute(one, legacy)).collect::<Vec<_>>().join(if legacy { "/" } else { "+" })
        })
        .collect();
    if legacy {
        return Some(parts.iter().map(|part| format!("/{part}")).collect());
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(one: &AttributeTypeAndValue<'_>, legacy: bool) -> String {
    let oid = one.attr_type().to_id_string();
    let short = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "2.5.4.46" => "dnQualifier",
        "2.5.4.65" => "pseudonym",
        "2.5.4.97" => "organizationIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    };
    let text = one.as_str().map_or_else(|_| String::from_utf8_lossy(one.attr_value().data).into_owned(), str::to_owned);
    format!("{short}={}", if legacy { oneline(&text) } else { escaped(&text) })
}

/// Escapes as RFC 2253 has it; bytes that are no ASCII are written as hexadecimal numbers.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let edge = (at == 0 && matches!(byte, b' ' | b'#')) || (at == last && byte == b' ');
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(byte)]),
            _ if edge => out.extend(['\\', char::from(byte)]),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

fn oneline(text: &str) -> String {
    let one =
        |byte: u8| if (0x20..=0x7e).contains(&byte) { char::from(byte).to_string() } else { format!("\\x{byte:02X}") };
    text.bytes().map(one).collect()
}

/// The serial number in capital hexadecimal digits.
pub fn serial(der: &[u8]) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let bytes = cert.raw_serial();
    let bytes = match bytes.split_first() {
        Some((0, rest)) if !rest.is_empty() => rest,
        _ => bytes,
    };
    Some(HEXUPPER.encode(bytes))
}

/// The SHA-1 of the certificate.
pub fn fingerprint(der: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
}

/// From when to when it is valid, and how many whole days are left.
pub fn validity(der: &[u8]) -> Option<(String, String, u64)> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let validity = cert.validity();
    let end = validity.not_after.timestamp();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let left = u64::try_from(end).unwrap_or(0).saturating_sub(now) / 86400;
    Some((time(validity.not_before.timestamp())?, time(end)?, left))
}

/// `Feb  3 00:55:52 2015 GMT`.
fn time(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%b %e %H:%M:%S %Y GMT").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a,b é#"), "a\\,b \\C3\\A9#");
        assert_eq!(escaped("#a "), "\\#a\\ ");
        assert_eq!(time(1_422_924_952).as_deref(), Some("Feb  3 00:55:52 2015 GMT"));
    }
}

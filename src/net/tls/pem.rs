//! PEM files (RFC 7468), with OpenSSL's trusted certificates among them.

use data_encoding::BASE64;

/// One block of a PEM file.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// What it says it holds: `CERTIFICATE`.
    pub label: String,
    /// Header lines, which only encrypted keys of the old form have.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub der: Vec<u8>,
}

/// The blocks of a file; what stands between them is read over. The error is OpenSSL's reason.
pub fn blocks(text: &[u8]) -> Result<Vec<Block>, Bad> {
    let mut found = Vec::new();
    let mut open: Option<(String, Vec<(String, String)>, Vec<u8>)> = None;
    for line in text.split(|&b| b == b'\n') {
        let line = line.trim_ascii_end();
        if let Some(label) = dashes(line, b"-----BEGIN ") {
            open = Some((label, Vec::new(), Vec::new()));
        } else if let Some(label) = dashes(line, b"-----END ") {
            let Some((begun, headers, body)) = open.take() else { continue };
            if begun != label {
                return Err(Bad::EndLine);
            }
            let der = BASE64.decode(&body).map_err(|_| Bad::Base64)?;
            found.push(Block { label, headers, der });
        } else if let Some((_, headers, body)) = &mut open {
            match line.iter().position(|&b| b == b':') {
                Some(at) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
                    headers
                        .push((text(line.get(..at).unwrap_or_default()), text(line.get(at + 1..).unwrap_or_default())));
                }
                None => body.extend(line.iter().filter(|b| !b.is_ascii_whitespace())),
            }
        }
    }
    if open.is_some() { Err(Bad::EndLine) } else { Ok(found) }
}

/// Why a file is no PEM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// A block does not end as it began.
    EndLine,
    /// Its body is not base64.
    Base64,
}

fn dashes(line: &[u8], before: &[u8]) -> Option<String> {
    let label = line.strip_prefix(before)?.strip_suffix(b"-----")?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// The length of the first DER element of `der` with its header; OpenSSL puts trust settings behind a certificate.
pub fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0usize, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(len)?;
    Some((tag, body, rest))
}

/// The first element of `der` whole, and what follows it.
pub fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, _, rest) = element(der)?;
    der.split_at_checked(der.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_what_is_between() {
        let text = b"noise\n-----BEGIN A-----\nAQI=\n-----END A-----\r\n\n-----BEGIN B-----\nProc-Type: 4,ENCRYPTED\n\nAw==\n-----END B-----";
        let found = blocks(text).unwrap();
        assert_eq!(found[0].der, [1, 2]);
        assert_eq!(found[1].headers, [("Proc-Type".to_owned(), "4,ENCRYPTED".to_owned())]);
        assert_eq!(blocks(b"-----BEGIN A-----\nAQI=\n"), Err(Bad::EndLine));
        assert_eq!(blocks(b"-----BEGIN A-----\n?\n-----END A-----"), Err(Bad::Base64));
        assert_eq!(blocks(b""), Ok(Vec::new()));
    }

    #[test]
    fn elements() {
        assert_eq!(element(&[0x30, 1, 7, 9]), Some((0x30, &[7][..], &[9][..])));
        assert_eq!(element(&[0x30, 0x81, 1, 7]), Some((0x30, &[7][..], &[][..])));
        assert_eq!(element(&[0x30, 2, 7]), None);
        assert_eq!(split(&[2, 1, 7, 9]), Some((&[2, 1, 7][..], &[9][..])));
    }
}

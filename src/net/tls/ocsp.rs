//! Whether an authority still stands by a certificate (RFC 6960): questions, answers, and how they travel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::BytesMut;
use data_encoding::BASE64;
use tokio::net::TcpStream;
use x509_parser::prelude::*;

use super::pem;
use super::trust::{Signed, signed_by};
use crate::net::Stream;

/// How long a responder may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes an answer may have.
const LARGEST: usize = 64 << 10;
/// Seconds by which clocks may differ.
const SLACK: i64 = 300;
/// `id-kp-OCSPSigning` in DER.
const OCSP_SIGNING: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 9];

/// A question about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What tells the certificate from all others.
    pub id: Vec<u8>,
    issuer: Vec<u8>,
}

/// What an authority says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It stands by the certificate.
    Good,
    /// It does not any more.
    Revoked,
    /// It does not know it.
    Unknown,
}

impl Status {
    /// OpenSSL's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Good => "good",
            Status::Revoked => "revoked",
            Status::Unknown => "unknown",
        }
    }
}

/// An answer: the status, and the second until which it holds, if it says.
pub type Answer = (Status, Option<i64>);

impl Question {
    /// About `cert`, which `issuer` signed.
    pub fn about(cert: &[u8], issuer: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(cert).ok()?;
        let (_, parsed) = X509Certificate::from_der(issuer).ok()?;
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let algorithm = element(0x30, &[&[0x06, 5, 0x2b, 14, 3, 2, 26], &[0x05, 0]]);
        let name = element(0x04, &[&sha1(cert.issuer().as_raw())]);
        let key = element(0x04, &[&sha1(&parsed.public_key().subject_public_key.data)]);
        let serial = element(0x02, &[cert.raw_serial()]);
        Some(Self { id: element(0x30, &[&algorithm, &name, &key, &serial]), issuer: issuer.to_vec() })
    }

    /// As it is sent.
    fn encode(&self) -> Vec<u8> {
        let request = element(0x30, &[&self.id]);
        let list = element(0x30, &[&request]);
        let tbs = element(0x30, &[&list]);
        element(0x30, &[&tbs])
    }

    /// Reads an answer. Unless it is `lax`, who signed it must be the issuer, or speak for it.
    pub fn read(&self, response: &[u8], lax: bool) -> Result<Answer, String> {
        let invalid = || "d2i_OCSP_RESPONSE() failed".to_owned();
        let (_, body, _) = pem::element(response).ok_or_else(invalid)?;
        let (_, status, rest) = pem::element(body).ok_or_else(invalid)?;
        if status != [0] {
            let code = status.first().copied().unwrap_or_default();
            return Err(format!("OCSP response not successful ({code})"));
        }
        let basic = basic(rest).ok_or_else(invalid)?;
        let signed = Signed::of(basic).ok_or_else(invalid)?;
        if !self.trusts(basic, &signed, lax) {
            return Err("OCSP_basic_verify() failed".to_owned());
        }
        let (_, data, _) = pem::element(signed.tbs).ok_or_else(invalid)?;
        let single = singles(data).find(|single| pem::split(single).is_some_and(|(id, _)| id == self.id));
        let single = single.ok_or_else(|| "certificate status not found in the OCSP response".to_owned())?;
        timely(single).ok_or_else(|| "OCSP_check_validity() failed".to_owned())
    }

    /// Whether the issuer or somebody it allows to made the signature.
    fn trusts(&self, basic: &[u8], signed: &Signed<'_>, lax: bool) -> bool {
        if signed_by(&self.issuer, signed) {
            return true;
        }
        let mut speakers = certificates(basic).filter(|cert| signed_by(cert, signed));
        speakers.any(|cert| {
            let allowed = || cert.windows(OCSP_SIGNING.len()).any(|part| part == OCSP_SIGNING);
            lax || (allowed() && Signed::of(cert).is_some_and(|own| signed_by(&self.issuer, &own)))
        })
    }

    /// Asks the responder at `url`, whose address is `at`. The error is nginx's sentence.
    pub async fn ask(&self, url: &Responder, at: SocketAddr) -> Result<Vec<u8>, String> {
        let io = |error: std::io::Error| format!("connect() failed ({})", error_text(&error));
        let stream = Stream::from(TcpStream::connect(at).await.map_err(io)?);
        let slash = if url.path.ends_with('/') { "" } else { "/" };
        let question: String = BASE64.encode(&self.encode()).chars().map(escaped).collect();
        let head = format!("GET {}{slash}{question} HTTP/1.0\r\nHost: {}\r\n\r\n", url.path, url.host);
        stream.write_all(head.as_bytes()).await.map_err(io)?;
        let mut buf = BytesMut::with_capacity(4096);
        while buf.len() < LARGEST {
            crate::net::stream::make_room(&mut buf, 4096);
            if stream.read(&mut buf, 4096).await.map_err(io)? == 0 {
                break;
            }
        }
        let (head, body) = split_head(&buf).ok_or("OCSP responder prematurely closed connection")?;
        let status = head.split(|&b| b == b' ').nth(1).unwrap_or_default();
        if status != b"200" {
            return Err("OCSP responder sent invalid response".to_owned());
        }
        Ok(body.to_vec())
    }
}

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responder {
    /// Host and port as the URL has them.
    pub host: String,
    /// The host alone.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The path.
    pub path: String,
}

impl Responder {
    /// Reads a URL; nothing where it is not HTTP's.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && !port.ends_with(']') => (name, port.parse().ok()?),
            _ => (host, 80),
        };
        (!name.is_empty()).then(|| Self { host: host.to_owned(), name: name.to_owned(), port, path: path.to_owned() })
    }

    /// The one a certificate names.
    pub fn of(cert: &[u8]) -> Option<String> {
        let (_, cert) = X509Certificate::from_der(cert).ok()?;
        cert.extensions().iter().find_map(|extension| {
            let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { return None };
            access.accessdescs.iter().find_map(|one| match &one.access_location {
                GeneralName::URI(uri) if one.access_method.to_id_string() == "1.3.6.1.5.5.7.48.1" => {
                    Some((*uri).to_owned())
                }
                _ => None,
            })
        })
    }
}

fn error_text(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| format!("{code}: {}", nix::errno::Errno::from_raw(code).desc()))
}

fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() { c.to_string() } else { format!("%{:02X}", u32::from(c)) }
}

fn split_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let crlf = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| (at, 4));
    let lf = memchr::memmem::find(bytes, b"\n\n").map(|at| (at, 2));
    let (at, skip) = crlf.into_iter().chain(lf).min()?;
    Some((bytes.get(..at)?, bytes.get(at + skip..)?))
}

/// A DER element of these parts.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        Ok(byte) => out.extend([0x81, byte]),
        Err(_) => {
            out.push(0x82);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// The signed structure inside a response.
fn basic(rest: &[u8]) -> Option<&[u8]> {
    let (_, explicit, _) = pem::element(rest)?;
    let (_, bytes, _) = pem::element(explicit)?;
    let (_, _, octets) = pem::element(bytes)?;
    Some(pem::element(octets)?.1)
}

/// The elements inside `body`, one after the other, each whole.
fn elements(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (one, rest) = pem::split(body)?;
        body = rest;
        Some(one)
    })
}

/// The answers about single certificates.
fn singles(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Version, responder and time stand in front of them; extensions behind.
    let list = elements(data).find(|one| one.first() == Some(&0x30));
    let list = list.and_then(pem::element).map_or(&[][..], |(_, list, _)| list);
    elements(list).filter_map(|single| Some(pem::element(single)?.1))
}

/// The certificates a response brings.
fn certificates(basic: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inside = pem::element(basic).map_or(&[][..], |(_, inside, _)| inside);
    let explicit = elements(inside).find(|one| one.first() == Some(&0xa0));
    let list = explicit.and_then(|one| pem::element(pem::element(one)?.1)).map_or(&[][..], |(_, list, _)| list);
    elements(list)
}

/// The status, if the answer is of now.
fn timely(single: &[u8]) -> Option<Answer> {
    let mut parts = elements(single).skip(1);
    let status = match parts.next()?.first()? & 0x1f {
        0 => Status::Good,
        1 => Status::Revoked,
        _ => Status::Unknown,
    };
    let this = seconds(parts.next()?)?;
    let next = parts.next().filter(|part| part.first() == Some(&0xa0));
    let next = match next {
        Some(part) => Some(seconds(pem::element(part)?.1)?),
        None => None,
    };
    let now = now();
    let ok = this <= now + SLACK && next.is_none_or(|next| next >= now - SLACK);
    ok.then_some((status, next))
}

/// Answers that are remembered.
#[derive(Debug, Default)]
pub struct Answers(Mutex<HashMap<Vec<u8>, (Status, i64)>>);

/// Answers that are remembered at most.
const ROOM: usize = 4096;

impl Answers {
    /// The status of a certificate, if it is known.
    pub fn get(&self, id: &[u8]) -> Option<Status> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(id).filter(|(_, until)| *until > now()).map(|(status, _)| *status)
    }

    /// Remembers a status until that second.
    pub fn put(&self, id: Vec<u8>, status: Status, until: i64) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ROOM {
            let now = now();
            answers.retain(|_, (_, until)| *until > now);
        }
        if answers.len() < ROOM {
            answers.insert(id, (status, until));
        }
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

fn seconds(time: &[u8]) -> Option<i64> {
    ASN1Time::from_der(time).ok().map(|(_, time)| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_responders() {
        let read = |url| Responder::parse(url).map(|url| (url.name, url.port, url.path));
        assert_eq!(read("http://a.b:81/x"), Some(("a.b".to_owned(), 81, "/x".to_owned())));
        assert_eq!(read("http://a.b"), Some(("a.b".to_owned(), 80, "/".to_owned())));
        assert_eq!((read("https://a"), read("http:///x")), (None, None));
    }

    #[test]
    fn malformed_answers_are_refused() {
        let question = Question { id: Vec::new(), issuer: Vec::new() };
        assert!(question.read(b"", false).is_err());
        assert!(question.read(&[0x30, 3, 10, 1, 6], false).is_err_and(|text| text.contains("(6)")));
        assert!(question.read(&[0x30, 3, 10, 1, 0], true).is_err());
    }
}

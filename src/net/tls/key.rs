//! Certificates and keys from files, with OpenSSL's words for what is wrong with them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::*;

use super::legacy;
use super::pem::{self, Bad, Block};

const NO_KEY: &str = "error:1E08010C:DECODER routines::unsupported:No supported data to decode. Input type: PEM";
const BAD_DECRYPT: &str = "error:1C800064:Provider routines::bad decrypt \
     error:11800074:PKCS12 routines::pkcs12 cipherfinal error:maybe wrong password";

const BAD_OLD_DECRYPT: &str = "error:1C800064:Provider routines::bad decrypt error:04800065:PEM routines::bad decrypt";

/// A certificate with its chain, and its key.
pub type Identity = Arc<CertifiedKey>;

/// OpenSSL's tail for a file that does not open.
pub fn not_opened(path: &Path, error: &io::Error, mode: &str) -> String {
    let path = path.display();
    let code = error.raw_os_error().unwrap_or(0);
    let text = nix::errno::Errno::from_raw(code).desc();
    let bio = match nix::errno::Errno::from_raw(code) {
        // A socket is no file either.
        nix::errno::Errno::ENOENT | nix::errno::Errno::ENXIO => "error:10000080:BIO routines::no such file",
        _ => "error:10080002:BIO routines::system lib",
    };
    format!(
        "(SSL: error:{:08X}:system library::{text}:calling fopen({path}, {mode}) {bio})",
        0x8000_0000_u32 | code.unsigned_abs()
    )
}

fn reason(bad: Bad) -> &'static str {
    match bad {
        Bad::EndLine => "error:04800066:PEM routines::bad end line",
        Bad::Base64 => "error:04800064:PEM routines::bad base64 decode",
    }
}

/// The certificates of a file, at least one. The error is what stands behind the file's name.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |reason: &str| format!("PEM_read_bio_X509_AUX() failed (SSL: {reason})");
    let blocks = pem::blocks(text).map_err(|bad| failed(reason(bad)))?;
    let mut found = Vec::new();
    for block in blocks {
        let der = match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => block.der,
            // OpenSSL's own form goes on with settings of trust.
            "TRUSTED CERTIFICATE" => pem::split(&block.der).map(|(own, _)| own.to_vec()).unwrap_or_default(),
            _ => continue,
        };
        if X509Certificate::from_der(&der).is_err() {
            return Err(failed(
                "error:068000A8:asn1 encoding routines::wrong tag \
                 error:0688010A:asn1 encoding routines::nested asn1 error:Type=X509 error:0488000D:PEM routines::ASN1 lib",
            ));
        }
        found.push(CertificateDer::from(der));
    }
    if found.is_empty() {
        return Err(failed("error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE"));
    }
    Ok(found)
}

/// The revocation lists of a file, at least one. The error is what stands behind the file's name.
pub fn crls(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let failed = |reason: &str| format!("PEM_read_bio_X509_CRL() failed (SSL: {reason})");
    let blocks = pem::blocks(text).map_err(|bad| failed(reason(bad)))?;
    let found: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.label == "X509 CRL").map(|block| block.der).collect();
    if found.iter().any(|der| CertificateRevocationList::from_der(der).is_err()) {
        return Err(failed("error:0688010A:asn1 encoding routines::nested asn1 error"));
    }
    if found.is_empty() {
        return Err(failed("error:0480006C:PEM routines::no start line:Expecting: X509 CRL"));
    }
    Ok(found)
}

/// The first key of a file, opened with the first password that fits.
pub fn key(text: &[u8], passwords: &[Vec<u8>]) -> Result<Arc<dyn SigningKey>, String> {
    let failed = |reason: &str| format!("PEM_read_bio_PrivateKey() failed (SSL: {reason})");
    let blocks = pem::blocks(text).map_err(|_| failed(NO_KEY))?;
    let keyed = |block: &&Block| block.label.ends_with("PRIVATE KEY");
    let block = blocks.iter().find(keyed).ok_or_else(|| failed(NO_KEY))?;
    let opened;
    let der = if block.headers.iter().any(|(name, _)| name == "DEK-Info") {
        opened = passwords.iter().find_map(|password| legacy::decrypt(block, password));
        opened.as_ref().ok_or_else(|| failed(BAD_OLD_DECRYPT))?
    } else {
        &block.der
    };
    let der = match block.label.as_str() {
        "PRIVATE KEY" => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.clone())),
        "RSA PRIVATE KEY" => PrivateKeyDer::from(PrivatePkcs1KeyDer::from(der.clone())),
        "EC PRIVATE KEY" => PrivateKeyDer::from(PrivateSec1KeyDer::from(der.clone())),
        "ENCRYPTED PRIVATE KEY" => {
            let plain = decrypt(der, passwords).ok_or_else(|| failed(&[BAD_DECRYPT; 2].join(" ")))?;
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(plain))
        }
        _ => return Err(failed(NO_KEY)),
    };
    any_supported_type(&der).map_err(|_| failed(NO_KEY))
}

fn decrypt(der: &[u8], passwords: &[Vec<u8>]) -> Option<Vec<u8>> {
    let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der).ok()?;
    passwords.iter().find_map(|password| Some(sealed.decrypt(password).ok()?.as_bytes().to_vec()))
}

/// Whether the first key of a file needs a password.
pub fn is_encrypted(text: &[u8]) -> bool {
    let first = pem::blocks(text).unwrap_or_default().into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
    first.is_some_and(|block| block.label.starts_with("ENCRYPTED") || !block.headers.is_empty())
}

/// Whether `key` belongs to the first certificate of `chain`.
pub fn belongs(chain: &[CertificateDer<'_>], key: &dyn SigningKey) -> bool {
    let Some(Ok((_, cert))) = chain.first().map(|der| X509Certificate::from_der(der)) else { return false };
    key.public_key().is_none_or(|public| cert.public_key().raw == public.as_ref())
}

/// OpenSSL's tail for a key of another certificate.
pub const MISMATCH: &str = "(SSL: error:05800074:x509 certificate routines::key values mismatch)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_told_apart() {
        let said = |text: &[u8]| certificates(text).unwrap_err();
        assert!(said(b"junk").contains("no start line"));
        assert!(said(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("wrong tag"));
        assert!(said(b"-----BEGIN CERTIFICATE-----\n??\n-----END CERTIFICATE-----\n").contains("base64"));
        assert!(said(b"-----BEGIN CERTIFICATE-----\nAAAA\n").contains("bad end line"));
        assert!(crls(b"").unwrap_err().contains("X509 CRL"));
        assert!(key(b"", &[]).err().unwrap().contains("DECODER"));
    }
}

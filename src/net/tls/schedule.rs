//! The key schedule of TLS 1.3 (RFC 8446 §7.1) over HMAC keys that are prepared once (RFC 5869).
//!
//! The library's own derives each secret from the beginning again: of the hashing of a handshake that is more than half.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::crypto::hash::HashAlgorithm;
use rustls::crypto::hmac::{Hmac, Key, Tag};
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls13CipherSuite};

/// The same suite, with this key schedule where it is one of TLS 1.3.
pub fn suite(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let ours = SUITES.iter().find(|ours| ours.common.suite == suite.suite());
    ours.map_or(suite, SupportedCipherSuite::Tls13)
}

static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let theirs = ALL_CIPHER_SUITES.iter().filter_map(SupportedCipherSuite::tls13);
    theirs
        .map(|theirs| {
            let CipherSuiteCommon { suite, hash_provider, confidentiality_limit } = theirs.common;
            let hkdf_provider: &HkdfUsingHmac<'_> = match hash_provider.algorithm() {
                HashAlgorithm::SHA384 => &HkdfUsingHmac(&Prepared(hmac::HMAC_SHA384)),
                _ => &HkdfUsingHmac(&Prepared(hmac::HMAC_SHA256)),
            };
            Tls13CipherSuite {
                common: CipherSuiteCommon { suite, hash_provider, confidentiality_limit },
                hkdf_provider,
                aead_alg: theirs.aead_alg,
                quic: theirs.quic,
            }
        })
        .collect()
});

/// HMAC with one hash.
struct Prepared(hmac::Algorithm);

impl Hmac for Prepared {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(PreparedKey(hmac::Key::new(self.0, key)))
    }

    fn hash_output_len(&self) -> usize {
        self.0.digest_algorithm().output_len()
    }
}

/// A key whose pads are hashed.
struct PreparedKey(hmac::Key);

impl Key for PreparedKey {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(first);
        middle.iter().for_each(|part| context.update(part));
        context.update(last);
        Tag::new(context.sign().as_ref())
    }

    fn tag_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::tls13::{Hkdf, OkmBlock};

    /// Secrets are those that the library derives.
    #[test]
    fn secrets_are_the_librarys() {
        for theirs in ALL_CIPHER_SUITES.iter().filter_map(SupportedCipherSuite::tls13) {
            let ours = suite(SupportedCipherSuite::Tls13(theirs));
            let ours = ours.tls13().unwrap();
            assert!(!std::ptr::eq(ours, theirs));
            let secrets = |hkdf: &dyn Hkdf| {
                let block = |label: &[u8]| {
                    let expander = hkdf.extract_from_secret(Some(b"salt"), b"secret");
                    expander.expand_block(&[label, b" and more"])
                };
                let zero = hkdf.extract_from_zero_ikm(None).expand_block(&[b"zero"]);
                let again = hkdf.expander_for_okm(&OkmBlock::new(zero.as_ref()));
                let mut long = [0; 100];
                assert!(again.expand_slice(&[b"long"], &mut long).is_ok());
                let tag = hkdf.hmac_sign(&zero, b"message").as_ref().to_vec();
                (block(b"one").as_ref().to_vec(), zero.as_ref().to_vec(), long, tag)
            };
            assert_eq!(secrets(ours.hkdf_provider), secrets(theirs.hkdf_provider));
        }
    }
}

//! Whether a chain of certificates can be trusted (RFC 5280 §6), with OpenSSL's judgements and words.
//!
//! The library for web certificates will not do: nginx takes certificates of version 1, CAs as end entities and names in the subject,
//! limits the depth, and reports what was wrong while it serves the request.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::prelude::*;

use super::pem;

/// What is wrong with a chain: OpenSSL's number and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit(pub u8, pub &'static str);

const NO_ISSUER: Unfit = Unfit(2, "unable to get issuer certificate");
const NO_CRL: Unfit = Unfit(3, "unable to get certificate CRL");
const BAD_SIGNATURE: Unfit = Unfit(7, "certificate signature failure");
const BAD_CRL_SIGNATURE: Unfit = Unfit(8, "CRL signature failure");
const NOT_YET: Unfit = Unfit(9, "certificate is not yet valid");
const EXPIRED: Unfit = Unfit(10, "certificate has expired");
const CRL_NOT_YET: Unfit = Unfit(11, "CRL is not yet valid");
const CRL_EXPIRED: Unfit = Unfit(12, "CRL has expired");
const SELF_SIGNED: Unfit = Unfit(18, "self-signed certificate");
const SELF_SIGNED_IN_CHAIN: Unfit = Unfit(19, "self-signed certificate in certificate chain");
const NO_LOCAL_ISSUER: Unfit = Unfit(20, "unable to get local issuer certificate");
const UNVERIFIED_LEAF: Unfit = Unfit(21, "unable to verify the first certificate");
const TOO_LONG: Unfit = Unfit(22, "certificate chain too long");
const REVOKED: Unfit = Unfit(23, "certificate revoked");
const NOT_A_CA: Unfit = Unfit(79, "invalid CA certificate");
const PATH_LENGTH: Unfit = Unfit(25, "path length constraint exceeded");
const WRONG_PURPOSE: Unfit = Unfit(26, "unsuitable certificate purpose");
const NOT_CERT_SIGN: Unfit = Unfit(32, "key usage does not include certificate signing");
const CRITICAL: Unfit = Unfit(34, "unhandled critical extension");
const EXCLUDED: Unfit = Unfit(47, "permitted subtree violation");
const MALFORMED: Unfit = Unfit(1, "unspecified certificate verification error");

impl Unfit {
    /// Whether it only says that nobody vouches for the certificate (`optional_no_ca`).
    pub fn is_unknown_authority(self) -> bool {
        matches!(self.0, 18..=21 | 27)
    }
}

/// What the certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client that proves who it is.
    Client,
    /// A server.
    Server,
}

/// Authorities, revocations, and how far to trust.
#[derive(Debug, Default)]
pub struct Trust {
    /// Certificates of authorities.
    pub roots: Vec<CertificateDer<'static>>,
    /// Lists of revoked certificates; where there are any, every certificate needs one.
    pub crls: Vec<Vec<u8>>,
    /// How many certificates may stand between the first one and its authority.
    pub depth: usize,
}

impl Trust {
    /// Judges a chain.
    pub fn judge(&self, chain: &[CertificateDer<'_>], purpose: Purpose) -> Result<(), Unfit> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.judge_at(chain, purpose, i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn judge_at(&self, chain: &[CertificateDer<'_>], purpose: Purpose, now: i64) -> Result<(), Unfit> {
        let sent: Vec<Cert<'_>> = chain.iter().map_while(|der| Cert::read(der)).collect();
        let roots: Vec<Cert<'_>> = self.roots.iter().filter_map(|der| Cert::read(der)).collect();
        let leaf = sent.first().ok_or(MALFORMED)?;
        let (path, mut verdict) = self.path(leaf, sent.get(1..).unwrap_or_default(), &roots);
        // OpenSSL goes on to the end, and what it finds last is what is reported.
        let mut note = |found: Result<(), Unfit>| verdict = found.and(verdict);
        note(purposes(&path, purpose));
        note(constraints(&path));
        for (at, cert) in path.iter().enumerate() {
            let issuer = path.get(at + 1).unwrap_or(cert);
            note(self.revocation(cert, issuer, now));
        }
        for (at, cert) in path.iter().enumerate().rev() {
            let issuer = path.get(at + 1);
            if issuer.is_some_and(|issuer| !issuer.signed(cert.tbs, cert.algorithm, cert.signature)) {
                note(Err(BAD_SIGNATURE));
            }
            note(timely(cert, now));
        }
        verdict
    }

    /// The certificates from the first one to its authority.
    fn path<'a, 'b>(
        &self,
        leaf: &'b Cert<'a>,
        sent: &'b [Cert<'a>],
        roots: &'b [Cert<'a>],
    ) -> (Vec<&'b Cert<'a>>, Result<(), Unfit>) {
        let mut path = vec![leaf];
        let (mut anchored, limit, mut last) = (false, self.depth.saturating_add(1), leaf);
        loop {
            let known = roots.iter().any(|root| root.der == last.der);
            if last.is_self_issued() {
                let verdict = match (known, path.len()) {
                    (true, _) => Ok(()),
                    (false, 1) => Err(SELF_SIGNED),
                    (false, _) => Err(SELF_SIGNED_IN_CHAIN),
                };
                return (path, verdict);
            }
            let fits = |other: &&Cert<'_>| last.may_be_issued_by(other) && path.iter().all(|on| on.der != other.der);
            let root = roots.iter().find(fits);
            let next = root.or_else(|| if anchored { None } else { sent.iter().find(fits) });
            let Some(next) = next else {
                let unfit = match (anchored || known, path.len()) {
                    (true, _) => NO_ISSUER,
                    (false, 1) => UNVERIFIED_LEAF,
                    (false, _) => NO_LOCAL_ISSUER,
                };
                return (path, Err(unfit));
            };
            let allowed = if root.is_some() { path.len() <= limit } else { path.len() < limit };
            if !allowed {
                return (path, Err(TOO_LONG));
            }
            anchored |= root.is_some();
            path.push(next);
            last = next;
        }
    }

    /// Whether a certificate was revoked; its issuer must have said so, or not, lately.
    fn revocation(&self, cert: &Cert<'_>, issuer: &Cert<'_>, now: i64) -> Result<(), Unfit> {
        if self.crls.is_empty() {
            return Ok(());
        }
        let lists = self.crls.iter().filter_map(|der| Some((der, CertificateRevocationList::from_der(der).ok()?.1)));
        let mut ours = lists.filter(|(_, list)| list.issuer().as_raw() == cert.parsed.issuer().as_raw());
        let (der, list) = ours.next().ok_or(NO_CRL)?;
        let parts = Parts::of(der).ok_or(BAD_CRL_SIGNATURE)?;
        if !issuer.signed(parts.tbs, parts.algorithm, parts.signature) {
            return Err(BAD_CRL_SIGNATURE);
        }
        if now < list.last_update().timestamp() {
            return Err(CRL_NOT_YET);
        }
        if list.next_update().is_some_and(|next| now > next.timestamp()) {
            return Err(CRL_EXPIRED);
        }
        let serial = cert.parsed.raw_serial();
        let revoked = list.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == serial);
        if revoked { Err(REVOKED) } else { Ok(()) }
    }
}

fn timely(cert: &Cert<'_>, now: i64) -> Result<(), Unfit> {
    let validity = cert.parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(NOT_YET);
    }
    if now > validity.not_after.timestamp() { Err(EXPIRED) } else { Ok(()) }
}

/// A certificate and the pieces its signature is about.
struct Cert<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
    tbs: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// A signed structure: what is signed, how, and the signature.
struct Parts<'a> {
    tbs: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        let (_, body, _) = pem::element(der)?;
        let (tbs, rest) = pem::split(body)?;
        let (_, algorithm, rest) = pem::element(rest)?;
        let (_, bits, _) = pem::element(rest)?;
        Some(Self { tbs, algorithm, signature: bits.get(1..)? })
    }
}

impl<'a> Cert<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let Parts { tbs, algorithm, signature } = Parts::of(der)?;
        Some(Self { der, parsed, tbs, algorithm, signature })
    }

    fn is_self_issued(&self) -> bool {
        self.parsed.subject().as_raw() == self.parsed.issuer().as_raw()
            && self.signed(self.tbs, self.algorithm, self.signature)
    }

    fn may_be_issued_by(&self, other: &Self) -> bool {
        if self.parsed.issuer().as_raw() != other.parsed.subject().as_raw() {
            return false;
        }
        match (self.authority_key(), other.subject_key()) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        }
    }

    fn authority_key(&self) -> Option<&[u8]> {
        self.parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref().map(|key| key.0),
            _ => None,
        })
    }

    fn subject_key(&self) -> Option<&[u8]> {
        self.parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
            _ => None,
        })
    }

    /// Whether this certificate's key made `signature` over `message`.
    fn signed(&self, message: &[u8], algorithm: &[u8], signature: &[u8]) -> bool {
        let Some(key) = PublicKey::of(self.parsed.public_key().raw) else { return false };
        let all = algorithms().all.iter();
        let mut fitting = all.filter(|known| known.signature_alg_id().as_ref() == algorithm);
        fitting.any(|known| key.verifies(*known, message, signature))
    }
}

/// The key inside a `SubjectPublicKeyInfo`.
pub struct PublicKey<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Takes `spki` apart.
    pub fn of(spki: &'a [u8]) -> Option<Self> {
        let (_, body, _) = pem::element(spki)?;
        let (_, algorithm, rest) = pem::element(body)?;
        let (_, bits, _) = pem::element(rest)?;
        Some(Self { algorithm, bits: bits.get(1..)? })
    }

    /// Whether it made `signature` over `message` with `known`.
    pub fn verifies(&self, known: &dyn SignatureVerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        known.public_key_alg_id().as_ref() == self.algorithm
            && known.verify_signature(self.bits, message, signature).is_ok()
    }
}

/// The signature algorithms there are.
pub fn algorithms() -> rustls::crypto::WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

/// Whether each certificate may be used for what it is used for (RFC 5280 §4.2.1).
fn purposes(path: &[&Cert<'_>], purpose: Purpose) -> Result<(), Unfit> {
    for (at, cert) in path.iter().enumerate() {
        let known = |extension: &&X509Extension<'_>| {
            matches!(
                extension.parsed_extension(),
                ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. }
            )
        };
        if cert.parsed.extensions().iter().filter(known).any(|extension| extension.critical) {
            return Err(CRITICAL);
        }
        if let Ok(Some(usage)) = cert.parsed.extended_key_usage() {
            let usage = usage.value;
            let fits = if purpose == Purpose::Client { usage.client_auth } else { usage.server_auth };
            if !fits && !usage.any {
                return Err(WRONG_PURPOSE);
            }
        }
        if at == 0 {
            continue;
        }
        let basic = cert.parsed.basic_constraints().ok().flatten().map(|basic| basic.value);
        let old_root =
            cert.parsed.version() == X509Version::V1 && cert.parsed.subject().as_raw() == cert.parsed.issuer().as_raw();
        if !basic.is_some_and(|basic| basic.ca) && !old_root {
            return Err(NOT_A_CA);
        }
        if cert.parsed.key_usage().ok().flatten().is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(NOT_CERT_SIGN);
        }
        let below = path.get(1..at).unwrap_or_default().iter();
        let below = below.filter(|cert| cert.parsed.subject().as_raw() != cert.parsed.issuer().as_raw()).count();
        let limit = basic.and_then(|basic| basic.path_len_constraint);
        if limit.is_some_and(|limit| below as u64 > u64::from(limit)) {
            return Err(PATH_LENGTH);
        }
    }
    Ok(())
}

/// Whether the names below an authority are among those it may vouch for (RFC 5280 §4.2.1.10); names of hosts only.
fn constraints(path: &[&Cert<'_>]) -> Result<(), Unfit> {
    for (at, cert) in path.iter().enumerate().skip(1) {
        let Ok(Some(limits)) = cert.parsed.name_constraints() else { continue };
        let hosts = |trees: &Option<Vec<GeneralSubtree<'_>>>| -> Option<Vec<String>> {
            let mut hosts = Vec::new();
            for tree in trees.iter().flatten() {
                match &tree.base {
                    GeneralName::DNSName(name) => hosts.push(name.to_ascii_lowercase()),
                    // What is not understood forbids everything.
                    _ => return None,
                }
            }
            Some(hosts)
        };
        let permitted = hosts(&limits.value.permitted_subtrees).ok_or(EXCLUDED)?;
        let excluded = hosts(&limits.value.excluded_subtrees).ok_or(EXCLUDED)?;
        let under = |name: &str, tree: &String| {
            let tree = tree.trim_start_matches('.');
            name == tree || tree.is_empty() || name.strip_suffix(tree).is_some_and(|rest| rest.ends_with('.'))
        };
        for name in path.get(..at).unwrap_or_default().iter().flat_map(|cert| dns_names(&cert.parsed)) {
            let fits = permitted.is_empty() || permitted.iter().any(|tree| under(&name, tree));
            if !fits || excluded.iter().any(|tree| under(&name, tree)) {
                return Err(EXCLUDED);
            }
        }
    }
    Ok(())
}

fn dns_names(cert: &X509Certificate<'_>) -> Vec<String> {
    let names = cert.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    names
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Whether a certificate is for `host` (RFC 6125 §6.4): its alternative names, or where it has none its common name.
pub fn is_for(cert: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(cert) else { return false };
    let names = dns_names(&cert);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if !names.is_empty() {
        return names.iter().any(|name| matches(name, &host));
    }
    let mut common = cert.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.any(|name| matches(&name.to_ascii_lowercase(), &host))
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == host,
        // A star stands for a part of the first label, of names of two labels at least behind it.
        Some((before, after)) => {
            let inside = host.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            !before.contains('.')
                && after.matches('.').count() >= 2
                && after.starts_with('.')
                && inside.is_some_and(|inside| !inside.is_empty() && !inside.contains('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_a_label() {
        for (pattern, host, want) in [
            ("example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.com", "example.com", false),
            ("a*.example.com", "ab.example.com", true),
        ] {
            assert_eq!(matches(pattern, host), want, "{pattern} {host}");
        }
    }
}

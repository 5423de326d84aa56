//! OpenSSL's names of suites, groups and signature schemes, and the language of its cipher lists
//! (openssl-ciphers(1)).

use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, SignatureScheme, SupportedCipherSuite};

use super::schedule;

/// Suites by number: OpenSSL's name, and the words a cipher list may find it by.
const SUITES: [(CipherSuite, &str, &[&str]); 9] = [
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", &[]),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", &[]),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", &[]),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        &["aECDSA", "ECDSA", "AES", "AES256", "AESGCM", "SUITEB192"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        &["aRSA", "AES", "AES256", "AESGCM"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        &["aECDSA", "ECDSA", "CHACHA20"],
    ),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", &["aRSA", "CHACHA20"]),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        &["aECDSA", "ECDSA", "AES", "AES128", "AESGCM", "SUITEB128"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        &["aRSA", "AES", "AES128", "AESGCM"],
    ),
];

/// Words that find every suite of TLS 1.2 that is here.
const COMMON: [&str; 14] = [
    "ALL",
    "DEFAULT",
    "COMPLEMENTOFALL",
    "HIGH",
    "ECDHE",
    "ECDH",
    "EECDH",
    "kECDHE",
    "kEECDH",
    "TLSv1.2",
    "TLSv1",
    "SSLv3",
    "FIPS",
    "AEAD",
];

/// Words OpenSSL knows and that find nothing here.
const FOREIGN: [&str; 43] = [
    "RSA",
    "kRSA",
    "DH",
    "DHE",
    "EDH",
    "kDHE",
    "kEDH",
    "aDSS",
    "DSS",
    "aNULL",
    "eNULL",
    "NULL",
    "EXP",
    "EXPORT",
    "LOW",
    "MEDIUM",
    "ADH",
    "AECDH",
    "PSK",
    "kPSK",
    "aPSK",
    "kRSAPSK",
    "kDHEPSK",
    "kECDHEPSK",
    "SRP",
    "kSRP",
    "aSRP",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "ARIA",
    "MD5",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "AESCCM",
];

/// Groups: OpenSSL's names, ours where there is one, and the number on the wire.
const GROUPS: [(&[&str], Option<&dyn SupportedKxGroup>, u16); 15] = [
    (&["prime256v1", "P-256", "secp256r1"], Some(kx_group::SECP256R1), 23),
    (&["secp384r1", "P-384"], Some(kx_group::SECP384R1), 24),
    (&["secp521r1", "P-521"], None, 25),
    (&["x25519", "X25519"], Some(kx_group::X25519), 29),
    (&["x448", "X448"], None, 30),
    (&["X25519MLKEM768"], Some(kx_group::X25519MLKEM768), 4588),
    (&["SecP256r1MLKEM768"], Some(kx_group::SECP256R1MLKEM768), 4587),
    (&["SecP384r1MLKEM1024"], None, 4589),
    (&["MLKEM768"], Some(kx_group::MLKEM768), 513),
    (&["MLKEM1024"], Some(kx_group::MLKEM1024), 514),
    (&["brainpoolP256r1"], None, 26),
    (&["brainpoolP384r1"], None, 27),
    (&["brainpoolP512r1"], None, 28),
    (&["ffdhe2048"], None, 256),
    (&["ffdhe3072"], None, 257),
];

/// Signature schemes as OpenSSL prints them.
const SCHEMES: [(SignatureScheme, &str); 11] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa_secp256r1_sha256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ecdsa_secp384r1_sha384"),
    (SignatureScheme::ECDSA_NISTP521_SHA512, "ecdsa_secp521r1_sha512"),
    (SignatureScheme::ED25519, "ed25519"),
    (SignatureScheme::ED448, "ed448"),
    (SignatureScheme::RSA_PSS_SHA256, "rsa_pss_rsae_sha256"),
    (SignatureScheme::RSA_PSS_SHA384, "rsa_pss_rsae_sha384"),
    (SignatureScheme::RSA_PSS_SHA512, "rsa_pss_rsae_sha512"),
    (SignatureScheme::RSA_PKCS1_SHA256, "rsa_pkcs1_sha256"),
    (SignatureScheme::RSA_PKCS1_SHA384, "rsa_pkcs1_sha384"),
    (SignatureScheme::RSA_PKCS1_SHA512, "rsa_pkcs1_sha512"),
];

/// OpenSSL's name of a suite, or its number.
pub fn suite(number: u16) -> String {
    let found = SUITES.iter().find(|(suite, ..)| u16::from(*suite) == number);
    found.map_or_else(|| format!("0x{number:04x}"), |(_, name, _)| (*name).to_owned())
}

/// OpenSSL's name of a group, or its number.
pub fn group(number: u16) -> String {
    let found = GROUPS.iter().find(|(.., known)| *known == number);
    let name = found.and_then(|(names, ..)| names.first());
    name.map_or_else(|| format!("0x{number:04x}"), |name| (*name).to_owned())
}

/// OpenSSL's name of a signature scheme, or its number.
pub fn scheme(number: u16) -> String {
    let found = SCHEMES.iter().find(|(scheme, _)| u16::from(*scheme) == number);
    found.map_or_else(|| format!("0x{number:04x}"), |(_, name)| (*name).to_owned())
}

/// What a cipher list finds.
pub struct Found {
    /// The suites of TLS 1.2, in the list's order.
    pub suites: Vec<SupportedCipherSuite>,
    /// Names the list gives that OpenSSL has and that are not here.
    pub missing: Vec<String>,
}

/// Reads a cipher list. The error is OpenSSL's, where it would find no suite in it or not understand it.
pub fn ciphers(list: &str) -> Result<Found, &'static str> {
    // OpenSSL takes the word off wherever a list begins with it.
    let (first, list) = list.strip_prefix("DEFAULT").map_or(("", list), |rest| ("DEFAULT", rest));
    if !is_list(list) {
        return Err("0A000118:SSL routines::invalid command");
    }
    let (mut chosen, mut banned, mut missing): (Vec<usize>, Vec<usize>, Vec<String>) = Default::default();
    let mut known = false;
    for word in std::iter::once(first).chain(list.split([':', ',', ' ', ';'])).filter(|word| !word.is_empty()) {
        let (mark, name) = match word.split_at_checked(1) {
            Some((mark @ ("!" | "-" | "+"), name)) => (mark, name),
            _ => ("", word),
        };
        if name.starts_with('@') {
            continue;
        }
        let at: Vec<usize> = SUITES.iter().enumerate().filter(|(_, suite)| is(suite, name)).map(|(at, _)| at).collect();
        match mark {
            "!" => banned.extend(&at),
            "-" => {}
            "+" => {
                let moved: Vec<usize> = chosen.iter().copied().filter(|one| at.contains(one)).collect();
                chosen.retain(|one| !at.contains(one));
                chosen.extend(moved);
                continue;
            }
            _ => {
                let foreign = at.is_empty() && is_foreign(name);
                known |= foreign || !at.is_empty();
                if foreign && name.contains('-') {
                    missing.push(name.to_owned());
                }
                let new: Vec<usize> =
                    at.iter().copied().filter(|one| !chosen.contains(one) && !banned.contains(one)).collect();
                chosen.extend(new);
                continue;
            }
        }
        chosen.retain(|one| !at.contains(one));
    }
    let suites = chosen.iter().filter_map(|at| SUITES.get(*at)).filter_map(|(suite, ..)| find(*suite)).collect();
    known.then_some(Found { suites, missing }).ok_or("0A0000B9:SSL routines::no cipher match")
}

/// Whether OpenSSL can read a cipher list. It passes by what stands behind a word that it does not know.
fn is_list(list: &str) -> bool {
    list.split([':', ',', ' ', ';']).all(is_rules)
}

/// Whether a word, or several that touch, are rules.
fn is_rules(word: &str) -> bool {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '=' | '_');
    let mut rest = word;
    while !rest.is_empty() {
        if let Some(command) = rest.strip_prefix('@') {
            let level = command.strip_prefix("SECLEVEL=").unwrap_or_default();
            return command == "STRENGTH" || matches!(level.as_bytes(), [b'0'..=b'5']);
        }
        rest = rest.strip_prefix(['!', '-', '+']).unwrap_or(rest);
        loop {
            let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
            let (name, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
            if name.is_empty() {
                return false;
            }
            if !is_foreign(name) && !SUITES.iter().any(|suite| is(suite, name)) {
                return true;
            }
            let Some(next) = tail.strip_prefix('+') else {
                rest = tail;
                break;
            };
            rest = next;
        }
    }
    true
}

fn is((_, name, words): &(CipherSuite, &str, &[&str]), wanted: &str) -> bool {
    if name.starts_with("TLS_") {
        return false;
    }
    *name == wanted || wanted.split('+').all(|part| words.contains(&part) || COMMON.contains(&part))
}

/// Whether OpenSSL has what `name` names, as far as its form tells.
fn is_foreign(name: &str) -> bool {
    const PARTS: [&str; 24] = [
        "ECDHE", "DHE", "EDH", "ECDH", "ADH", "AECDH", "RSA", "ECDSA", "DSS", "AES128", "AES256", "AES", "DES", "CBC3",
        "CBC", "GCM", "CCM", "CCM8", "SHA", "SHA256", "SHA384", "MD5", "PSK", "SRP",
    ];
    const MORE: [&str; 12] = [
        "CAMELLIA128",
        "CAMELLIA256",
        "ARIA128",
        "ARIA256",
        "CHACHA20",
        "POLY1305",
        "RC4",
        "SEED",
        "NULL",
        "EXP",
        "IDEA",
        "ARIA",
    ];
    name.split('+').all(|part| FOREIGN.contains(&part) || COMMON.contains(&part) || part.starts_with("AES"))
        || (name.contains('-') && name.split('-').all(|part| PARTS.contains(&part) || MORE.contains(&part)))
}

/// The suite of TLS 1.3 of this name.
pub fn tls13(name: &str) -> Option<SupportedCipherSuite> {
    let found = SUITES.iter().find(|(_, known, _)| *known == name && name.starts_with("TLS_"));
    found.and_then(|(suite, ..)| find(*suite))
}

/// The suites of TLS 1.3 in OpenSSL's order.
pub fn all_tls13() -> Vec<SupportedCipherSuite> {
    SUITES.iter().filter(|(_, name, _)| name.starts_with("TLS_")).filter_map(|(suite, ..)| find(*suite)).collect()
}

fn find(suite: CipherSuite) -> Option<SupportedCipherSuite> {
    ALL_CIPHER_SUITES.iter().copied().find(|known| known.suite() == suite).map(schedule::suite)
}

/// Groups, and names of groups that are not here.
pub type Groups = (Vec<&'static dyn SupportedKxGroup>, Vec<String>);

/// A list of groups; names that are nobody's make the whole list wrong, as in OpenSSL.
pub fn groups(list: &str) -> Option<Groups> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for word in list.split(':') {
        let name = word.trim_start_matches(['?', '*', '-']);
        let group = GROUPS.iter().find(|(names, ..)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        match group {
            Some((_, Some(group), _)) => found.push(*group),
            Some((..)) => missing.push(name.to_owned()),
            None if word.starts_with('?') => {}
            None => return None,
        }
    }
    Some((found, missing))
}

/// All that there is, in our order of preference.
pub fn provider() -> CryptoProvider {
    let theirs = rustls::crypto::aws_lc_rs::default_provider();
    let cipher_suites = theirs.cipher_suites.iter().copied().map(schedule::suite).collect();
    CryptoProvider { cipher_suites, ..theirs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Option<Vec<String>> {
        Some(ciphers(list).ok()?.suites.iter().map(|found| suite(found.suite().into())).collect())
    }

    #[test]
    fn cipher_lists_find_what_openssl_finds() {
        let rsa = ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"];
        assert_eq!(names("HIGH:!aNULL:!MD5").unwrap().len(), 6);
        assert_eq!(names("ECDHE+aRSA").unwrap(), rsa);
        assert_eq!(names("HIGH:!ECDSA:+CHACHA20").unwrap(), [rsa[0], rsa[2], rsa[1]]);
        assert_eq!(names("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA").unwrap(), [rsa[2]]);
        assert_eq!(names("AES128-SHA"), Some(Vec::new()));
        assert_eq!(names("nonsense"), None);
        assert_eq!(ciphers("DHE-RSA-AES128-GCM-SHA256:HIGH").unwrap().missing, ["DHE-RSA-AES128-GCM-SHA256"]);
    }

    #[test]
    fn groups_have_openssl_names() {
        assert_eq!(groups("X25519:prime256v1:secp521r1").unwrap().1, ["secp521r1"]);
        assert!(groups("X25519:nonsense").is_none());
        assert_eq!((group(29), group(0x1234)), ("x25519".to_owned(), "0x1234".to_owned()));
    }
}

//! What TLS settings of both sides share: versions, cipher lists, groups, and certificates by name
//! (<https://nginx.org/en/docs/http/ngx_http_ssl_module.html>, <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::{TLS12, TLS13};

use crate::conf::args::text;
use crate::conf::load::{cannot_open, os_error};
use crate::conf::{Args, Bits, Env, List, Problem};
use crate::net::tls::config::Choices;
use crate::net::tls::{Identity, key, names};

/// Versions, as bits.
#[derive(Clone, Debug)]
pub struct Versions(Bits);

impl Versions {
    const ALL: [(&'static str, u32); 6] =
        [("SSLv2", 1), ("SSLv3", 2), ("TLSv1", 4), ("TLSv1.1", 8), ("TLSv1.2", 16), ("TLSv1.3", 32)];
    const HAS: u32 = 16 | 32;

    /// Reads a list; what is not here is a warning.
    pub fn read(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        args.add(&mut self.0, &Self::ALL)?;
        if self.0.get() & Self::HAS == 0 {
            return Err(Problem::new("none of these protocols is available, only \"TLSv1.2\" and \"TLSv1.3\" are"));
        }
        let has = |word: &[u8]| crate::conf::field::one_of(word, &Self::ALL).is_ok_and(|bit| bit & Self::HAS != 0);
        let missing: Vec<String> =
            args.words().filter(|word| !has(word)).map(|word| format!("\"{}\"", text(word))).collect();
        if !missing.is_empty() {
            args.warn(format!("{} not available, ignored", missing.join(", ")));
        }
        Ok(())
    }

    fn supported(&self) -> Vec<&'static SupportedProtocolVersion> {
        [(16, &TLS12), (32, &TLS13)]
            .into_iter()
            .filter(|(bit, _)| self.0.get() & bit != 0)
            .map(|(_, version)| version)
            .collect()
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self(Bits::new(Self::HAS))
    }
}

/// What both sides of a handshake are set up with.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// `*_protocols`.
    pub versions: Versions,
    /// `*_ciphers`.
    pub ciphers: Option<String>,
    /// `ssl_ecdh_curve`.
    pub curves: Option<String>,
    /// `*_conf_command`: name and value.
    pub commands: List<(String, String)>,
}

/// What OpenSSL's own commands change.
#[derive(Default)]
struct Commands {
    tls13: Option<Vec<rustls::SupportedCipherSuite>>,
    ciphers: Option<String>,
    curves: Option<String>,
    versions: Option<Versions>,
}

impl Common {
    /// What a handshake chooses from, and what of it is not to be had here. The error is nginx's sentence.
    pub fn choices(&self) -> Result<(Choices, Vec<String>), String> {
        let mut warnings = Vec::new();
        let commands = self.commands(&mut warnings)?;
        let versions = commands.versions.as_ref().unwrap_or(&self.versions);
        let list = commands.ciphers.as_deref().or(self.ciphers.as_deref()).unwrap_or("HIGH:!aNULL:!MD5");
        let found = names::ciphers(list)
            .map_err(|error| format!("SSL_CTX_set_cipher_list(\"{list}\") failed (SSL: error:{error})"))?;
        let mut versions = versions.supported();
        if found.suites.is_empty() {
            versions.retain(|version| **version == TLS13);
            if versions.is_empty() {
                return Err(format!("none of the ciphers of \"{list}\" is available"));
            }
            warnings.push(format!("none of the ciphers of \"{list}\" is available, TLSv1.3 remains"));
        } else if !found.missing.is_empty() {
            warnings.push(format!("ciphers not available, ignored: {}", found.missing.join(":")));
        }
        let mut suites = commands.tls13.unwrap_or_else(names::all_tls13);
        suites.extend(found.suites);
        let curves = commands.curves.as_deref().or(self.curves.as_deref()).filter(|curves| *curves != "auto");
        let groups = match curves {
            Some(curves) => self.groups(curves, &mut warnings)?,
            None => Vec::new(),
        };
        Ok((Choices { versions, suites, groups }, warnings))
    }

    fn groups(
        &self,
        list: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<&'static dyn rustls::crypto::SupportedKxGroup>, String> {
        let (groups, missing) =
            names::groups(list).ok_or_else(|| format!("SSL_CTX_set1_curves_list(\"{list}\") failed"))?;
        if groups.is_empty() {
            return Err(format!("none of the curves of \"{list}\" is available"));
        }
        if !missing.is_empty() {
            warnings.push(format!("curves not available, ignored: {}", missing.join(":")));
        }
        Ok(groups)
    }

    /// A command's value, if it is given.
    pub fn command(&self, name: &str) -> Option<&str> {
        self.commands.iter().rfind(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// An option that `Options` switches; a minus switches it off.
    pub fn option(&self, name: &str) -> Option<bool> {
        let lists = self.commands.iter().filter(|(known, _)| known.eq_ignore_ascii_case("options"));
        let mut words = lists.flat_map(|(_, value)| value.split(',')).map(str::trim);
        words
            .rfind(|word| word.trim_start_matches(['-', '+']).eq_ignore_ascii_case(name))
            .map(|word| !word.starts_with('-'))
    }

    fn commands(&self, warnings: &mut Vec<String>) -> Result<Commands, String> {
        let mut out = Commands::default();
        for (name, value) in self.commands.iter() {
            let failed = |why: &str| format!("SSL_CONF_cmd(\"{name}\", \"{value}\") failed (SSL: {why})");
            let bad = || failed(&format!("error:0A000180:SSL routines::bad value:cmd={name}, value={value}"));
            match name.to_ascii_lowercase().as_str() {
                "ciphersuites" => {
                    let suites: Option<Vec<_>> = value.split(':').map(names::tls13).collect();
                    out.tls13 = Some(suites.ok_or_else(bad)?);
                }
                "cipherstring" => out.ciphers = Some(value.clone()),
                "curves" | "groups" => out.curves = Some(value.clone()),
                "minprotocol" | "maxprotocol" => {
                    let level = Versions::ALL.iter().find(|(known, _)| known == value).ok_or_else(bad)?.1;
                    let bits =
                        if name.eq_ignore_ascii_case("minprotocol") { !(level - 1) } else { level | (level - 1) };
                    let left = out.versions.as_ref().unwrap_or(&self.versions).0.get() & bits;
                    if left & Versions::HAS == 0 {
                        return Err(format!("{}, which leaves no protocol that is available", bad()));
                    }
                    out.versions = Some(Versions(Bits::new(left)));
                }
                "options" | "certificate" | "privatekey" | "numtickets" => {}
                "protocol"
                | "signaturealgorithms"
                | "clientsignaturealgorithms"
                | "ecdhparameters"
                | "dhparameters"
                | "recordpadding"
                | "verifymode"
                | "serverinfofile"
                | "antireplay"
                | "txcertificatecompression"
                | "rxcertificatecompression" => {
                    warnings.push(format!("the command \"{name}\" has no effect"));
                }
                _ => return Err(failed(&format!("error:0A000182:SSL routines::unknown cmd name:cmd={name}"))),
            }
        }
        Ok(out)
    }
}

/// Reads `*_conf_command`.
pub fn command(commands: &mut List<(String, String)>, args: &mut Args<'_>) -> Result<(), Problem> {
    commands.push((text(args.word(0)).into_owned(), text(args.word(1)).into_owned()));
    Ok(())
}

/// Where certificates and keys are read from.
pub trait Reads {
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>>;
    /// The path of a name.
    fn path(&self, name: &[u8]) -> PathBuf;
}

impl Reads for Env {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match self.files.read(path) {
            // OpenSSL opens a directory, and then finds nothing in it.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(Arc::default()),
            read => read,
        }
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.conf_full_name(name)
    }
}

/// A name that stands for bytes: a path, or `data:` and the bytes themselves.
fn load(name: &[u8], from: &dyn Reads) -> (String, Result<Arc<[u8]>, String>) {
    if let Some(data) = name.strip_prefix(b"data:") {
        return (text(name).into_owned(), Ok(data.into()));
    }
    let path = from.path(name);
    let read = from.read(&path);
    (
        path.display().to_string(),
        read.map_err(|error| format!("BIO_new_file() failed {}", key::not_opened(&path, &error, "r"))),
    )
}

/// The certificates of a name. The error is nginx's sentence.
pub fn certificates(name: &[u8], from: &dyn Reads) -> Result<Vec<CertificateDer<'static>>, String> {
    let (shown, bytes) = load(name, from);
    bytes
        .and_then(|bytes| key::certificates(&bytes))
        .map_err(|why| format!("cannot load certificate \"{shown}\": {why}"))
}

/// The revocation lists of a name. The error is nginx's sentence.
pub fn crls(name: &[u8], from: &dyn Reads) -> Result<Vec<Vec<u8>>, String> {
    let (shown, bytes) = load(name, from);
    bytes.and_then(|bytes| key::crls(&bytes)).map_err(|why| format!("cannot load CRL \"{shown}\": {why}"))
}

fn secret(name: &[u8], passwords: &[Vec<u8>], from: &dyn Reads) -> (String, Result<Arc<dyn SigningKey>, String>) {
    if name.starts_with(b"engine:") {
        let why = "loading \"engine:...\" certificate keys is not supported".to_owned();
        return (text(name).into_owned(), Err(why));
    }
    let (shown, bytes) = match name.strip_prefix(b"store:") {
        Some(uri) => {
            let (_, bytes) = load(uri.strip_prefix(b"file:").unwrap_or(uri), from);
            (text(name).into_owned(), bytes.map_err(|_| "OSSL_STORE_open() failed".to_owned()))
        }
        None => load(name, from),
    };
    (shown, bytes.and_then(|bytes| key::key(&bytes, passwords)))
}

/// A certificate with its key. The error is nginx's sentence; `function` is what the key is used with.
pub fn identity(
    pair: (&[u8], &[u8]),
    passwords: &[Vec<u8>],
    from: &dyn Reads,
    function: &str,
) -> Result<Identity, String> {
    let cert = certificates(pair.0, from)?;
    let (shown, key) = secret(pair.1, passwords, from);
    let key = key.map_err(|why| format!("cannot load certificate key \"{shown}\": {why}"))?;
    if !key::belongs(&cert, &*key) {
        return Err(format!("{function}(\"{shown}\") failed {}", key::MISMATCH));
    }
    Ok(Arc::new(CertifiedKey { cert, key, ocsp: None }))
}

/// Whether a key needs a password.
pub fn is_encrypted(name: &[u8], from: &dyn Reads) -> bool {
    load(name, from).1.is_ok_and(|bytes| key::is_encrypted(&bytes))
}

/// Reads the name of a file; an empty one is none.
pub fn file(field: &mut Option<Bytes>, args: &Args<'_>) {
    *field = args.get(0).filter(|name| !name.is_empty()).map(Bytes::copy_from_slice);
}

/// The lines of a file of passwords.
pub fn passwords(args: &Args<'_>) -> Result<Arc<Vec<Vec<u8>>>, Problem> {
    const LONGEST: usize = 512;
    let path = args.env.conf_full_name(args.word(0));
    let read = args.env.files.read(&path);
    let unread = |error: &io::Error| match error.kind() {
        io::ErrorKind::IsADirectory => format!("read() \"{}\" failed ({})", path.display(), os_error(error)),
        _ => cannot_open(&path, error),
    };
    let bytes = read.map_err(|error| Problem::new(unread(&error)).at(0))?;
    let lines = bytes.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut found: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    if found.iter().any(|line| line.len() >= LONGEST) {
        return Err(Problem::new(format!("too long line in \"{}\"", path.display())).at(0));
    }
    if found.is_empty() {
        found.push(Vec::new());
    }
    Ok(Arc::new(found))
}

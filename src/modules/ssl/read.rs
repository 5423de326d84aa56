//! Arguments of `ssl_*` directives: <https://nginx.org/en/docs/http/ngx_http_ssl_module.html>

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::server::CacheLimits;
use super::Conf;
use crate::conf::args::text as shown;
use crate::conf::field::one_of;
use crate::conf::{Args, List, Problem, units};
use crate::http::Value;

/// Where sessions are kept on this side.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Whether clients that want to resume are told that it is impossible, not only that this session cannot be.
    pub off: bool,
    /// Sessions of a server's own cache.
    pub builtin: Option<u64>,
    /// Name and size in bytes of a shared one.
    pub shared: Option<(String, u64)>,
}

/// Adds the name of a certificate or key, and what it is compiled to.
pub fn name(list: &mut List<(Bytes, Value)>, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let value = crate::conf::Field::read(word, args)?;
    list.push((Bytes::copy_from_slice(word), value));
    Ok(())
}

/// Reads an argument as text.
pub fn text(args: &mut Args<'_>, into: &mut Option<String>) -> Result<(), Problem> {
    *into = Some(shown(args.word(0)).into_owned());
    Ok(())
}

/// The size of a zone `shared:name:size`.
fn shared(word: &[u8]) -> Option<(String, u64)> {
    let rest = word.strip_prefix(b"shared:")?;
    let at = rest.iter().position(|&b| b == b':').filter(|&at| at > 0)?;
    Some((shown(rest.get(..at)?).into_owned(), units::size(rest.get(at + 1..)?)?))
}

/// Smallest zone, in bytes.
const SMALLEST: u64 = 8 * 4096;

/// `ssl_session_cache`.
pub fn sessions(args: &Args<'_>) -> Result<Sessions, Problem> {
    let mut out = Sessions { off: false, builtin: None, shared: None };
    for (at, word) in args.words().enumerate() {
        let invalid = || Problem::new(format!("invalid session cache \"{}\"", shown(word))).at(at);
        match word {
            b"off" => out.off = true,
            b"none" => {}
            b"builtin" => out.builtin = Some(20480),
            _ if word.starts_with(b"builtin:") => {
                out.builtin = Some(units::number(word.get(8..).unwrap_or_default()).ok_or_else(invalid)?);
            }
            _ => {
                let (name, size) = shared(word).ok_or_else(invalid)?;
                if size < SMALLEST {
                    return Err(Problem::new(format!("session cache \"{}\" is too small", shown(word))).at(at));
                }
                out.shared = Some((name, size));
            }
        }
    }
    Ok(out)
}

/// `ssl_certificate_cache`.
pub fn certificate_cache(args: &Args<'_>) -> Result<Option<CacheLimits>, Problem> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (mut limits, mut off) = (CacheLimits { id: NEXT.fetch_add(1, Ordering::Relaxed), max: 0, inactive: 10, valid: 60 }, false);
    for (at, word) in args.words().enumerate() {
        let invalid = || Problem::new(format!("invalid parameter \"{}\"", shown(word))).at(at);
        if let Some(value) = word.strip_prefix(b"max=") {
            limits.max = units::number(value).filter(|&max| max > 0).ok_or_else(invalid)?;
        } else if let Some(value) = word.strip_prefix(b"inactive=") {
            limits.inactive = units::sec(value).ok_or_else(invalid)?;
        } else if let Some(value) = word.strip_prefix(b"valid=") {
            limits.valid = units::sec(value).ok_or_else(invalid)?;
        } else if word == b"off" {
            off = true;
        } else {
            return Err(invalid());
        }
    }
    match limits.max {
        _ if off => Ok(None),
        0 => Err(Problem::new("\"%DIRECTIVE%\" must have the \"max\" parameter")),
        _ => Ok(Some(limits)),
    }
}

/// `ssl_ech_file`: rustls has no encrypted hello on the server's side.
pub fn ech_file(_: &mut Conf, _: &mut Args<'_>) -> Result<(), Problem> {
    Err(Problem::new("encrypted client hello is not supported, \"%DIRECTIVE%\" cannot be honoured"))
}

/// `ssl_ocsp`: clients' certificates are not asked about over the network.
pub fn ocsp(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    if one_of(args.word(0), &[("off", false), ("on", true), ("leaf", true)]).map_err(|problem| problem.at(0))? {
        return Err(Problem::new("\"%DIRECTIVE%\" is not supported, use \"ssl_crl\"").at(0));
    }
    Ok(())
}

/// `ssl_ocsp_cache`.
pub fn ocsp_cache(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    match (word, shared(word)) {
        (b"off", _) => Ok(()),
        (_, None) => Err(Problem::new(format!("invalid OCSP cache \"{}\"", shown(word))).at(0)),
        (_, Some((_, size))) if size < SMALLEST => {
            Err(Problem::new(format!("OCSP cache \"{}\" is too small", shown(word))).at(0))
        }
        _ => Ok(()),
    }
}

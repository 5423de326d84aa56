//! Arguments of `ssl_*` directives: <https://nginx.org/en/docs/http/ngx_http_ssl_module.html>

use bytes::Bytes;

use super::Conf;
use crate::conf::args::text as shown;
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

/// The name of a certificate or key, and what it is compiled to, or why it cannot be: that matters where it is used.
pub type Name = (Bytes, Result<Value, String>);

/// Adds such a name.
pub fn name(list: &mut List<Name>, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let value = Value::defer(word, args).map_err(|problem| problem.sentence(""));
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

/// `ssl_ech_file`: rustls has no encrypted hello on the server's side.
pub fn ech_file(_: &mut Conf, _: &mut Args<'_>) -> Result<(), Problem> {
    Err(Problem::new("encrypted client hello is not supported, \"%DIRECTIVE%\" cannot be honoured"))
}

/// `ssl_engine`: there are none.
pub fn engine(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    Err(Problem::new(format!("ENGINE_by_id(\"{}\") failed", shown(args.word(0)))).at(0))
}

/// `ssl_ocsp_cache`.
pub fn ocsp_cache(args: &Args<'_>) -> Result<Option<String>, Problem> {
    let word = args.word(0);
    match (word, shared(word)) {
        (b"off", _) => Ok(None),
        (_, None) => Err(Problem::new(format!("invalid OCSP cache \"{}\"", shown(word))).at(0)),
        (_, Some((_, size))) if size < SMALLEST => {
            Err(Problem::new(format!("OCSP cache \"{}\" is too small", shown(word))).at(0))
        }
        (_, Some((name, _))) => Ok(Some(name)),
    }
}

//! The parameters of `syslog:` in `error_log` and `access_log`: <https://nginx.org/en/docs/syslog.html>

use std::sync::{Arc, Mutex};

use crate::conf::args::text;
use crate::conf::{Args, Problem};
use crate::net::addr;
use crate::net::log::Level;
use crate::net::syslog::{FACILITIES, Syslog};

/// What lines begin with where nothing is said.
const TAG: &str = "nginx";
/// Longest tag in bytes.
const TAG_MAX: usize = 32;

/// Reads what stands behind `syslog:`.
pub fn read(parameters: &[u8], args: &Args<'_>) -> Result<Arc<Syslog>, Problem> {
    let (mut server, mut facility, mut severity, mut tag, mut named) = (None, None, None, None, true);
    for word in parameters.split(|&b| b == b',') {
        let (name, value) = word.split_at(word.iter().position(|&b| b == b'=').map_or(word.len(), |at| at + 1));
        let shown = text(value);
        let duplicate = match name {
            b"server=" => server.replace(find(value, args)?).is_some(),
            b"facility=" => facility.replace(number(&FACILITIES, "facility", &shown)?).is_some(),
            b"severity=" => {
                severity.replace(number(&Level::NAMES.map(|(name, _)| name), "severity", &shown)?).is_some()
            }
            b"tag=" => tag.replace(tagged(value)?).is_some(),
            b"nohostname" => {
                named = false;
                false
            }
            _ => return Err(Problem::new(format!("unknown syslog parameter \"{}\"", text(word)))),
        };
        if duplicate {
            let name = text(name.strip_suffix(b"=").unwrap_or(name)).into_owned();
            return Err(Problem::new(format!("duplicate syslog \"{name}\"")));
        }
    }
    Ok(Arc::new(Syslog {
        server: server.ok_or_else(|| Problem::new("no syslog server specified"))?,
        facility: facility.unwrap_or(23),
        severity: severity.unwrap_or(6),
        tag: tag.unwrap_or_else(|| TAG.to_owned()),
        hostname: named.then(hostname),
        socket: Mutex::default(),
    }))
}

fn find(value: &[u8], args: &Args<'_>) -> Result<addr::Endpoint, Problem> {
    let found = addr::peer(value).and_then(|url| url.endpoints(514, |host| args.env.files.lookup(host)));
    let problem = |error: String| Problem::new(format!("{error} in syslog server \"{}\"", text(value)));
    found.map_err(|error| problem(error.to_string()))?.into_iter().next().ok_or_else(|| problem("no host".to_owned()))
}

fn number(names: &[&str], what: &str, value: &str) -> Result<u8, Problem> {
    let found = names.iter().position(|name| *name == value).and_then(|at| u8::try_from(at).ok());
    found.ok_or_else(|| Problem::new(format!("unknown syslog {what} \"{value}\"")))
}

fn tagged(value: &[u8]) -> Result<String, Problem> {
    if value.len() > TAG_MAX {
        return Err(Problem::new("syslog tag length exceeds 32"));
    }
    if !value.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
        return Err(Problem::new("syslog \"tag\" only allows alphanumeric characters and underscore"));
    }
    Ok(text(value).into_owned())
}

fn hostname() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

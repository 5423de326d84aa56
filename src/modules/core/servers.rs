//! `server_name` and what every server has without saying so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::Conf;
use super::listen::ListenArg;
use crate::conf::args::text;
use crate::conf::{Args, Problem};
use crate::net::addr::Endpoint;
use crate::http::host::Name;

/// `server_name`: exact names, wildcards, `~pattern`, `$hostname`.
pub fn server_name(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    for (index, word) in args.words().enumerate() {
        let invalid = matches!(word, [b'*'] | [b'*', _] | [b'.']) || (word.first() == Some(&b'*') && word.get(1) != Some(&b'.'));
        if invalid {
            return Err(Problem::new(format!("server name \"{}\" is invalid", text(word))).at(index));
        }
        if word.contains(&b'/') {
            args.warn(format!("server name \"{}\" has suspicious symbols", text(word)));
        }
        let (name, shown) = match word.strip_prefix(b"~") {
            Some(b"") => return Err(Problem::new(format!("empty regex in server name \"{}\"", text(word))).at(index)),
            Some(source) => {
                let caseless = source.iter().any(u8::is_ascii_uppercase);
                let pattern = crate::modules::rewrite::pattern(source, caseless, args).map_err(|problem| problem.at(index))?;
                (Name::Regex(pattern), word.to_vec())
            }
            None if word.eq_ignore_ascii_case(b"$hostname") => {
                let name = hostname();
                (Name::Text(name.clone()), name)
            }
            None => (Name::Text(word.to_ascii_lowercase()), word.to_ascii_lowercase()),
        };
        if conf.names.is_empty() {
            conf.server.name = shown.strip_prefix(b".").map_or_else(|| Bytes::from(shown.clone()), Bytes::copy_from_slice);
        }
        conf.names.push(name);
    }
    Ok(())
}

/// Gives a server what it did not say: an address, an empty name, and the settings its requests share.
pub fn complete(conf: &mut Conf) {
    if conf.names.is_empty() {
        conf.server.name = Bytes::new();
        conf.names.push(Name::Text(Vec::new()));
    }
    if conf.listens.is_empty() {
        let port = if nix::unistd::geteuid().is_root() { 80 } else { 8000 };
        let any = Endpoint::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        conf.listens.push(ListenArg::new(vec![any], parser::ast::Span::default()));
    }
    conf.core.server = Arc::new(conf.server.clone());
}

/// Takes a server's addresses and names.
pub fn take(conf: &mut Conf) -> (Vec<ListenArg>, Vec<Name>) {
    (std::mem::take(&mut conf.listens.0), std::mem::take(&mut conf.names.0))
}

fn hostname() -> Vec<u8> {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().to_ascii_lowercase().into_bytes()
}

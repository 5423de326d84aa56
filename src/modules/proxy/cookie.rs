//! `proxy_cookie_domain`, `proxy_cookie_path`, `proxy_cookie_flags`: attributes of `Set-Cookie` that are rewritten.

use crate::conf::{Args, Problem};
use crate::http::Request;

/// The rules.
#[derive(Clone, Default)]
pub struct Conf;

/// `proxy_cookie_domain`.
pub fn domain(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    later(args)
}

/// `proxy_cookie_path`.
pub fn path(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    later(args)
}

/// `proxy_cookie_flags`.
pub fn flags(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    later(args)
}

fn later(args: &mut Args<'_>) -> Result<(), Problem> {
    if args.len() == 1 && args.word(0) == b"off" {
        return Ok(());
    }
    Err(Problem::tail("is not supported yet"))
}

/// What a cookie becomes; nothing where no rule fits.
pub fn rewrite(_: &Conf, _: &[u8], _: &mut Request) -> Option<Vec<u8>> {
    None
}

//! `secure_link`: links that a secret vouches for, until a time.
//!
//! <https://nginx.org/en/docs/http/ngx_http_secure_link_module.html>

use bytes::Bytes;
use md5::{Digest, Md5};

use super::Seal;
use crate::conf::{Args, Contexts, Diag, Directive, Local, Problem, on, units};
use crate::http::escape::base64;
use crate::http::variable::variable;
use crate::http::{Request, Value, Variable};
use crate::net::clock;

/// `ngx_http_secure_link_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    link: Option<Value>,
    md5: Option<Value>,
    secret: Option<Bytes>,
    /// Whether this scope itself has an expression, and a secret.
    own: Local<(bool, bool)>,
}

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Conf;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("secure_link", Contexts::SCOPES, 1..=1, |c, a| {
            c.mention(true)?;
            a.set(&mut c.link)
        }),
        on("secure_link_md5", Contexts::SCOPES, 1..=1, |c, a| {
            c.mention(true)?;
            a.set(&mut c.md5)
        }),
        on("secure_link_secret", Contexts::SCOPES, 1..=1, secret),
    ];

    const VARIABLES: &'static [Variable<Conf>] =
        &[variable("secure_link", |conf, r, _, out| conf.judge(r, out)), variable("secure_link_expires", expires)];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Conf, Diag> {
        Ok(conf)
    }
}

impl Conf {
    /// Notes which of its two ways this scope takes; the other is not inherited.
    fn mention(&mut self, link: bool) -> Result<(), Problem> {
        if self.own.0 == (!link, link) {
            let problem = "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"";
            return Err(Problem::new(problem));
        }
        if self.own.0 == (false, false) {
            if link {
                self.secret = None;
            } else {
                (self.link, self.md5) = (None, None);
            }
            self.own.0 = (link, !link);
        }
        Ok(())
    }

    /// Whether the link is right: `1`, `0` if its time is over, or for a secret word the rest of the link.
    fn judge(&self, request: &Request, out: &mut Vec<u8>) -> bool {
        if let Some(secret) = &self.secret {
            let found = word(&request.target, secret);
            out.extend_from_slice(found.unwrap_or_default());
            return found.is_some();
        }
        let (Some(link), Some(md5)) = (&self.link, &self.md5) else { return false };
        let link = link.get(request);
        let (hash, time) = split(&link);
        let Some(time) = time.map_or(Some(0), |time| units::number(time).filter(|&time| time > 0)) else {
            return false;
        };
        let decoded = (hash.len() <= 24).then(|| base64url(hash)).flatten();
        if !decoded.is_some_and(|decoded| same(&decoded, &Md5::digest(md5.get(request)))) {
            return false;
        }
        out.push(if time > 0 && time < clock::now().0.as_secs() { b'0' } else { b'1' });
        true
    }
}

/// The hash and the time behind a comma.
fn split(link: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = link.splitn(2, |&b| b == b',');
    (parts.next().unwrap_or_default(), parts.next())
}

fn expires(conf: &Conf, request: &Request, _: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(link) = conf.link.as_ref().filter(|_| conf.secret.is_none() && conf.md5.is_some()) else { return false };
    let link = link.get(request);
    let time = split(&link).1.filter(|time| units::number(time).is_some_and(|time| time > 0));
    out.extend_from_slice(time.unwrap_or_default());
    time.is_some()
}

/// The rest of `/prefix/hash/rest` if the hash is that of the rest and the secret.
fn word<'a>(target: &'a [u8], secret: &[u8]) -> Option<&'a [u8]> {
    let mut parts = target.get(1..)?.splitn(3, |&b| b == b'/');
    let (_, hash, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if hash.len() != 32 || rest.is_empty() {
        return None;
    }
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    let given: Option<Vec<u8>> = hash.chunks(2).map(byte).collect();
    same(&given?, &Md5::new().chain_update(rest).chain_update(secret).finalize()).then_some(rest)
}

/// Compares in a time that says nothing of where the two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let plain = text.iter().map(|&b| match b {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'+' | b'/' => None,
        other => Some(other),
    });
    base64(&plain.collect::<Option<Vec<u8>>>()?)
}

fn secret(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    conf.mention(false)?;
    conf.secret = Some(Bytes::copy_from_slice(args.word(0)));
    Ok(())
}

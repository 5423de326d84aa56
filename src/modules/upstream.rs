//! What upstream servers did, as variables: <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#variables>

use std::time::Duration;

use super::Seal;
use crate::conf::{Contexts, Diag, Directive, on};
use crate::http::request::Attempt;
use crate::http::variable::variable;
use crate::http::{Headers, Known, Request, Variable};
use crate::net::clock;

/// `ngx_http_upstream_module`.
pub struct Module;

/// What is declared once.
#[derive(Debug, Default)]
pub struct Main {
    /// Whether names that are not found do not keep the server from starting, and plain names are looked up while it serves.
    pub start_unresolved: bool,
}

impl super::Module for Module {
    type Conf = ();
    type Main = Main;
    type Loc = ();

    const MAIN_DIRECTIVES: &'static [Directive<Main>] =
        &[on("upstream_start_unresolved", Contexts::HTTP, 1..=1, |m, a| a.set(&mut m.start_unresolved))];

    const VARIABLES: &'static [Variable<()>] = &[
        variable("upstream_addr", |(), r, _, out| each(r, out, |attempt, out| out.extend_from_slice(&attempt.addr))),
        variable("upstream_status", |(), r, _, out| {
            each(r, out, |attempt, out| match attempt.status {
                0 => out.push(b'-'),
                status => out.extend_from_slice(status.to_string().as_bytes()),
            })
        }),
        variable("upstream_connect_time", |(), r, _, out| each(r, out, |attempt, out| time(attempt.connect_time, out))),
        variable("upstream_header_time", |(), r, _, out| each(r, out, |attempt, out| time(attempt.header_time, out))),
        variable("upstream_response_time", |(), r, _, out| each(r, out, |attempt, out| time(attempt.response_time, out))),
        variable("upstream_response_length", |(), r, _, out| each(r, out, |attempt, out| number(attempt.length, out))),
        variable("upstream_bytes_sent", |(), r, _, out| each(r, out, |attempt, out| number(attempt.sent, out))),
        variable("upstream_bytes_received", |(), r, _, out| each(r, out, |attempt, out| number(attempt.received, out))),
        variable("upstream_http_", header),
        variable("upstream_trailer_", |(), r, name, out| named(&r.upstream.attempts.trailers.borrow(), name, out)),
        variable("upstream_cookie_", cookie),
        variable("upstream_cache_status", |(), _, _, _| false),
    ];

    fn seal((): (), _: &Main, _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }
}

/// Joins what each try has to say as nginx does: commas between servers.
fn each(request: &Request, out: &mut Vec<u8>, one: fn(&Attempt, &mut Vec<u8>)) -> bool {
    let attempts = request.upstream.attempts.borrow();
    for (index, attempt) in attempts.iter().enumerate() {
        if index > 0 {
            let separator: &[u8] = if attempt.after_jump { b" : " } else { b", " };
            out.extend_from_slice(separator);
        }
        one(attempt, out);
    }
    !attempts.is_empty()
}

fn time(time: Option<Duration>, out: &mut Vec<u8>) {
    match time {
        Some(time) => clock::seconds(time, out),
        None => out.push(b'-'),
    }
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn header((): &(), request: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    request.upstream.headers.as_ref().is_some_and(|headers| named(headers, name, out))
}

/// The values of the fields of this name, which is folded.
fn named(headers: &Headers, name: &[u8], out: &mut Vec<u8>) -> bool {
    let fold = |b: &u8| if *b == b'-' { b'_' } else { b.to_ascii_lowercase() };
    let same = headers.iter().filter(|field| field.name.len() == name.len() && field.name.iter().map(fold).eq(name.iter().copied()));
    let mut found = false;
    for field in same {
        if found {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(field.value);
        found = true;
    }
    found
}

fn cookie((): &(), request: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(headers) = &request.upstream.headers else { return false };
    let value = headers.all(Known::SetCookie).find_map(|line| {
        let (key, rest) = line.split_at_checked(name.len())?;
        let value = trim_spaces(rest).strip_prefix(b"=").filter(|_| key.eq_ignore_ascii_case(name))?;
        trim_spaces(value).split(|&b| b == b';').next()
    });
    value.is_some_and(|value| {
        out.extend_from_slice(value);
        true
    })
}

/// Without the spaces in front; tabs are none.
fn trim_spaces(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&b| b != b' ').unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

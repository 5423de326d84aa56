//! What says when not to cache: <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache_bypass>
//!
//! There are no caches yet, and naming one is an error that says so. Without one these directives have no effect in nginx
//! either; WebSocket recipes use them all the same.

use super::Conf;
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Directive, Field, Problem, many, on};
use crate::http::Value;

const SCOPES: Contexts = Contexts::SCOPES;

/// Rows without their prefix.
pub const UNCACHED: &[Directive<Conf>] = &[
    on("cache", SCOPES, 1..=1, |_, a| match a.word(0) {
        b"off" => Ok(()),
        _ => Err(Problem::new(format!("\"{}\" directive is not supported yet", text(a.name())))),
    }),
    many("cache_bypass", SCOPES, 1..=255, |_, a| values(a)),
    many("no_cache", SCOPES, 1..=255, |_, a| values(a)),
];

fn values(args: &mut Args<'_>) -> Result<(), Problem> {
    (0..args.len()).try_for_each(|index| Value::read(args.word(index), args).map(drop))
}

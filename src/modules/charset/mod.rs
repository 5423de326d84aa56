//! The charset of texts: <https://nginx.org/en/docs/http/ngx_http_charset_module.html>

use std::sync::Arc;

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Diag, Directive, Problem, block, many, on};
use crate::http::mime::{NamedTypes, TypeSet, split};
use crate::http::value::Part;
use crate::http::{Body, Head, Known, Request, Value};
use crate::net::Level;

mod recode;
mod table;

use recode::Recode;
use table::Tables;

/// `ngx_http_charset_module`.
pub struct Module;

/// Settings of a scope; a charset that is none is `off`.
#[derive(Clone, Default)]
pub struct Conf {
    /// The charset that responses get.
    pub charset: Option<Value>,
    source: Option<Value>,
    override_own: bool,
    types: NamedTypes,
}

/// What requests read.
pub struct Loc {
    conf: Conf,
    types: Arc<TypeSet>,
    tables: Arc<Tables>,
}

impl super::Module for Module {
    type Conf = Conf;
    type Main = Arc<Tables>;
    type Loc = Loc;
    const PHASES: Phases = Phases::FILTER;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("charset", Contexts::SCOPES_IF, 1..=1, |c, a| {
            c.charset = if a.word(0) == b"off" { None } else { Some(name(a)?) };
            Ok(())
        }),
        on("source_charset", Contexts::SCOPES_IF, 1..=1, |c, a| {
            c.source = Some(name(a)?);
            Ok(())
        }),
        on("override_charset", Contexts::SCOPES_IF, 1..=1, |c, a| a.set(&mut c.override_own)),
        many("charset_types", Contexts::SCOPES, 1..=255, |c, a| {
            c.types.add(a);
            Ok(())
        }),
    ];

    const MAIN_DIRECTIVES: &'static [Directive<Arc<Tables>>] =
        &[block("charset_map", Contexts::HTTP, 2..=2, |tables, args| Arc::make_mut(tables).add(args))];

    fn seal(conf: Conf, tables: &Arc<Tables>, _: &mut Seal<'_>) -> Result<Loc, Diag> {
        let literal = |value: &Option<Value>| value.as_ref().and_then(Value::as_literal).cloned();
        if let (Some(from), Some(to)) = (literal(&conf.source), literal(&conf.charset))
            && !from.eq_ignore_ascii_case(&to)
            && tables.find(&from, &to).is_none()
        {
            return Err(Diag::general(missing(&from, &to), None));
        }
        [&conf.charset, &conf.source].into_iter().filter_map(literal).for_each(|name| tables.note(&name));
        let types = conf.types.or(&TYPES);
        Ok(Loc { conf, types, tables: Arc::clone(tables) })
    }

    fn filter(loc: &Loc, request: &Request, head: &mut Head, body: Body) -> Body {
        let Some((to, own)) = loc.destination(request, head) else { return body };
        let from = own.or_else(|| loc.conf.source.as_ref().map(|source| source.bytes(request)));
        let Some(from) = from.filter(|from| !from.eq_ignore_ascii_case(&to)) else {
            set(head, to);
            return body;
        };
        if head.headers.get(Known::ContentEncoding).is_some_and(|coding| !coding.is_empty()) {
            return body;
        }
        let Some(table) = loc.tables.find(&from, &to) else {
            request.log(Level::Error, &missing(&from, &to));
            return body;
        };
        set(head, to);
        if table.changes_length() {
            head.content_length = None;
        }
        Recode::new(table).body(body)
    }
}

/// Types that have a charset where `charset_types` names none.
const TYPES: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

/// A charset's name, or a variable that holds one.
fn name(args: &mut Args<'_>) -> Result<Value, Problem> {
    match args.word(0) {
        b"$" => Err(Problem::new("invalid variable name \"$\"").at(0)),
        // Whatever follows the sign is the name.
        [b'$', name @ ..] => {
            let at = args.directive().args.first().map(|word| word.span);
            Ok(Value::Mix(vec![Part::Variable(args.env.names.id(&text(name), at))]))
        }
        word => Ok(Value::literal(Bytes::copy_from_slice(word))),
    }
}

fn missing(from: &[u8], to: &[u8]) -> String {
    format!("no \"charset_map\" between the charsets \"{}\" and \"{}\"", text(from), text(to))
}

impl Loc {
    /// The charset a response is to have, and the one it says it has.
    fn destination(&self, request: &Request, head: &mut Head) -> Option<(Bytes, Option<Bytes>)> {
        let value = head.content_type.as_deref().filter(|kind| !kind.is_empty())?;
        // Only an upstream's type is taken apart; one of `default_type` is what it is.
        let (kind, own) = match request.upstream.headers {
            Some(_) => split(value),
            None => (value, None),
        };
        let own = own.or(head.charset.clone());
        if let Some(named) = request.charset.clone().filter(|named| !named.is_empty()) {
            if self.knows(&named) {
                return Some((named, own));
            }
            request.log(Level::Error, &format!("unknown charset \"{}\" to override", text(&named)));
            return None;
        }
        let charset = self.conf.charset.as_ref()?;
        let wanted = if own.is_some() { self.conf.override_own } else { self.types.has(kind) };
        wanted.then(|| (charset.bytes(request), own)).filter(|(charset, _)| !charset.is_empty())
    }

    fn knows(&self, name: &[u8]) -> bool {
        self.tables.knows(name)
    }
}

/// Gives a response its charset. Redirects have none: old browsers took it for that of the page they lead to.
fn set(head: &mut Head, charset: Bytes) {
    let value = head.content_type.take().unwrap_or_default();
    let (kind, own) = split(&value);
    head.content_type = Some(if own.is_some() { value.slice_ref(kind) } else { value.clone() });
    head.charset = Some(charset).filter(|_| !matches!(head.status, 301 | 302));
}

//! Directives that nginx knows and this server does not support yet, and words for those that nobody knows.
//!
//! `later.tsv` is that list: a row leaves it when a module brings the directive.

use std::collections::HashMap;

use parser::ast::Directive;

use crate::conf::{Contexts, Diag};
use crate::modules::Row;

const LIST: &str = include_str!("later.tsv");

/// A row of the list.
pub struct Later {
    /// nginx's module.
    pub module: &'static str,
    /// The directive.
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: Contexts,
    /// Fewest and most arguments.
    pub args: (u8, u8),
    /// Whether it opens a block.
    pub block: bool,
}

/// The whole list.
pub fn list() -> impl Iterator<Item = Later> {
    LIST.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut fields = line.split('\t');
        let (module, name) = (fields.next()?, fields.next()?);
        let contexts = Contexts(fields.next()?.parse().ok()?);
        let args = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Later { module, name, contexts, args, block: fields.next()? == "block" })
    })
}

/// What is to be said of a directive that no module has.
pub fn judge(name: &str, item: &Directive, context: Contexts, rows: &HashMap<String, Vec<Row>>) -> Diag {
    let error = |problem: String| Diag::error(problem, item.end, item.name.span);
    let found: Vec<Later> = list().filter(|later| later.name == name).collect();
    let Some(first) = found.first() else {
        let diag = error(format!("unknown directive \"{name}\""));
        let known = list().map(|later| later.name).chain(rows.keys().map(String::as_str));
        return match (foreign(name), nearest(name, known)) {
            (Some(note), _) => diag.note(note),
            (None, Some(near)) => diag.note(format!("did you mean \"{near}\"?")),
            (None, None) => diag,
        };
    };
    let Some(later) = found.iter().find(|later| later.contexts.meets(context)) else {
        let places = first.contexts.words().join(", ");
        return error(format!("\"{name}\" directive is not allowed here")).note(format!("it may stand in: {places}"));
    };
    let count = u8::try_from(item.args.len()).unwrap_or(u8::MAX);
    match (later.block, item.block.is_some()) {
        (true, false) => error(format!("directive \"{name}\" has no opening \"{{\"")),
        (false, true) => error(format!("directive \"{name}\" is not terminated by \";\"")),
        _ if count < later.args.0 || count > later.args.1 => {
            error(format!("invalid number of arguments in \"{name}\" directive"))
        }
        _ => {
            error(format!("\"{name}\" directive is not supported yet")).note(format!("it belongs to {}", later.module))
        }
    }
}

/// The known name that `name` is most likely meant to be.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|other| (strsim::damerau_levenshtein(name, other), other)).min()?;
    (near.0 <= 1 + name.len() / 6 && near.0 < name.len()).then_some(near.1)
}

/// Where a directive comes from that nginx itself does not have.
fn foreign(name: &str) -> Option<String> {
    const PREFIXES: [(&str, &str); 10] = [
        ("more_", "the third-party module headers-more"),
        ("set_by_lua", "the third-party module lua"),
        ("content_by_lua", "the third-party module lua"),
        ("access_by_lua", "the third-party module lua"),
        ("lua_", "the third-party module lua"),
        ("brotli", "the third-party module brotli"),
        ("push_stream_", "the third-party module push-stream"),
        ("upload_", "the third-party module upload"),
        ("rtmp", "the third-party module rtmp"),
        ("passenger_", "the third-party module passenger"),
    ];
    const PLUS: [&str; 9] = [
        "match",
        "status",
        "queue",
        "state",
        "status_zone",
        "health_check",
        "sticky_cookie_insert",
        "ntlm",
        "zone_sync",
    ];
    if name == "ssl" {
        return Some("nginx 1.25.1 removed it: write \"listen … ssl\" instead".to_owned());
    }
    if PLUS.contains(&name) {
        return Some("it belongs to NGINX Plus".to_owned());
    }
    let (_, module) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    Some(format!("it belongs to {module}"))
}

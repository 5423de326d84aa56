//! Directives that nginx knows and this server does not support yet, and words for those that nobody knows.
//!
//! `later.tsv` is that list: a row leaves it when a module brings the directive.

use std::collections::HashMap;

use parser::ast::Directive;

use super::foreign;
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
        return match (foreign::note(name), nearest(name, known)) {
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

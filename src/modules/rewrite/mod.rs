//! `rewrite`, `if`, `set`, `return` and `break`: <https://nginx.org/en/docs/http/ngx_http_rewrite_module.html>
//!
//! A scope's directives are a program that runs from top to bottom; `if` is the only one that holds others.

use std::sync::Arc;

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Diag, Directive, Field, Local, Problem, many, units};
use crate::http::pattern::Pattern;
use crate::http::{Flow, Request, Value};

mod condition;
mod program;

pub use condition::{Condition, groups, matches};
pub use program::{After, Op, Rewrite};

/// `ngx_http_rewrite_module`.
pub struct Module;

/// The program of one scope.
#[derive(Clone, Default)]
pub struct Conf {
    program: Local<Vec<Op>>,
}

const ANYWHERE: Contexts =
    Contexts(Contexts::SERVER.0 | Contexts::LOCATION.0 | Contexts::SERVER_IF.0 | Contexts::LOCATION_IF.0);

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Vec<Op>;
    const PHASES: Phases = Phases::REWRITE;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        many("rewrite", ANYWHERE, 2..=3, rewrite),
        many("return", ANYWHERE, 1..=2, return_),
        many("break", ANYWHERE, 0..=0, |c, _| c.push(Op::Break)),
        many("set", ANYWHERE, 2..=2, set),
    ];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Vec<Op>, Diag> {
        Ok(conf.program.0)
    }

    fn rewrite(program: &Vec<Op>, request: &mut Request) -> Flow {
        if program.is_empty() { Flow::Next } else { program::run(program, request) }
    }
}

impl Conf {
    fn push(&mut self, op: Op) -> Result<(), Problem> {
        self.program.push(op);
        Ok(())
    }
}

/// Reads an `if`'s condition and keeps its place; [`close_if`] brings what is inside.
pub fn open_if(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let condition = Condition::read(args)?;
    conf.push(Op::If { condition, number: usize::MAX, program: Vec::new() })
}

/// Puts the program of `if` number `number` into the first `if` that has none.
pub fn close_if(conf: &mut Conf, number: usize, inner: &mut Conf) {
    let waiting = conf.program.iter_mut().find_map(|op| match op {
        Op::If { number: place, program, .. } if *place == usize::MAX => Some((place, program)),
        _ => None,
    });
    if let Some((place, program)) = waiting {
        *place = number;
        *program = std::mem::take(&mut inner.program.0);
    }
}

/// Compiles a pattern and gives its named groups slots.
pub fn pattern(source: &[u8], caseless: bool, args: &mut Args<'_>) -> Result<Arc<Pattern>, Problem> {
    let pattern = Pattern::new(source, caseless).map_err(|error| Problem::new(error.to_string()))?;
    for (name, _) in pattern.names() {
        args.env.names.slot(name, Some(args.directive().end));
    }
    Ok(Arc::new(pattern))
}

fn is_url(word: &[u8]) -> bool {
    [&b"http://"[..], b"https://", b"$scheme"].iter().any(|prefix| word.starts_with(prefix))
}

fn rewrite(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let pattern = pattern(args.word(0), false, args).map_err(|problem| problem.at(0))?;
    let groups = condition::groups(&pattern, args);
    let full = args.word(1);
    if full.is_empty() {
        return Err(Problem::new("empty replacement").at(1));
    }
    let replacement = full.strip_suffix(b"?").unwrap_or(full);
    let mut after = if is_url(full) { After::Redirect(302) } else { After::GoOn };
    match args.get(2) {
        None => {}
        // A URL redirects whatever the flag says, but a flag still ends the program.
        Some(b"last") if after == After::GoOn => after = After::Last,
        Some(b"break") if after == After::GoOn => after = After::Break,
        Some(b"last" | b"break") => {}
        Some(b"redirect") => after = After::Redirect(302),
        Some(b"permanent") => after = After::Redirect(301),
        Some(flag) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(flag))).at(2)),
    }
    let redirect = matches!(after, After::Redirect(_));
    // Arguments are split off only where the URI stays inside the server.
    let (path, query) = match replacement.iter().position(|&b| b == b'?') {
        Some(at) if !redirect => {
            let (path, query) = replacement.split_at(at);
            (path, Some(query.get(1..).unwrap_or_default()))
        }
        _ => (replacement, None),
    };
    let path = Value::parse(path, &mut args.env.names, None).map_err(|problem| problem.at(1))?;
    let query = query.map(|query| Value::parse(query, &mut args.env.names, None)).transpose()?;
    conf.push(Op::Rewrite(Box::new(Rewrite {
        pattern,
        groups,
        path,
        query,
        has_query: replacement.contains(&b'?'),
        keep_args: replacement.len() == full.len(),
        after,
    })))
}

fn return_(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let (status, value) = match (units::number(word), args.len()) {
        (Some(status), _) if status <= 999 => (u16::try_from(status).unwrap_or(999), args.get(1)),
        (None, 1) if is_url(word) => (302, Some(word)),
        _ => return Err(Problem::new(format!("invalid return code \"{}\"", text(word))).at(0)),
    };
    let value = match value {
        Some(value) => Some(Value::read(value, args)?),
        None => None,
    };
    conf.push(Op::Return { status, value })
}

fn set(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let Some(name) = args.word(0).strip_prefix(b"$").filter(|name| !name.is_empty()) else {
        return Err(Problem::new(format!("invalid variable name \"{}\"", text(args.word(0)))).at(0));
    };
    let at = args.directive().args.first().map(|word| word.span);
    let id = args.env.names.set(&text(name), at);
    let value = Value::read(args.word(1), args).map_err(|problem| problem.at(1))?;
    conf.push(Op::Set { id, value })
}

/// `text/plain`-typed texts of `return` take the location's default type.
pub fn default_type(request: &Request) -> Bytes {
    request.core().content_type(request)
}

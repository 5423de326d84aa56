//! The condition of an `if`: <https://nginx.org/en/docs/http/ngx_http_rewrite_module.html#if>

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::conf::args::text;
use crate::conf::names::VarId;
use crate::conf::{Args, Field, Problem};
use crate::http::pattern::Pattern;
use crate::http::value::Part;
use crate::http::{Request, Value, disk};
use crate::net::Level;

/// Slots of a pattern's named groups.
pub type Groups = Vec<(u16, VarId)>;

/// A test of a request.
#[derive(Clone)]
pub enum Condition {
    /// The variable is neither empty nor `0`.
    True(Value),
    /// Both are the same, or (`false`) are not.
    Equal(Value, Value, bool),
    /// The pattern matches, or (`false`) does not.
    Matches(Value, Arc<Pattern>, Groups, bool),
    /// The file is of that kind, or (`false`) is not.
    File(Value, Kind, bool),
}

/// What a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `-f`.
    Plain,
    /// `-d`.
    Directory,
    /// `-e`.
    Exists,
    /// `-x`.
    Executable,
}

impl Condition {
    /// Reads the words between the parentheses.
    pub fn read(args: &mut Args<'_>) -> Result<Self, Problem> {
        let words = inside(args)?;
        let invalid = |word: &[u8]| Problem::new(format!("invalid condition \"{}\"", text(word)));
        let first = words.first().copied().unwrap_or_default();
        if let Some(name @ [_, ..]) = first.strip_prefix(b"$") {
            // All of the word is the variable's name.
            let at = args.directive().args.first().map(|word| word.span);
            let left = Value::Mix(vec![Part::Variable(args.env.names.id(&text(name), at))]);
            return match words.as_slice() {
                [_] => Ok(Condition::True(left)),
                [_, operator, right] => comparison(left, operator, right, args),
                _ => Err(invalid(first)),
            };
        }
        let (test, expected) = match first.strip_prefix(b"!") {
            Some(test) => (test, false),
            None => (first, true),
        };
        let kind = match test {
            b"-f" => Kind::Plain,
            b"-d" => Kind::Directory,
            b"-e" => Kind::Exists,
            b"-x" => Kind::Executable,
            _ => return Err(invalid(first)),
        };
        match words.as_slice() {
            [_, path] => Ok(Condition::File(Value::read(path, args)?, kind, expected)),
            _ => Err(invalid(first)),
        }
    }

    /// Whether it holds; a match leaves its captures on the request.
    pub fn holds(&self, request: &mut Request) -> bool {
        match self {
            Condition::True(value) => !matches!(&*value.get(request), b"" | b"0"),
            Condition::Equal(left, right, expected) => (left.get(request) == right.get(request)) == *expected,
            Condition::Matches(value, pattern, groups, expected) => {
                let subject = value.bytes(request);
                matches(request, &subject, pattern, groups) == *expected
            }
            Condition::File(path, kind, expected) => {
                is(request, &path.get(request), *kind) == *expected
            }
        }
    }
}

/// Matches `subject`; a success leaves its captures and named groups on the request, a failure clears them.
pub fn matches(request: &mut Request, subject: &Bytes, pattern: &Pattern, groups: &Groups) -> bool {
    let Some(captures) = pattern.captures(subject) else {
        request.vars.set_captures(Bytes::new(), Vec::new());
        return false;
    };
    for (group, id) in groups {
        let range = captures.get(usize::from(*group)).copied().flatten();
        let value = range.map_or(Bytes::new(), |(start, end)| subject.slice(start as usize..end as usize));
        request.assign(*id, value);
    }
    request.vars.set_captures(subject.clone(), captures);
    true
}

/// The slots of a pattern's named groups.
pub fn groups(pattern: &Pattern, args: &mut Args<'_>) -> Groups {
    let names = pattern.names().iter();
    names.map(|(name, group)| (*group, args.env.names.slot(name, None))).collect()
}

fn comparison(left: Value, operator: &[u8], right: &[u8], args: &mut Args<'_>) -> Result<Condition, Problem> {
    let (operator_only, expected) = match operator.strip_prefix(b"!") {
        Some(rest) => (rest, false),
        None => (operator, true),
    };
    match operator_only {
        b"=" => Ok(Condition::Equal(left, Value::read(right, args)?, expected)),
        b"~" | b"~*" => {
            let pattern = super::pattern(right, operator_only == b"~*", args)?;
            let groups = groups(&pattern, args);
            Ok(Condition::Matches(left, pattern, groups, expected))
        }
        _ => Err(Problem::new(format!("unexpected \"{}\" in condition", text(operator)))),
    }
}

/// The words of a condition without its parentheses, which may touch them.
fn inside<'a>(args: &Args<'a>) -> Result<Vec<&'a [u8]>, Problem> {
    let invalid = |word: &[u8], at: usize| Problem::new(format!("invalid condition \"{}\"", text(word))).at(at);
    let mut words: Vec<&[u8]> = args.words().collect();
    let last = words.len().saturating_sub(1);
    let Some(first) = words.first_mut() else { return Err(invalid(b"", 0)) };
    *first = first.strip_prefix(b"(").ok_or_else(|| invalid(first, 0))?;
    let Some(end) = words.get_mut(last) else { return Err(invalid(b"", 0)) };
    *end = end.strip_suffix(b")").ok_or_else(|| invalid(end, last))?;
    if words.last().is_some_and(|word| word.is_empty()) {
        words.pop();
    }
    if words.first().is_some_and(|word| word.is_empty()) {
        words.remove(0);
    }
    Ok(words)
}

fn is(request: &Request, path: &[u8], kind: Kind) -> bool {
    let found = match disk::stat(request, path) {
        Ok(found) => found,
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename) {
                disk::log(request, Level::Crit, "stat()", path, &error);
            }
            return false;
        }
    };
    match kind {
        Kind::Plain => found.is_file(),
        Kind::Directory => found.is_dir(),
        Kind::Exists => true,
        Kind::Executable => found.permissions().mode() & 0o100 != 0,
    }
}

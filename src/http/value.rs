//! Values with variables in them, compiled once: `"$scheme://$host$request_uri"`.

use std::borrow::Cow;

use bytes::Bytes;
use parser::ast::Span;

use super::request::Request;
use crate::conf::names::{Names, VarId};
use crate::conf::{Args, Field, Problem, units};

/// A literal, or a mix of literals, variables and captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes without a variable.
    Literal(Bytes),
    /// Pieces to join.
    Mix(Vec<Part>),
}

/// A piece of a [`Value`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes.
    Literal(Bytes),
    /// `$name` or `${name}`.
    Variable(VarId),
    /// `$1` … `$9` of the last regular expression that matched.
    Capture(u8),
}

impl Default for Value {
    fn default() -> Self {
        Value::Literal(Bytes::new())
    }
}

impl Field for Value {
    fn read(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem> {
        let at = place(word, args);
        Value::parse(word, &mut args.env.names, at)
    }
}

/// Where `word` stands.
fn place(word: &[u8], args: &Args<'_>) -> Option<Span> {
    let at = args.directive().args.iter().find(|other| other.text.as_ptr_range().contains(&word.as_ptr()));
    at.map(|word| word.span)
}

impl Value {
    /// Compiles `text`; `at` is where it stands.
    pub fn parse(text: &[u8], names: &mut Names, at: Option<Span>) -> Result<Self, Problem> {
        Self::compile(text, &mut |name| names.id(name, at))
    }

    /// Compiles a word whose variables need only be known where a server or location has the value (`Seal::know`).
    pub fn defer(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem> {
        let at = place(word, args);
        Self::compile(word, &mut |name| args.env.names.mention(name, at)).map_err(Problem::late)
    }

    /// Reads the next argument into `field`: a number of bytes, unless variables make one.
    pub fn size(field: &mut Option<Self>, args: &mut Args<'_>) -> Result<(), Problem> {
        args.set(field)?;
        match field.as_ref().and_then(Value::as_literal) {
            Some(literal) if units::size(literal).is_none() => {
                Err(Problem::tail("invalid value").at(args.last_index()))
            }
            _ => Ok(()),
        }
    }

    fn compile(text: &[u8], id: &mut dyn FnMut(&str) -> VarId) -> Result<Self, Problem> {
        if !text.contains(&b'$') {
            return Ok(Value::Literal(Bytes::copy_from_slice(text)));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(dollar) = rest.iter().position(|&b| b == b'$') {
            let (literal, tail) = rest.split_at(dollar);
            if !literal.is_empty() {
                parts.push(Part::Literal(Bytes::copy_from_slice(literal)));
            }
            let (part, tail) = variable(tail.get(1..).unwrap_or_default(), id)?;
            parts.push(part);
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(Bytes::copy_from_slice(rest)));
        }
        Ok(Value::Mix(parts))
    }

    /// A value without variables.
    pub fn literal(text: impl Into<Bytes>) -> Self {
        Value::Literal(text.into())
    }

    /// The bytes where they hold no variable.
    pub fn as_literal(&self) -> Option<&Bytes> {
        match self {
            Value::Literal(bytes) => Some(bytes),
            Value::Mix(_) => None,
        }
    }

    /// Whether it is the empty literal.
    pub fn is_empty(&self) -> bool {
        self.as_literal().is_some_and(Bytes::is_empty)
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = VarId> {
        let parts = if let Value::Mix(parts) = self { parts.as_slice() } else { &[] };
        parts.iter().filter_map(|part| if let Part::Variable(id) = part { Some(*id) } else { None })
    }

    /// Whether `$1` … `$9` occur.
    pub fn has_captures(&self) -> bool {
        matches!(self, Value::Mix(parts) if parts.iter().any(|part| matches!(part, Part::Capture(_))))
    }

    /// Its value for `request`.
    pub fn get<'a>(&'a self, request: &Request) -> Cow<'a, [u8]> {
        match self {
            Value::Literal(bytes) => Cow::Borrowed(bytes),
            Value::Mix(_) => {
                let mut out = Vec::new();
                self.append(request, &mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Its value as shared bytes.
    pub fn bytes(&self, request: &Request) -> Bytes {
        match self {
            Value::Literal(bytes) => bytes.clone(),
            Value::Mix(_) => self.get(request).into_owned().into(),
        }
    }

    /// Appends its value to `out`.
    pub fn append(&self, request: &Request, out: &mut Vec<u8>) {
        match self {
            Value::Literal(bytes) => out.extend_from_slice(bytes),
            Value::Mix(parts) => parts.iter().for_each(|part| part.append(request, out)),
        }
    }
}

impl Part {
    /// Appends its value to `out`.
    pub fn append(&self, request: &Request, out: &mut Vec<u8>) {
        match self {
            Part::Literal(bytes) => out.extend_from_slice(bytes),
            Part::Variable(id) => {
                request.variable(*id, out);
            }
            Part::Capture(n) => out.extend_from_slice(&request.vars.capture(usize::from(*n))),
        }
    }
}

/// Reads what stands behind a `$`.
fn variable<'a>(text: &'a [u8], id: &mut dyn FnMut(&str) -> VarId) -> Result<(Part, &'a [u8]), Problem> {
    let invalid = || Problem::new("invalid variable name");
    if let Some((digit @ b'1'..=b'9', tail)) = text.split_first() {
        return Ok((Part::Capture(digit - b'0'), tail));
    }
    let (braced, text) = match text.split_first() {
        Some((b'{', [])) => return Err(invalid()),
        Some((b'{', tail)) => (true, tail),
        _ => (false, text),
    };
    let end = text.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_')).unwrap_or(text.len());
    let (name, tail) = text.split_at(end);
    let name = std::str::from_utf8(name).unwrap_or_default();
    let tail = match (braced, tail.split_first()) {
        (false, _) => tail,
        (true, Some((b'}', tail))) => tail,
        (true, _) => {
            return Err(Problem::new(format!("the closing bracket in \"{name}\" variable is missing")));
        }
    };
    match name.as_bytes() {
        [] => Err(invalid()),
        [digit @ b'1'..=b'9'] if braced => Ok((Part::Capture(digit - b'0'), tail)),
        _ => Ok((Part::Variable(id(name)), tail)),
    }
}

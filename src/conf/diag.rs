//! What is wrong with a configuration: nginx's sentence, and the source line with a caret under it.

use std::borrow::Cow;
use std::fmt;

use parser::ast::Span;

use super::load::Sources;

/// How grave a finding is, as nginx prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The configuration cannot be used.
    Emerg,
    /// Something it needs cannot be read.
    Crit,
    /// It can, but probably does not mean what it says.
    Warn,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Emerg => "emerg",
            Level::Crit => "crit",
            Level::Warn => "warn",
        })
    }
}

/// What a setter says of its arguments. It never names its directive: the walk knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    text: Cow<'static, str>,
    /// Whether the text goes on after `"name" directive `.
    tail: bool,
    /// The argument the caret belongs under; the name stands at `None`.
    pub arg: Option<usize>,
    /// Whether nginx finds it where the `http` block ends.
    pub late: bool,
}

impl Problem {
    /// A whole sentence.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), tail: false, arg: None, late: false }
    }

    /// A sentence that begins with `"name" directive `, for example `is duplicate`.
    pub fn tail(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), tail: true, arg: None, late: false }
    }

    /// The same with the caret under argument `arg` (the first is 0).
    pub fn at(self, arg: usize) -> Self {
        Self { arg: self.arg.or(Some(arg)), ..self }
    }

    /// The same, found where the `http` block ends.
    pub fn late(self) -> Self {
        Self { late: true, ..self }
    }

    /// The sentence for the directive `name`.
    pub fn sentence(&self, name: &str) -> String {
        if self.tail { format!("\"{name}\" directive {}", self.text) } else { self.text.replace("%DIRECTIVE%", name) }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diag {
    /// Its gravity.
    pub level: Level,
    /// nginx's sentence without the place.
    pub problem: String,
    /// The span on whose last line nginx puts it; `None` where nginx prints no place.
    pub line: Option<Span>,
    /// What the caret points at.
    pub caret: Option<Span>,
    /// Help that nginx does not print.
    pub notes: Vec<String>,
}

impl Diag {
    /// An error at `line`, with the caret at `caret`.
    pub fn error(problem: impl Into<String>, line: Span, caret: Span) -> Self {
        Self { level: Level::Emerg, problem: problem.into(), line: Some(line), caret: Some(caret), notes: Vec::new() }
    }

    /// An error of the whole configuration: nginx prints no place; the caret may know one.
    pub fn general(problem: impl Into<String>, caret: Option<Span>) -> Self {
        Self { level: Level::Emerg, problem: problem.into(), line: None, caret, notes: Vec::new() }
    }

    /// Whether the configuration cannot be used with it.
    pub fn is_error(&self) -> bool {
        self.level != Level::Warn
    }

    /// The same as a warning.
    pub fn warning(self) -> Self {
        Self { level: Level::Warn, ..self }
    }

    /// The same with a line of help.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// nginx's line after `[level] `: the sentence and its place.
    pub fn sentence(&self, sources: &Sources) -> String {
        match self.line {
            Some(span) => format!("{} in {}", self.problem, sources.place(span)),
            None => self.problem.clone(),
        }
    }

    /// The framed report: place, source line, caret, notes.
    pub fn render(&self, sources: &Sources) -> String {
        let what = match self.level {
            Level::Emerg | Level::Crit => "error",
            Level::Warn => "warning",
        };
        let mut out = format!("{what}: {}\n", self.problem);
        if let Some(span) = self.caret.or(self.line) {
            out.push_str(&sources.frame(span));
        }
        for note in &self.notes {
            out.push_str(&format!("  = {note}\n"));
        }
        out
    }
}

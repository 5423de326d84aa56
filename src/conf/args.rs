//! The arguments of a directive while its setter reads them, and what setters may ask of the configuration around them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parser::ast::{self, Span};

use super::diag::{Diag, Problem};
use super::field::{Field, one_of};
use super::files::Files;
use super::inherit::Bits;
use super::load::Sources;
use super::names::{Names, VarId};

/// What a configuration shares between all its setters.
pub struct Env {
    /// The `-p` prefix with a trailing slash.
    pub prefix: PathBuf,
    /// The directory of the configuration file with a trailing slash.
    pub conf_prefix: PathBuf,
    /// The variables.
    pub names: Names,
    /// How files are read.
    pub files: Arc<dyn Files>,
    /// Findings that do not stop the setter.
    pub warnings: Vec<Diag>,
    /// Host names that were looked up while compiling.
    pub hosts: HashMap<String, Vec<std::net::IpAddr>>,
    /// The files of the configuration.
    pub sources: Sources,
    /// Names that directives of one kind declare for others behind them: the kind, the name, where it stands.
    pub declared: HashMap<(&'static str, Vec<u8>), Span>,
    /// The log of requests where the configuration names none.
    pub access_log: Option<PathBuf>,
    /// Zones.
    pub zones: super::zones::Zones,
    /// The directory of all temporary files, where the prefix is not theirs.
    pub temp: Option<PathBuf>,
    /// Directories of temporary files that the configuration names.
    pub temp_paths: BTreeSet<PathBuf>,
    /// The log files that are named anywhere, used or not.
    pub log_files: Vec<PathBuf>,
    /// Whether something binds to addresses of others (`proxy_bind … transparent`).
    pub transparent: bool,
    /// Where the `http` block ends, which is where nginx compares what its scopes inherit.
    pub end: Option<Span>,
}

impl Env {
    /// An error in what a scope inherits, with the caret at `caret`.
    pub fn inherited(&self, problem: String, caret: Option<Span>) -> Diag {
        Diag { line: self.end, ..Diag::general(problem, caret) }
    }

    /// A path as nginx completes it: relative ones hang under the prefix.
    pub fn full_name(&self, path: &[u8]) -> PathBuf {
        absolute(&self.prefix, path)
    }

    /// Whether `name` of that kind is declared in front of `at`.
    pub fn is_declared(&self, kind: &'static str, name: &[u8], at: Span) -> bool {
        let found = self.declared.get(&(kind, name.to_vec()));
        found.is_some_and(|declared| self.sources.order(*declared) < self.sources.order(at))
    }

    /// Where temporary files of `what` are made by default: `client_body`, `proxy` and so on.
    pub fn temp_path(&self, what: &str) -> PathBuf {
        match &self.temp {
            Some(directory) => directory.join(what.trim_start_matches("client_")),
            None => self.prefix.join(format!("{what}_temp")),
        }
    }

    /// Notes that `directory` must be there for temporary files.
    pub fn makes(&mut self, directory: &Path) {
        if !self.temp_paths.contains(directory) {
            self.temp_paths.insert(directory.to_owned());
        }
    }

    /// A path below the directory of the configuration file.
    pub fn conf_full_name(&self, path: &[u8]) -> PathBuf {
        absolute(&self.conf_prefix, path)
    }
}

fn absolute(base: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    base.join(std::ffi::OsStr::from_bytes(path))
}

/// A directive's arguments, read from the left.
pub struct Args<'a> {
    directive: &'a ast::Directive,
    next: usize,
    /// The configuration around.
    pub env: &'a mut Env,
}

impl<'a> Args<'a> {
    /// The arguments of `directive`.
    pub fn new(directive: &'a ast::Directive, env: &'a mut Env) -> Self {
        Self { directive, next: 0, env }
    }

    /// The directive's name.
    pub fn name(&self) -> &'a [u8] {
        &self.directive.name.text
    }

    /// The directive as it stands in the file.
    pub fn directive(&self) -> &'a ast::Directive {
        self.directive
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.directive.args.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.directive.args.is_empty()
    }

    /// Argument `index`, or nothing.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.directive.args.get(index).map(|word| word.text.as_slice())
    }

    /// Argument `index`; the row's arity says that it is there.
    pub fn word(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or_default()
    }

    /// All arguments.
    pub fn words(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.directive.args.iter().map(|word| word.text.as_slice())
    }

    /// The next unread argument.
    pub fn take(&mut self) -> Option<&'a [u8]> {
        let word = self.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// Number of the argument that was read last.
    pub fn last_index(&self) -> usize {
        self.next.saturating_sub(1)
    }

    /// Reads the next argument into `field`, as its type wants it.
    pub fn set<T: Field>(&mut self, field: &mut T) -> Result<(), Problem> {
        let at = self.next;
        let word =
            self.take().ok_or_else(|| Problem::new("invalid number of arguments in \"%DIRECTIVE%\" directive"))?;
        *field = T::read(word, self).map_err(|problem| problem.at(at))?;
        Ok(())
    }

    /// Reads the next argument, which the operating system has no use for.
    pub fn pass_by<T: Field>(&mut self, field: &mut T) -> Result<(), Problem> {
        self.set(field)?;
        self.warn(format!("\"{}\" is not supported, ignored", text(self.name())));
        Ok(())
    }

    /// Adds the flags that the arguments name.
    pub fn add(&mut self, field: &mut Bits, flags: &[(&str, u32)]) -> Result<(), Problem> {
        for (at, word) in self.words().enumerate() {
            if !field.add(one_of(word, flags).map_err(|problem| problem.at(at))?) {
                self.warn(format!("duplicate value \"{}\"", text(word)));
            }
        }
        Ok(())
    }

    /// Reads the next argument into `field` and holds it to `range`.
    pub fn set_in<T: Field + PartialOrd + std::fmt::Display>(
        &mut self,
        field: &mut T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<(), Problem> {
        self.set(field)?;
        if range.contains(field) {
            return Ok(());
        }
        let problem = format!("value must be between {} and {}", range.start(), range.end());
        Err(Problem::new(problem).at(self.last_index()))
    }

    /// What stands in the directive's braces.
    pub fn block(&self) -> &'a [ast::Directive] {
        self.directive.block.as_ref().map_or(&[], |block| &block.items)
    }

    /// The rows of a block of values; one that opens a block itself is reported and left out.
    pub fn rows(&mut self) -> Vec<&'a ast::Directive> {
        let (plain, blocks) = self.block().iter().partition(|row| row.block.is_none());
        let _: &Vec<&ast::Directive> = &blocks;
        for row in blocks {
            self.fail(row, None, "unexpected \"{\"");
        }
        plain
    }

    /// Notes an error at a row of this directive's block, with the caret under its name or one of its arguments.
    pub fn fail(&mut self, row: &ast::Directive, arg: Option<usize>, problem: impl Into<String>) {
        let caret = arg.and_then(|arg| row.args.get(arg)).unwrap_or(&row.name);
        self.env.warnings.push(Diag::error(problem, row.end, caret.span));
    }

    /// Notes an error where the block closes.
    pub fn fail_at_end(&mut self, problem: impl Into<String>) {
        let close = self.directive.block.as_ref().map_or(self.directive.end, |block| block.close);
        self.env.warnings.push(Diag::error(problem, close, self.directive.name.span));
    }

    /// Notes a warning at a row of this directive's block.
    pub fn warn_at(&mut self, row: &ast::Directive, problem: impl Into<String>) {
        self.env.warnings.push(Diag::error(problem, row.end, row.name.span).warning());
    }

    /// Registers the variable that argument `arg` names as one this directive defines.
    pub fn define(&mut self, arg: usize) -> Result<VarId, Problem> {
        let word = self.word(arg);
        let Some(name) = word.strip_prefix(b"$").filter(|name| !name.is_empty()) else {
            return Err(Problem::new(format!("invalid variable name \"{}\"", text(word))).at(arg));
        };
        Ok(self.env.names.define(&text(name), self.directive.end))
    }

    /// Notes a warning at this directive.
    pub fn warn(&mut self, problem: impl Into<String>) {
        let warning = Diag::error(problem, self.directive.end, self.directive.name.span).warning();
        self.env.warnings.push(warning);
    }
}

/// Bytes of a configuration as text for a message.
pub fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

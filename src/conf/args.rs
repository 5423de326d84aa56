//! The arguments of a directive while its setter reads them, and what setters may ask of the configuration around them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parser::ast;

use super::diag::{Diag, Problem};
use super::field::Field;
use super::load::Files;
use super::names::Names;

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
}

impl Env {
    /// A path as nginx completes it: relative ones hang under the prefix.
    pub fn full_name(&self, path: &[u8]) -> PathBuf {
        absolute(&self.prefix, path)
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
        let problem = if *field < *range.start() {
            format!("value must be equal to or greater than {}", range.start())
        } else {
            format!("value must be equal to or less than {}", range.end())
        };
        Err(Problem::new(problem).at(self.last_index()))
    }

    /// What stands in the directive's braces.
    pub fn block(&self) -> &'a [ast::Directive] {
        self.directive.block.as_ref().map_or(&[], |block| &block.items)
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

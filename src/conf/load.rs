//! Loading: the configuration file and everything it includes, spliced into one tree.
//!
//! <https://nginx.org/en/docs/ngx_core_module.html#include>. Compiling is a pure function of what [`Files`] answers.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parser::ast::{Directive, FileId, Span};

use super::args::text;
use super::diag::{Diag, Level};
use super::files::Files;

/// How deep includes may nest.
const DEPTH: usize = 64;

/// One file of a load.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path as messages print it.
    pub name: Vec<u8>,
    /// Its contents.
    pub text: Arc<[u8]>,
    /// The `include` that brought it.
    pub parent: Option<Span>,
}

/// All files of a load, in the order they were opened.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// The file `id`.
    pub fn get(&self, id: FileId) -> Option<&Source> {
        self.0.get(id.0 as usize)
    }

    /// All files.
    pub fn all(&self) -> &[Source] {
        &self.0
    }

    /// Registers a file.
    pub fn add(&mut self, source: Source) -> FileId {
        self.0.push(source);
        FileId(u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX))
    }

    /// `FILE:LINE` as nginx prints it: the line on which the span ends.
    pub fn place(&self, span: Span) -> String {
        let Some(source) = self.get(span.file) else { return "command line".to_owned() };
        if source.name.is_empty() {
            return "command line".to_owned();
        }
        let (line, _) = position(&source.text, span.end.saturating_sub(1).max(span.start));
        format!("{}:{line}", text(&source.name))
    }

    /// A key that sorts spans as nginx meets them: an included file stands where its `include` stands.
    pub fn order(&self, span: Span) -> Vec<u32> {
        let mut key = vec![span.end, span.file.0];
        let mut file = span.file;
        while let Some(parent) = self.get(file).and_then(|source| source.parent) {
            key.extend([parent.end, parent.file.0]);
            file = parent.file;
        }
        key.reverse();
        key
    }

    /// The source line of a span with a caret under it.
    pub fn frame(&self, span: Span) -> String {
        let Some(source) = self.get(span.file) else { return String::new() };
        let (line, column) = position(&source.text, span.start);
        let row = source.text.split(|&b| b == b'\n').nth(line - 1).unwrap_or_default();
        let row = text(row);
        let row = row.trim_end_matches('\r');
        let width =
            (span.end.saturating_sub(span.start) as usize).clamp(1, row.len().saturating_sub(column - 1).max(1));
        let pad: String = row.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let gutter = line.to_string().len();
        let mut out = format!("{:gutter$}--> {}:{line}:{column}\n", "", text(&source.name));
        out.push_str(&format!("{:gutter$} |\n{line} | {row}\n{:gutter$} | {pad}{}\n", "", "", "^".repeat(width)));
        out
    }
}

/// Line and column, both from 1, of a byte.
fn position(bytes: &[u8], offset: u32) -> (usize, usize) {
    let before = bytes.get(..offset as usize).unwrap_or(bytes);
    let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|&&b| b != b'\n').count();
    (line, column)
}

/// What a load brings: the tree, the files, the syntax errors and includes that failed.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The directives, includes replaced by what they name.
    pub items: Vec<Directive>,
    /// The files.
    pub sources: Sources,
    /// What went wrong.
    pub diags: Vec<Diag>,
}

/// Loads `path` and all it includes; relative includes hang under `conf_prefix`.
pub fn load(files: &dyn Files, path: &Path, conf_prefix: &Path) -> Loaded {
    let mut loader = Loader { files, conf_prefix, loaded: Loaded::default(), open: Vec::new() };
    match files.read(path) {
        Ok(bytes) if bytes.is_empty() => {
            // A device, a pipe that nobody writes to, or a file that was not written yet.
            let problem = "no \"events\" section in configuration".to_owned();
            loader.loaded.diags.push(Diag::general(problem, None));
        }
        Ok(bytes) => loader.loaded.items = loader.file(path, &bytes, None),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => loader.loaded.diags.push(unreadable(path, &error)),
        Err(error) => loader.loaded.diags.push(Diag::general(cannot_open(path, &error), None)),
    }
    loader.loaded
}

/// Parses a text that stands in no file (`-g`, tests) under `name`; an empty name is nginx's `command line`.
pub fn load_text(name: &str, bytes: &[u8], files: &dyn Files, conf_prefix: &Path) -> Loaded {
    let mut loader = Loader { files, conf_prefix, loaded: Loaded::default(), open: Vec::new() };
    loader.loaded.items = loader.file(Path::new(name), &bytes.into(), None);
    loader.loaded
}

/// nginx's sentence for a file that does not open.
pub fn cannot_open(path: &Path, error: &io::Error) -> String {
    format!("open() \"{}\" failed ({})", path.display(), os_error(error))
}

/// The same for a directory, which opens but does not read.
fn unreadable(path: &Path, error: &io::Error) -> Diag {
    let problem = format!("pread() \"{}\" failed ({})", path.display(), os_error(error));
    Diag { level: Level::Crit, ..Diag::general(problem, None) }
}

/// An operating-system error as nginx prints it: `2: No such file or directory`.
pub fn os_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{code}: {}", nix::errno::Errno::from_raw(code).desc()),
        None => error.to_string(),
    }
}

struct Loader<'a> {
    files: &'a dyn Files,
    conf_prefix: &'a Path,
    loaded: Loaded,
    open: Vec<PathBuf>,
}

impl Loader<'_> {
    fn file(&mut self, path: &Path, bytes: &Arc<[u8]>, parent: Option<Span>) -> Vec<Directive> {
        let source = Source { name: path.as_os_str().to_owned().into_vec(), text: Arc::clone(bytes), parent };
        let id = self.loaded.sources.add(source);
        let parsed = parser::parse(id, bytes);
        let diags = parsed.errors.into_iter().map(|error| Diag::error(error.problem, error.span, error.span));
        self.loaded.diags.extend(diags);
        self.open.push(path.to_owned());
        let items = self.splice(parsed.items, b"");
        self.open.pop();
        items
    }

    /// Replaces every `include` in the block of `outer`.
    fn splice(&mut self, items: Vec<Directive>, outer: &[u8]) -> Vec<Directive> {
        // Their lines are no directives, and three words are none of theirs.
        let lines = matches!(outer, b"map" | b"geo" | b"split_clients");
        let mut out = Vec::with_capacity(items.len());
        for mut item in items {
            match (item.name.text.as_slice(), item.args.as_slice(), &mut item.block) {
                (b"include", [path], None) => {
                    let path = self.conf_prefix.join(std::ffi::OsStr::from_bytes(&path.text));
                    self.include(&item, &path, &mut out);
                }
                (b"include", _, block) if !lines => {
                    let problem = match block {
                        Some(_) => "directive \"include\" is not terminated by \";\"",
                        None => "invalid number of arguments in \"include\" directive",
                    };
                    self.loaded.diags.push(Diag::error(problem, item.end, item.name.span));
                }
                (_, _, Some(block)) => {
                    block.items = self.splice(std::mem::take(&mut block.items), &item.name.text);
                    out.push(item);
                }
                _ => out.push(item),
            }
        }
        out
    }

    fn include(&mut self, at: &Directive, path: &Path, out: &mut Vec<Directive>) {
        let pattern = path.as_os_str().as_bytes().iter().any(|b| b"*?[".contains(b));
        let paths = if pattern { self.files.glob(path) } else { vec![path.to_owned()] };
        for path in paths {
            let problem = if self.open.contains(&path) {
                format!("include cycle: \"{}\" includes itself", path.display())
            } else if self.open.len() >= DEPTH {
                format!("includes nest deeper than {DEPTH} files at \"{}\"", path.display())
            } else {
                match self.files.read(&path) {
                    Ok(bytes) => {
                        out.extend(self.file(&path, &bytes, Some(at.end)));
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                        let diag = unreadable(&path, &error);
                        self.loaded.diags.push(Diag { caret: Some(at.name.span), ..diag });
                        continue;
                    }
                    Err(error) => cannot_open(&path, &error),
                }
            };
            let caret = at.args.first().map_or(at.name.span, |word| word.span);
            self.loaded.diags.push(Diag::error(problem, at.end, caret));
        }
    }
}

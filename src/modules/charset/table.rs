//! `charset_map`: <https://nginx.org/en/docs/http/ngx_http_charset_module.html#charset_map>

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use parser::ast;

use crate::conf::args::text;
use crate::conf::{Args, Problem};

/// Conversions between charsets.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Source, destination, and what leads from one to the other.
    maps: Vec<(Vec<u8>, Vec<u8>, Arc<Table>)>,
    /// Charsets that are named anywhere, in lower case.
    names: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

/// One way of a conversion. What it does not name below 128 stays, above it becomes `?`.
#[derive(Clone, Debug)]
pub(super) enum Table {
    /// Bytes to bytes.
    Bytes(Box<[u8; 256]>),
    /// Bytes to UTF-8.
    ToUtf8(HashMap<u8, Vec<u8>>),
    /// UTF-8 to bytes.
    FromUtf8(HashMap<u32, u8>),
}

impl Table {
    /// Whether the body may get longer or shorter.
    pub(super) fn changes_length(&self) -> bool {
        !matches!(self, Table::Bytes(_))
    }
}

impl Tables {
    /// The conversion from one charset to another.
    pub(super) fn find(&self, from: &[u8], to: &[u8]) -> Option<Arc<Table>> {
        let same = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
        let found = self.maps.iter().find(|(source, destination, _)| same(source, from) && same(destination, to));
        found.map(|(_, _, table)| Arc::clone(table))
    }

    /// Notes that a place of the configuration names this charset.
    pub(super) fn note(&self, name: &[u8]) {
        if let Ok(mut names) = self.names.lock() {
            names.insert(name.to_ascii_lowercase());
        }
    }

    /// Whether the configuration names this charset anywhere.
    pub(super) fn knows(&self, name: &[u8]) -> bool {
        let noted = || self.names.lock().is_ok_and(|names| names.contains(&name.to_ascii_lowercase()));
        self.maps.iter().any(|(source, _, _)| source.eq_ignore_ascii_case(name)) || noted()
    }

    /// Reads a `charset_map`, which converts both ways.
    pub(super) fn add(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        let (from, to) = (args.word(0), args.word(1));
        let both = format!("\"{}\" and \"{}\"", text(from), text(to));
        if from.eq_ignore_ascii_case(to) {
            return Err(Problem::new(format!("\"charset_map\" between the same charsets {both}")));
        }
        if from.eq_ignore_ascii_case(b"utf-8") {
            let problem = "\"charset_map\" with \"utf-8\" charset should be given in the second column";
            return Err(Problem::new(problem).at(0));
        }
        if self.find(from, to).is_some() {
            return Err(Problem::new(format!("duplicate \"charset_map\" between {both}")));
        }
        let (forth, back) =
            if to.eq_ignore_ascii_case(b"utf-8") { utf8(args) } else { bytes(args) };
        self.maps.push((from.to_vec(), to.to_vec(), Arc::new(forth)));
        self.maps.push((to.to_vec(), from.to_vec(), Arc::new(back)));
        Ok(())
    }
}

fn bytes(args: &mut Args<'_>) -> (Table, Table) {
    let ascii = || Box::new(std::array::from_fn(|at| u8::try_from(at).ok().filter(u8::is_ascii).unwrap_or(b'?')));
    let (mut forth, mut back): (Box<[u8; 256]>, Box<[u8; 256]>) = (ascii(), ascii());
    rows(args, |from, to| {
        let to = u8::try_from(number(to)?).ok()?;
        *forth.get_mut(usize::from(from))? = to;
        *back.get_mut(usize::from(to))? = from;
        Some(())
    });
    (Table::Bytes(forth), Table::Bytes(back))
}

fn utf8(args: &mut Args<'_>) -> (Table, Table) {
    let (mut forth, mut back) = (HashMap::new(), HashMap::new());
    rows(args, |from, to| {
        let bytes: Vec<u8> = to.chunks(2).map(|pair| u8::try_from(number(pair)?).ok()).collect::<Option<_>>()?;
        let mut chars = std::str::from_utf8(&bytes).ok()?.chars();
        let character = chars.next().map(u32::from).filter(|character| *character <= 0xffff && chars.next().is_none())?;
        back.insert(character, from);
        forth.insert(from, bytes);
        Some(())
    });
    (Table::ToUtf8(forth), Table::FromUtf8(back))
}

/// Reads the rows of a map: a byte, and what `put` makes of the second column.
fn rows(args: &mut Args<'_>, mut put: impl FnMut(u8, &[u8]) -> Option<()>) {
    for row in args.rows() {
        if let Err((at, problem)) = pair(row, &mut put) {
            args.fail(row, at, problem);
        }
    }
}

fn pair(
    row: &ast::Directive,
    put: &mut impl FnMut(u8, &[u8]) -> Option<()>,
) -> Result<(), (Option<usize>, String)> {
    let [to] = row.args.as_slice() else { return Err((None, "invalid parameters number".to_owned())) };
    let invalid = |word: &ast::Word| format!("invalid value \"{}\"", text(&word.text));
    let from = number(&row.name.text).and_then(|from| u8::try_from(from).ok());
    let from = from.ok_or_else(|| (None, invalid(&row.name)))?;
    put(from, &to.text).ok_or_else(|| (Some(0), invalid(to)))
}

/// A hexadecimal number.
fn number(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, 16).ok()
}

//! The lexical grammar of nginx configuration files.
//!
//! Bytes become a tree of directives with the place of every word; the crate knows no directive and opens no file.
//! See <https://nginx.org/en/docs/beginners_guide.html#conf_structure>.

pub mod ast;
pub mod error;
mod grammar;
pub mod print;
pub mod source;
mod words;

use ast::{Directive, FileId};
use error::Error;

/// What one file holds: every directive that could be read, and every syntax error.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The top-level directives.
    pub items: Vec<Directive>,
    /// The errors, in the order they stand in the file.
    pub errors: Vec<Error>,
}

/// Reads one file. Its first error is the one nginx stops at.
///
/// A plain directive with a syntax error is left out of the tree; a block is kept for what it holds, and one that is
/// still open at the end of the file is closed there.
pub fn parse(file: FileId, text: &[u8]) -> Parsed {
    grammar::read(grammar::Origin::File, file, text)
}

/// Reads the value of the command-line option `-g`, where nginx takes no blocks and words of any length.
pub fn parse_option(file: FileId, text: &[u8]) -> Parsed {
    grammar::read(grammar::Origin::Option, file, text)
}

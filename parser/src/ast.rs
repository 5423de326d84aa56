//! The tree of a configuration file: directives, words and the places they stand at.

/// A file among those of one load. The loader hands the numbers out, in the order the files are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A half-open range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The range `start..end` of `file`.
    pub fn new(file: FileId, start: u32, end: u32) -> Self {
        Self { file, start, end }
    }
}

/// How a word stood in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quote {
    /// Bare.
    #[default]
    None,
    /// In `"…"`.
    Double,
    /// In `'…'`.
    Single,
}

/// A name or an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The bytes it means: quotes taken off, escapes resolved as nginx resolves them.
    pub text: Vec<u8>,
    /// How it was quoted.
    pub quote: Quote,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// A directive: a name, its arguments and, for some, a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    /// The name.
    pub name: Word,
    /// The arguments, in order.
    pub args: Vec<Word>,
    /// What stands between the braces, where there are any.
    pub block: Option<Block>,
    /// The `;` or `{` that ends the arguments: nginx reports its line for errors of the directive.
    pub end: Span,
}

/// The contents of a pair of braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The directives in the order they stand.
    pub items: Vec<Directive>,
    /// The closing brace.
    pub close: Span,
}

//! What can be wrong with the text itself, in nginx's words.

use crate::ast::Span;

/// A syntax error: the sentence nginx prints (without ` in FILE:LINE`) and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// nginx's sentence, for example `unexpected "}"`. Bytes that are not UTF-8 are shown as U+FFFD.
    pub problem: String,
    /// The offending bytes, empty at the end of the file.
    ///
    /// The line nginx reports is `source::line(text, span.end)`: one more than the line feeds before `span.end`. No
    /// span reaches behind a line feed, so that is also the line its last byte stands on.
    pub span: Span,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Error {}

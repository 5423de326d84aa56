//! What can be wrong with the text itself, in nginx's words.

use crate::ast::Span;

/// A syntax error: the sentence nginx prints (without ` in FILE:LINE`) and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// nginx's sentence, for example `unexpected "}"`.
    pub problem: String,
    /// The offending bytes; the line nginx reports is the one `span.end` lies on.
    pub span: Span,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Error {}

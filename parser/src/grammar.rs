//! Statements and blocks (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>), and how to go on behind an
//! error so that one run finds all of them.

use crate::Parsed;
use crate::ast::{Block, Directive, FileId, Quote, Span, Word};
use crate::error::Error;
use crate::source::saturate;
use crate::words::{BUFFER, Stop, Token, Trouble, after_quote, resolve, token};

/// Blocks that may stand in each other. nginx has no such limit; here it keeps whoever walks the tree on its stack.
pub(crate) const DEPTH: usize = 256;

/// How many bytes of a word nginx shows when it is too long.
const SHOWN: usize = 10;

/// Where the text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file.
    File,
    /// The option `-g`.
    Option,
}

/// Reads a text to its end, whatever it holds.
pub(crate) fn read(origin: Origin, file: FileId, text: &[u8]) -> Parsed {
    let mut reader = Reader {
        origin,
        file,
        size: text.len(),
        words: Vec::new(),
        broken: false,
        items: Vec::new(),
        open: Vec::new(),
        errors: Vec::new(),
    };
    let mut rest = text;
    while let Some(next) = reader.step(rest) {
        rest = next;
    }
    reader.finish()
}

/// What has been read so far.
struct Reader {
    origin: Origin,
    file: FileId,
    /// Length of the text.
    size: usize,
    /// The words of the statement under way.
    words: Vec<Word>,
    /// Whether that statement has an error already.
    broken: bool,
    /// The directives of the innermost open block, or of the file.
    items: Vec<Directive>,
    /// The open blocks, outermost first, each with the directives that stand before it.
    open: Vec<(Option<Directive>, Vec<Directive>)>,
    errors: Vec<Error>,
}

impl Reader {
    /// Reads one token; what is left, unless that was the last one.
    fn step<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let limit = if self.origin == Origin::File { BUFFER } else { usize::MAX };
        let (rest, (start, token)) = match token(text, limit) {
            Ok(read) => read,
            Err(nom::Err::Error(stop) | nom::Err::Failure(stop)) => return self.recover(&stop),
            Err(nom::Err::Incomplete(_)) => return None,
        };
        let span = self.span(start, rest);
        match token {
            Token::Word(raw, quote) => {
                self.words.push(Word { text: resolve(raw), quote, span });
                if quote != Quote::None {
                    self.check_behind_quote(rest);
                }
            }
            Token::Semicolon => self.terminate(span),
            Token::Open => self.open(span),
            Token::Close => self.close(span),
            Token::End => {
                self.end(span);
                return None;
            }
        }
        Some(rest)
    }

    fn check_behind_quote(&mut self, rest: &[u8]) {
        if let Some(byte) = after_quote(rest) {
            self.error(unexpected(&[byte]), self.span(rest, rest.get(1..).unwrap_or_default()));
            self.broken = true;
        }
    }

    fn recover<'a>(&mut self, stop: &Stop<'a>) -> Option<&'a [u8]> {
        let line = stop.at.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let length = match stop.trouble {
            Trouble::Long | Trouble::LongComment => line.len().min(SHOWN),
            _ => 1,
        };
        let span = self.span(stop.at, stop.at.get(length..).unwrap_or_default());
        let problem = match stop.trouble {
            Trouble::End | Trouble::Other => {
                self.broken = true;
                self.end(span);
                return None;
            }
            Trouble::Long | Trouble::LongComment => {
                let shown = stop.at.get(..SHOWN).unwrap_or(stop.at);
                format!("too long parameter \"{}...\" started", String::from_utf8_lossy(shown))
            }
            Trouble::LongQuoted(mark) => {
                format!("too long parameter, probably missing terminating \"{mark}\" character")
            }
        };
        self.error(problem, span);
        self.broken |= stop.trouble != Trouble::LongComment;
        Some(stop.resume)
    }

    fn terminate(&mut self, end: Span) {
        if !self.started() {
            self.error(unexpected(b";"), end);
        }
        let directive = self.directive(end);
        self.items.extend(directive.filter(|_| !self.broken));
        self.broken = false;
    }

    fn open(&mut self, end: Span) {
        if !self.started() {
            self.error(unexpected(b"{"), end);
        } else if self.origin == Origin::Option && !self.broken {
            self.error("block directives are not supported in -g option".into(), end);
        }
        if self.open.len() == DEPTH {
            self.error(format!("blocks are nested deeper than {DEPTH} levels"), end);
        }
        let directive = self.directive(end).filter(|_| self.open.len() < DEPTH);
        self.open.push((directive, std::mem::take(&mut self.items)));
        self.broken = false;
    }

    fn close(&mut self, close: Span) {
        let stray = self.open.is_empty() || !self.words.is_empty();
        if stray && !self.broken {
            self.error(unexpected(b"}"), close);
        }
        self.words.clear();
        self.broken = false;
        self.leave(close);
    }

    fn end(&mut self, end: Span) {
        if self.started() && self.origin == Origin::Option {
            self.error("unexpected end of parameter, expecting \";\"".into(), end);
        } else if self.started() {
            self.error("unexpected end of file, expecting \";\" or \"}\"".into(), end);
        } else if !self.open.is_empty() {
            self.error("unexpected end of file, expecting \"}\"".into(), end);
        }
    }

    fn finish(mut self) -> Parsed {
        let end = self.span(&[], &[]);
        while !self.open.is_empty() {
            self.leave(end);
        }
        Parsed { items: self.items, errors: self.errors }
    }

    fn leave(&mut self, close: Span) {
        let Some((directive, before)) = self.open.pop() else { return };
        let items = std::mem::replace(&mut self.items, before);
        let block = Block { items, close };
        self.items.extend(directive.map(|directive| Directive { block: Some(block), ..directive }));
    }

    fn directive(&mut self, end: Span) -> Option<Directive> {
        let mut words = self.words.drain(..);
        let name = words.next()?;
        Some(Directive { name, args: words.collect(), block: None, end })
    }

    fn started(&self) -> bool {
        self.broken || !self.words.is_empty()
    }

    fn error(&mut self, problem: String, span: Span) {
        self.errors.push(Error { problem, span });
    }

    /// From where `start` is all that is left to where `rest` is.
    fn span(&self, start: &[u8], rest: &[u8]) -> Span {
        let offset = |left: &[u8]| saturate(self.size.saturating_sub(left.len()));
        Span::new(self.file, offset(start), offset(rest))
    }
}

fn unexpected(what: &[u8]) -> String {
    format!("unexpected \"{}\"", String::from_utf8_lossy(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::line;

    fn problems(origin: Origin, text: &str) -> Vec<(u32, String)> {
        let errors = read(origin, FileId(0), text.as_bytes()).errors;
        errors.into_iter().map(|error| (line(text.as_bytes(), error.span.end), error.problem)).collect()
    }

    #[test]
    fn a_word_has_to_fit_into_the_buffer_with_the_blank_behind_it() {
        let long = |length: usize| "x".repeat(length);
        let bare = [(2, "too long parameter \"xxxxxxxxxx...\" started".to_owned())];
        let quoted = [(2, "too long parameter, probably missing terminating \"\"\" character".to_owned())];
        let comment = [(2, "too long parameter \"# xxxxxxxx...\" started".to_owned())];
        for (text, expected) in [
            (format!("a\n{};\n", long(4095)), &[][..]),
            (format!("a\n{};\n", long(4096)), &bare),
            (format!("a\n{} ;\n", long(4094)), &[]),
            (format!("a\n{} ;\n", long(4095)), &bare),
            (format!("a\n\"{}\";\n", long(4094)), &[]),
            (format!("a\n\"{}\";\n", long(4095)), &bare),
            (format!("a\n\"{}\"\n;\n", long(4093)), &[]),
            (format!("a\n\"{}\"\n;\n", long(4094)), &bare),
            (format!("a\n\"{}\";\n", long(4096)), &quoted),
            (format!("a\n\"{};\n{}", long(10), "b c;\n".repeat(900)), &quoted),
            (format!("a;\n# {}\nb;", long(4093)), &[]),
            (format!("a;\n# {}\nb;", long(4094)), &comment),
            (format!("a\n# {}\nb;", long(4094)), &comment),
        ] {
            assert_eq!(problems(Origin::File, &text), expected, "{}", text.len());
        }
    }

    #[test]
    fn the_option_takes_long_words_and_no_blocks() {
        assert_eq!(problems(Origin::Option, &format!("pid {}; # a", "x".repeat(5000))), []);
        for (text, expected) in [
            ("daemon off", "unexpected end of parameter, expecting \";\""),
            ("events {}", "block directives are not supported in -g option"),
            ("}", "unexpected \"}\""),
            ("{}", "unexpected \"{\""),
        ] {
            assert_eq!(problems(Origin::Option, text), [(1, expected.to_owned())]);
        }
    }

    #[test]
    fn blocks_nest_to_a_depth() {
        let nested = |depth| "a{".repeat(depth) + &"}".repeat(depth);
        assert_eq!(problems(Origin::File, &nested(DEPTH)), []);
        let deeper = [(1, "blocks are nested deeper than 256 levels".to_owned())];
        assert_eq!(problems(Origin::File, &nested(DEPTH + 1)), deeper);
        assert_eq!(problems(Origin::File, &nested(50_000)), deeper);
    }
}

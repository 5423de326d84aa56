//! print∘parse is the identity on trees (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>), tried on
//! generated trees and on generated text.

use parser::ast::{Block, Directive, FileId, Quote, Span, Word};
use parser::print::{print, same};
use parser::{Parsed, parse};

/// Pieces that mean something to the lexer, and some that do not.
const PIECES: [&[u8]; 30] = [
    b" ",
    b" ",
    b"\n",
    b"\t",
    b"\r\n",
    b";",
    b";",
    b"{",
    b"}",
    b"\"",
    b"'",
    b"\\",
    b"$",
    b"${",
    b"#",
    b")",
    b"a",
    b"bc",
    b"t",
    b"r",
    b"n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\"\"",
    b"''",
    b"\\;",
    b"\\\\",
    b" \"q r\" ",
];

/// A small deterministic source of numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides
    }

    fn text(&mut self, pieces: usize) -> Vec<u8> {
        let count = self.roll(pieces);
        (0..count).flat_map(|_| PIECES.get(self.roll(PIECES.len())).copied().unwrap_or_default()).copied().collect()
    }

    fn word(&mut self) -> Word {
        let quote = [Quote::None, Quote::Double, Quote::Single].get(self.roll(3)).copied().unwrap_or_default();
        Word { text: self.text(6), quote, span: Span::default() }
    }

    fn tree(&mut self, depth: usize) -> Vec<Directive> {
        let count = self.roll(4);
        (0..count)
            .map(|_| {
                let args = (0..self.roll(4)).map(|_| self.word()).collect();
                let block = (depth > 0 && self.roll(3) == 0)
                    .then(|| Block { items: self.tree(depth - 1), close: Span::default() });
                Directive { name: self.word(), args, block, end: Span::default() }
            })
            .collect()
    }
}

/// Only quotes can hold some texts: those words come back in double quotes.
fn adopt_quotes(tree: &mut [Directive], read: &[Directive]) {
    for (directive, read) in tree.iter_mut().zip(read) {
        for (word, read) in words(directive).zip(std::iter::once(&read.name).chain(&read.args)) {
            if word.quote == Quote::None && read.quote == Quote::Double {
                word.quote = Quote::Double;
            }
        }
        if let (Some(block), Some(read)) = (&mut directive.block, &read.block) {
            adopt_quotes(&mut block.items, &read.items);
        }
    }
}

fn words(directive: &mut Directive) -> impl Iterator<Item = &mut Word> {
    std::iter::once(&mut directive.name).chain(&mut directive.args)
}

fn assert_stable(read: &Parsed) {
    let text = print(&read.items);
    let again = parse(FileId(0), &text);
    assert_eq!(again.errors, [], "{}", String::from_utf8_lossy(&text));
    assert!(same(&again.items, &read.items), "{}", String::from_utf8_lossy(&text));
    assert_eq!(print(&again.items), text);
}

#[test]
fn trees_survive() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut tree = dice.tree(4);
        let text = print(&tree);
        let read = parse(FileId(7), &text);
        assert_eq!(read.errors, [], "{}", String::from_utf8_lossy(&text));
        adopt_quotes(&mut tree, &read.items);
        assert!(same(&tree, &read.items), "{tree:?}\n{}", String::from_utf8_lossy(&text));
        assert_stable(&read);
    }
}

#[test]
fn what_can_be_read_of_any_text_survives() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..40_000 {
        let text = dice.text(40);
        assert_stable(&parse(FileId(0), &text));
    }
}

#[test]
fn words_as_long_as_the_buffer_survive() {
    for length in 4080..4100 {
        let long = "x".repeat(length);
        for text in [
            format!("{long};"),
            format!("{long}{{}}"),
            format!("a {long} b;"),
            format!("\"{long}\";"),
            format!("a '{long}'{{}}"),
            format!("a '{long}')b;"),
            format!("a '{long}' b;"),
        ] {
            assert_stable(&parse(FileId(0), text.as_bytes()));
        }
    }
}

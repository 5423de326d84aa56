//! The way back from the tree to the text: one layout for all files, words quoted as they were.

use crate::ast::{Directive, Quote, Word};
use crate::words::BUFFER;

/// The text of `items`: a directive a line, four spaces a level.
///
/// Parsing it again gives the same tree, for every tree that `parse` gives. Other words are put in double quotes where
/// they could not stand without.
pub fn print(items: &[Directive]) -> Vec<u8> {
    let mut out = Vec::new();
    put_items(&mut out, items, 0);
    out
}

/// Whether two trees differ in their spans at most.
pub fn same(a: &[Directive], b: &[Directive]) -> bool {
    let alike = |a: &Word, b: &Word| a.text == b.text && a.quote == b.quote;
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            alike(&a.name, &b.name)
                && a.args.len() == b.args.len()
                && a.args.iter().zip(&b.args).all(|(a, b)| alike(a, b))
                && match (&a.block, &b.block) {
                    (None, None) => true,
                    (Some(a), Some(b)) => same(&a.items, &b.items),
                    _ => false,
                }
        })
}

fn put_items(out: &mut Vec<u8>, items: &[Directive], depth: usize) {
    let indent = |out: &mut Vec<u8>| out.extend(std::iter::repeat_n(b' ', 4 * depth));
    for directive in items {
        indent(out);
        let mut room = put_word(out, &directive.name);
        for word in &directive.args {
            put_space(out, room);
            room = put_word(out, word);
        }
        match &directive.block {
            None => out.extend(b";\n"),
            Some(block) => {
                put_space(out, room);
                out.push(b'{');
                if !block.items.is_empty() {
                    out.push(b'\n');
                    put_items(out, &block.items, depth + 1);
                    indent(out);
                }
                out.extend(b"}\n");
            }
        }
    }
}

/// Writes a word; whether a space may follow, which has to fit into nginx's buffer together with the word.
fn put_word(out: &mut Vec<u8>, word: &Word) -> bool {
    let bare = if word.quote == Quote::None { bare(&word.text) } else { None };
    if let Some(text) = bare {
        out.extend(&text);
        return text.len() + 1 < BUFFER;
    }
    let mark = if word.quote == Quote::Single { b'\'' } else { b'"' };
    let text = quoted(&word.text, mark);
    out.push(mark);
    out.extend(&text);
    out.push(mark);
    text.len() + 2 < BUFFER
}

fn put_space(out: &mut Vec<u8>, room: bool) {
    if room {
        out.push(b' ');
    }
}

/// The word without quotes, unless only quotes can hold it.
fn bare(text: &[u8]) -> Option<Vec<u8>> {
    if matches!(text.first(), None | Some(b'}' | b'#')) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut variable = false;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'\\' if doubled(tail, true) => out.extend(br"\\"),
            b'\\' => {
                out.push(byte);
                out.extend(tail.first());
                rest = tail.get(1..).unwrap_or_default();
            }
            b'\t' => out.extend(br"\t"),
            b'\r' => out.extend(br"\r"),
            b'\n' => out.extend(br"\n"),
            b'"' | b'\'' if out.is_empty() => out.extend([b'\\', byte]),
            b'{' if variable => out.push(byte),
            b' ' | b';' | b'{' => return None,
            _ => out.push(byte),
        }
        variable = byte == b'$' || (variable && byte == b'{');
    }
    Some(out)
}

fn quoted(text: &[u8], mark: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == mark || (byte == b'\\' && doubled(tail, false)) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

/// Whether a backslash before `tail` has to be written twice: left alone it would change what follows.
fn doubled(tail: &[u8], bare: bool) -> bool {
    match tail.first() {
        None | Some(b'"' | b'\'' | b'\\' | b't' | b'r' | b'n') => true,
        Some(b'$') => bare && tail.get(1) == Some(&b'{'),
        Some(_) => false,
    }
}

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
        let (name, mut before) = written(&directive.name);
        out.extend(name);
        for word in &directive.args {
            let (text, after) = written(word);
            if before == End::Bare || (before == End::Quote && !text.starts_with(b")")) {
                out.push(b' ');
            }
            out.extend(text);
            before = after;
        }
        match &directive.block {
            None => out.extend(b";\n"),
            Some(block) => {
                out.extend(if before == End::Full { &b"{"[..] } else { b" {" });
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

/// What a word ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Bare,
    Quote,
    /// Nothing but `;`, `{` or `)` may follow: nginx's buffer has no room for a space too.
    Full,
}

fn written(word: &Word) -> (Vec<u8>, End) {
    let bare = if word.quote == Quote::None { bare(&word.text) } else { None };
    if let Some(text) = bare {
        let end = if text.len() + 1 < BUFFER { End::Bare } else { End::Full };
        return (text, end);
    }
    let mark = if word.quote == Quote::Single { b'\'' } else { b'"' };
    let text = quoted(word, mark);
    let end = if text.len() + 2 < BUFFER { End::Quote } else { End::Full };
    ([&[mark], &text[..], &[mark]].concat(), end)
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

/// What stands between quotes. Tabs and line ends are written as escapes, unless the author had them as they are (the
/// length of the word tells) or there is no room.
fn quoted(word: &Word, mark: u8) -> Vec<u8> {
    let plain = escaped(&word.text, mark, false);
    let length = usize::try_from(word.span.end.saturating_sub(word.span.start)).unwrap_or_default();
    if plain.len() + 2 == length {
        return plain;
    }
    let text = escaped(&word.text, mark, true);
    if text.len() + 2 < BUFFER { text } else { plain }
}

fn escaped(text: &[u8], mark: u8, controls: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'\t' if controls => out.extend(br"\t"),
            b'\r' if controls => out.extend(br"\r"),
            b'\n' if controls => out.extend(br"\n"),
            b'\\' if doubled(tail, false) || (controls && matches!(tail.first(), Some(b'\t' | b'\r' | b'\n'))) => {
                out.extend(br"\\");
            }
            _ if byte == mark => out.extend([b'\\', byte]),
            _ => out.push(byte),
        }
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

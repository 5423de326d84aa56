//! Writing a block of fields (RFC 7541 §6), without a dynamic table.

use super::{huffman, table};

/// The index of `:status` in the static table whose value is no entry of its own.
const STATUS: u8 = 8;

/// The writer of one connection's blocks.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The peer is to be told that we use no table, at the beginning of the next block.
    update: bool,
}

impl Encoder {
    /// The peer allows a table of `_max` bytes; the next block begins by saying that we use none of it, as nginx does.
    pub fn resize(&mut self, _max: usize) {
        self.update = true;
    }

    /// Begins the block of a response with its status (100 to 999) to `out`.
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        self.begin(out);
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |by: u16| b'0' + (status / by % 10) as u8;
                return out.extend_from_slice(&[STATUS, 3, digit(100), digit(10), digit(1)]);
            }
        };
        out.push(0x80 | index);
    }

    /// Writes a field to `out`, its name in lower case, or as an index where the static table has it, and each string by
    /// Huffman's code where that is shorter; no table is to keep it.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        self.begin(out);
        match table::find(name, value) {
            Some((index, true)) => return integer(out, 0x80, 7, index),
            Some((index, false)) => integer(out, 0, 4, index),
            None => {
                out.push(0);
                string(out, name, true);
            }
        }
        string(out, value, false);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.update) {
            out.push(0x20);
        }
    }
}

/// An integer (§5.1) whose first octet has the bits of `mark` and `bits` bits for it.
fn integer(out: &mut Vec<u8>, mark: u8, bits: u32, value: usize) {
    let full = (1 << bits) - 1;
    if value < full {
        return out.push(mark | value as u8);
    }
    out.push(mark | full as u8);
    let mut rest = value - full;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A string (§5.2), in lower case if `lower`.
fn string(out: &mut Vec<u8>, text: &[u8], lower: bool) {
    let coded = huffman::length(text, lower);
    if coded < text.len() {
        integer(out, 0x80, 7, coded);
        return huffman::encode(text, lower, out);
    }
    integer(out, 0, 7, text.len());
    if lower {
        out.extend(text.iter().map(u8::to_ascii_lowercase));
    } else {
        out.extend_from_slice(text);
    }
}

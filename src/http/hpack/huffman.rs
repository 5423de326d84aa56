//! Huffman's code of strings (RFC 7541 §5.2, appendix B).

use super::Error;

/// Bits of the longest code, that of the end of a string.
const LONGEST: usize = 30;
/// Bits that are looked up at once; nearly all of what is sent has codes of so many.
const STEP: usize = 10;
/// The symbol that no string holds: its first bits fill up the last octet.
const END: u16 = 256;

/// Adds to `out` what `text` stands for. As in nginx, up to 29 bits of ones may follow the last symbol, not only seven.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    out.reserve(text.len() * 8 / 5);
    let mut rest = text.iter();
    // The next `have` bits stand at the top of `bits`.
    let (mut bits, mut have) = (0u64, 0usize);
    loop {
        while have <= 56 {
            let Some(&octet) = rest.next() else { break };
            bits |= u64::from(octet) << (56 - have);
            have += 8;
        }
        let short = SHORT.get((bits >> (64 - STEP)) as usize).copied().unwrap_or_default();
        let (symbol, length) = match short.1 {
            0 => long((bits >> (64 - LONGEST)) as u32).ok_or(Error::Huffman)?,
            length => (u16::from(short.0), usize::from(length)),
        };
        if length > have {
            break;
        }
        out.push(u8::try_from(symbol).map_err(|_| Error::Huffman)?);
        bits <<= length;
        have -= length;
    }
    if bits.leading_ones() as usize == have { Ok(()) } else { Err(Error::Huffman) }
}

/// Octets that `text` takes once it is coded, in lower case if `lower`.
pub fn length(text: &[u8], lower: bool) -> usize {
    let bits = |octet: u8| LENGTHS.get(usize::from(octet)).map_or(0, |&bits| usize::from(bits));
    let all: usize = if lower {
        text.iter().map(|octet| bits(octet.to_ascii_lowercase())).sum()
    } else {
        text.iter().map(|&octet| bits(octet)).sum()
    };
    all.div_ceil(8)
}

/// Adds the code of `text`, in lower case if `lower`, to `out`.
pub fn encode(text: &[u8], lower: bool, out: &mut Vec<u8>) {
    // The last `have` bits of `bits` are still to be written.
    let (mut bits, mut have) = (0u64, 0u32);
    for &octet in text {
        let octet = if lower { octet.to_ascii_lowercase() } else { octet };
        let place = usize::from(octet);
        let (Some(&code), Some(&length)) = (CODES.get(place), LENGTHS.get(place)) else { continue };
        bits = bits << length | u64::from(code);
        have += u32::from(length);
        if have >= 32 {
            have -= 32;
            out.extend_from_slice(&((bits >> have) as u32).to_be_bytes());
        }
    }
    let missing = (8 - have % 8) % 8;
    bits = bits << missing | ((1 << missing) - 1);
    have += missing;
    while have > 0 {
        have -= 8;
        out.push((bits >> have) as u8);
    }
}

/// The symbol whose code `bits`, 30 of them, begin with, and the length of the code: codes grow with their length.
fn long(bits: u32) -> Option<(u16, usize)> {
    let level = LEVELS.iter().skip(STEP + 1).find(|level| bits < level.end)?;
    let place = (bits >> (LONGEST - level.length)).checked_sub(level.first)? as usize;
    Some((*SYMBOLS.get(level.place + place)?, level.length))
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Level {
    /// Bits.
    length: usize,
    /// The first code.
    first: u32,
    /// Where the codes end, as 30 bits.
    end: u32,
    /// Where in `SYMBOLS` the first one's symbol stands.
    place: usize,
}

/// All that follows from the lengths, for the code is canonical: codes count up by length, then by symbol.
struct Tables {
    codes: [u32; 257],
    symbols: [u16; 257],
    levels: [Level; LONGEST + 1],
    /// By the next bits: a symbol and the length of its code, 0 for what is longer.
    short: [(u8, u8); 1 << STEP],
}

static CODES: [u32; 257] = TABLES.codes;
static SYMBOLS: [u16; 257] = TABLES.symbols;
static LEVELS: [Level; LONGEST + 1] = TABLES.levels;
static SHORT: [(u8, u8); 1 << STEP] = TABLES.short;

const TABLES: Tables = tables();

#[expect(clippy::indexing_slicing, reason = "it runs while compiling")]
const fn tables() -> Tables {
    let none = Level { length: 0, first: 0, end: 0, place: 0 };
    let mut tables =
        Tables { codes: [0; 257], symbols: [0; 257], levels: [none; LONGEST + 1], short: [(0, 0); 1 << STEP] };
    let (mut code, mut place, mut length) = (0, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        let (first, begin) = (code, place);
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol as usize] as usize == length {
                tables.codes[symbol as usize] = code;
                tables.symbols[place] = symbol;
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        tables.levels[length] = Level { length, first, end: code << (LONGEST - length), place: begin };
        length += 1;
    }
    let mut symbol = 0;
    while symbol < END as usize {
        let length = LENGTHS[symbol] as usize;
        let mut filler = 0;
        while length <= STEP && filler < 1 << (STEP - length) {
            tables.short[(tables.codes[symbol] as usize) << (STEP - length) | filler] = (symbol as u8, length as u8);
            filler += 1;
        }
        symbol += 1;
    }
    tables
}

/// Bits of each symbol's code (appendix B).
#[rustfmt::skip]
static LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

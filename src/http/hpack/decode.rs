//! Reading a block of fields (RFC 7541 §3, §6).

use super::table::{self, Dynamic};
use super::{Error, INTEGER, huffman};

/// The reader of one connection's blocks: the dynamic table, and memory for what is coded.
#[derive(Debug, Clone)]
pub struct Decoder {
    table: Dynamic,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// A reader whose table holds at most `limit` bytes: the `SETTINGS_HEADER_TABLE_SIZE` that was announced.
    pub fn new(limit: usize) -> Decoder {
        Decoder { table: Dynamic::new(limit), name: Vec::new(), value: Vec::new() }
    }

    /// Reads a whole `block` and hands each `field(name, value)` on, in order. Names and values are any octets.
    ///
    /// After an error the connection is of no use.
    pub fn decode(&mut self, block: &[u8], field: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut rest = Reader { rest: block };
        while let Some(&first) = rest.rest.first() {
            match first {
                0x80.. => self.indexed(rest.integer(7, Error::LongIndex)?, field)?,
                0x40.. => {
                    let index = rest.integer(6, Error::LongIndex)?;
                    self.literal(index, &mut rest, true, field)?;
                }
                0x20.. => self.table.resize(rest.integer(5, Error::LongSize)?)?,
                _ => {
                    let index = rest.integer(4, Error::LongIndex)?;
                    self.literal(index, &mut rest, false, field)?;
                }
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize, field: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let (name, value) = self.table.get(index).ok_or(Error::Index(index))?;
        field(name, value);
        Ok(())
    }

    fn literal(
        &mut self,
        index: usize,
        rest: &mut Reader<'_>,
        keep: bool,
        field: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Error> {
        let name = match index {
            0 => match rest.string(&mut self.name)? {
                [] => return Err(Error::EmptyName),
                name => name,
            },
            _ => match table::fixed(index) {
                Some((name, _)) => name.as_bytes(),
                // The entry may have to go when its name comes in again.
                None => {
                    let (name, _) = self.table.get(index).ok_or(Error::Index(index))?;
                    self.name.clear();
                    self.name.extend_from_slice(name);
                    &self.name
                }
            },
        };
        let value = rest.string(&mut self.value)?;
        field(name, value);
        if keep {
            self.table.add(name, value);
        }
        Ok(())
    }
}

/// What is left of a block.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// An integer whose first octet has `bits` bits for it (§5.1); `long` is the error of one that takes too many octets.
    fn integer(&mut self, bits: u32, long: Error) -> Result<usize, Error> {
        let (&first, mut rest) = self.rest.split_first().ok_or(Error::Truncated)?;
        let full = (1 << bits) - 1;
        let mut value = usize::from(first) & full;
        if value == full {
            let mut done = false;
            for shift in 0..INTEGER - 1 {
                let (&octet, after) = rest.split_first().ok_or(Error::Truncated)?;
                rest = after;
                value += usize::from(octet & 0x7f) << (7 * shift);
                done = octet < 0x80;
                if done {
                    break;
                }
            }
            if !done {
                return Err(long);
            }
        }
        self.rest = rest;
        Ok(value)
    }

    /// A string (§5.2): a part of the block, or `memory` once it is decoded.
    fn string<'b>(&mut self, memory: &'b mut Vec<u8>) -> Result<&'b [u8], Error>
    where
        'a: 'b,
    {
        let coded = *self.rest.first().ok_or(Error::Truncated)? & 0x80 != 0;
        let length = self.integer(7, Error::LongLength)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        if !coded {
            return Ok(text);
        }
        memory.clear();
        huffman::decode(text, memory)?;
        Ok(memory)
    }
}

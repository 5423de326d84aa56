//! HPACK, the compression of fields in HTTP/2 (RFC 7541), as strict and as lenient as nginx.
//!
//! What we send uses the static table and Huffman's code, never the dynamic table: nginx does the same, and a connection
//! owns no memory for it.

mod decode;
mod encode;
mod huffman;
mod table;

pub use decode::Decoder;
pub use encode::Encoder;

/// Octets an integer takes at most, its first included; nginx reads no more.
const INTEGER: usize = 4;

/// Why a block of fields cannot be read; the tables of the two ends are apart from then on.
///
/// `Display` is what nginx says after "client sent ".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The block ends inside a field (in nginx FRAME_SIZE_ERROR, not COMPRESSION_ERROR).
    Truncated,
    /// The index of a field takes more than four octets.
    LongIndex,
    /// A new size of the table takes more than four octets.
    LongSize,
    /// The length of a name or a value takes more than four octets.
    LongLength,
    /// Index 0, or one that neither table has.
    Index(usize),
    /// A table larger than we allowed, in bytes.
    TableSize(usize),
    /// What no Huffman code stands for.
    Huffman,
    /// A name of no octets (in nginx PROTOCOL_ERROR, not COMPRESSION_ERROR).
    EmptyName,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Truncated => write!(f, "header block with incorrect length"),
            Error::LongIndex => write!(f, "header block with too long header index value"),
            Error::LongSize => write!(f, "header block with too long size update value"),
            Error::LongLength => write!(f, "header field with too long length value"),
            Error::Index(0) => write!(f, "invalid hpack table index 0"),
            Error::Index(index) => write!(f, "out of bound hpack table index: {index}"),
            Error::TableSize(size) => write!(f, "invalid table size update: {size}"),
            Error::Huffman => write!(f, "invalid encoded header field"),
            Error::EmptyName => write!(f, "zero header name length"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;

//! The gzip format, a piece at a time (RFC 1952).

use std::cell::RefCell;
use std::io;

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::flow::{Cause, Fault, Side, Stage};

/// Idle compressors a thread keeps: each owns some 300 KiB, which takes long to allocate and clear.
const IDLE: usize = 4;

/// How small and with how much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// 1 is fastest, 9 is smallest.
    pub level: u8,
    /// The binary logarithm of the window, 9 to 15.
    pub window: u8,
}

impl Default for Effort {
    fn default() -> Self {
        Self { level: 1, window: 15 }
    }
}

thread_local!(static POOL: RefCell<Vec<(Effort, Compress)>> = const { RefCell::new(Vec::new()) });

/// What is to come out of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What it sees fit.
    None,
    /// All that went in.
    Sync,
    /// That and the end.
    Finish,
}

/// Compresses.
pub struct Encoder {
    effort: Effort,
    compress: Option<Compress>,
}

impl Encoder {
    /// An encoder, which may be one that was used before.
    pub fn new(effort: Effort) -> Self {
        // The last log lines are compressed while the thread ends.
        let idle = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let at = pool.iter().position(|(other, _)| *other == effort)?;
            Some(pool.swap_remove(at).1)
        });
        let idle = idle.ok().flatten();
        let fresh = || Compress::new_gzip(Compression::new(effort.level.into()), effort.window.clamp(9, 15));
        Self { effort, compress: Some(idle.unwrap_or_else(fresh)) }
    }

    /// Compresses until the input is used up or `out` is full; true where `flush` is not done yet.
    pub fn run(&mut self, input: &mut Bytes, out: &mut Vec<u8>, flush: Flush) -> io::Result<bool> {
        let Some(compress) = &mut self.compress else { return Ok(false) };
        let how = match flush {
            Flush::None => FlushCompress::None,
            Flush::Sync => FlushCompress::Sync,
            Flush::Finish => FlushCompress::Finish,
        };
        let before = compress.total_in();
        let status = compress.compress_vec(input, out, how)?;
        input.advance(usize::try_from(compress.total_in() - before).unwrap_or_default().min(input.len()));
        Ok(match flush {
            Flush::Finish => status != Status::StreamEnd,
            _ => !input.is_empty() || out.len() == out.capacity(),
        })
    }

    /// Bytes that went in and came out.
    pub fn counts(&self) -> (u64, u64) {
        self.compress.as_ref().map_or((0, 0), |compress| (compress.total_in(), compress.total_out()))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let Some(mut compress) = self.compress.take() else { return };
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < IDLE {
                compress.reset();
                pool.push((self.effort, compress));
            }
        });
    }
}

/// All of `bytes` as one member.
pub fn member(effort: Effort, bytes: Bytes) -> io::Result<Vec<u8>> {
    let (mut input, mut encoder) = (bytes, Encoder::new(effort));
    let mut out = Vec::with_capacity(input.len() / 2 + 64);
    while encoder.run(&mut input, &mut out, Flush::Finish)? {
        out.reserve(4096);
    }
    Ok(out)
}

/// Decompresses members one behind the other.
pub struct Decoder {
    decompress: Decompress,
    ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { decompress: Decompress::new_gzip(15), ended: false }
    }
}

impl Decoder {
    /// Decompresses until the input is used up or `out` is full; true where there may be more to come out.
    pub fn run(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.ended {
            if input.is_empty() {
                return Ok(false);
            }
            *self = Self::default();
        }
        let before = self.decompress.total_in();
        let status = self.decompress.decompress_vec(input, out, FlushDecompress::None);
        let status = status.map_err(|_| broken("inflate() failed: 0, -3"))?;
        input.advance(usize::try_from(self.decompress.total_in() - before).unwrap_or_default().min(input.len()));
        self.ended = status == Status::StreamEnd;
        Ok(!input.is_empty() || (!self.ended && out.len() == out.capacity()))
    }

    /// Fails unless the last member ended.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.ended { Ok(()) } else { Err(broken("inflate() returned -5 on response end")) }
    }
}

/// What came is no gzip; the sentence is nginx's.
fn broken(sentence: &str) -> Fault {
    Fault { side: Side::Here, stage: Stage::Body, cause: Cause::Protocol(sentence.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8], piece: usize, room: usize) -> Result<Vec<u8>, Fault> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for piece in packed.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                let mut out = Vec::with_capacity(room);
                let more = decoder.run(&mut input, &mut out)?;
                all.extend_from_slice(&out);
                if !more {
                    break;
                }
            }
        }
        decoder.finish().map(|()| all)
    }

    #[test]
    fn goes_there_and_back() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| (n % 977 * n % 313).to_string().into_bytes()).collect();
        for (level, window) in [(1, 15), (6, 9), (9, 12), (1, 15)] {
            let packed = member(Effort { level, window }, text.clone().into()).unwrap();
            assert!(packed.len() < text.len() / 2);
            for (piece, room) in [(1 << 20, 4096), (1000, 100), (7, 1 << 16)] {
                assert!(unpack(&packed, piece, room).unwrap() == text, "{level} {window} {piece} {room}");
            }
            assert!(unpack(&packed[..packed.len() - 1], 1000, 1000).is_err());
        }
    }

    #[test]
    fn members_follow_one_another() {
        let two = [member(Effort::default(), "a".into()).unwrap(), member(Effort::default(), "b".into()).unwrap()];
        for piece in [1, 9, 1000] {
            assert_eq!(unpack(&two.concat(), piece, 64).unwrap(), b"ab");
        }
        assert!(unpack(b"not gzip", 10, 10).is_err());
        assert!(unpack(b"", 10, 10).is_err());
    }
}

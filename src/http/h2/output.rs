//! What waits to leave on an HTTP/2 connection: small frames in one buffer, large payloads where they are (RFC 9113 §4.1).

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Octets of a payload that are cheaper to copy than to write from a place of their own.
const LARGE: usize = 4 << 10;
/// Pieces of memory that are written at once.
const SLICES: usize = 64;
/// A buffer of more octets is not kept.
const KEEP: usize = 256 << 10;
/// Octets that have left before they are forgotten, while others wait.
const STEP: usize = 32 << 10;

/// The output.
#[derive(Debug, Default)]
pub struct Output {
    /// Frames one behind the other, but for large payloads.
    small: Vec<u8>,
    /// Large payloads in their order, each with its place in `small`.
    large: VecDeque<(usize, Bytes)>,
    /// Octets of large payloads, with those that have left.
    large_len: usize,
    /// Octets of `small` that have left.
    small_gone: usize,
    /// Octets of all that have left.
    gone: usize,
}

impl Output {
    /// Octets that wait, with some that have left.
    pub fn len(&self) -> usize {
        self.small.len() + self.large_len
    }

    /// Whether all has left.
    pub fn is_empty(&self) -> bool {
        self.small_gone == self.small.len() && self.large.is_empty()
    }

    /// Where frames are appended that hold no payload of others.
    pub fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Appends the first `len` octets of `pieces`.
    pub fn take(&mut self, pieces: &mut VecDeque<Bytes>, mut len: usize) {
        while len > 0
            && let Some(first) = pieces.front_mut()
        {
            let size = first.len().min(len);
            len -= size;
            if size >= LARGE {
                self.large.push_back((self.small.len(), first.split_to(size)));
                self.large_len += size;
            } else {
                self.small.extend_from_slice(first.get(..size).unwrap_or_default());
                first.advance(size);
            }
            if first.is_empty() {
                pieces.pop_front();
            }
        }
    }

    /// Has the first of what waits written; [`Output::advance`] is to be told how much of it was.
    pub fn write<T>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let rest = |from, to: usize| IoSlice::new(self.small.get(from..to).unwrap_or_default());
        if self.large.is_empty() {
            return write(&[rest(self.small_gone, self.small.len())]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut count, mut from) = (0, self.small_gone);
        let ends = self.large.iter().map(|(at, bytes)| (*at, &bytes[..])).chain([(self.small.len(), &[][..])]);
        let pieces = ends.flat_map(|(at, bytes)| [rest(std::mem::replace(&mut from, at), at), IoSlice::new(bytes)]);
        for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slice = piece;
            count += 1;
        }
        write(slices.get(..count).unwrap_or_default())
    }

    /// The first `n` octets have left.
    pub fn advance(&mut self, mut n: usize) {
        self.gone += n;
        loop {
            let until = self.large.front().map_or(self.small.len(), |(at, _)| *at);
            let part = n.min(until - self.small_gone);
            self.small_gone += part;
            n -= part;
            match self.large.front_mut() {
                Some((_, bytes)) if n < bytes.len() => return bytes.advance(n),
                Some((_, bytes)) => n -= bytes.len(),
                None => return,
            }
            self.large.pop_front();
        }
    }

    /// Forgets what has left, if it is worth the while.
    pub fn compact(&mut self) {
        if self.is_empty() {
            self.small.clear();
            if self.small.capacity() > KEEP {
                self.small = Vec::new();
            }
            self.large_len = 0;
        } else if self.gone >= STEP {
            self.small.drain(..self.small_gone);
            self.large.iter_mut().for_each(|(at, _)| *at -= self.small_gone);
            self.large_len -= self.gone - self.small_gone;
        } else {
            return;
        }
        (self.small_gone, self.gone) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames of a small and a large payload, twice.
    fn filled() -> (Output, Vec<u8>) {
        let (mut out, mut all) = (Output::default(), Vec::new());
        for byte in [b'a', b'b'] {
            let large = Bytes::from(vec![byte; 3 * LARGE]);
            let mut pieces = VecDeque::from([Bytes::from_static(b"first"), large]);
            all.extend_from_slice(
                &[b"head first".as_slice(), &vec![byte; 2 * LARGE], b"head ", &[byte; LARGE]].concat(),
            );
            out.frames().extend_from_slice(b"head ");
            out.take(&mut pieces, 5 + 2 * LARGE);
            out.frames().extend_from_slice(b"head ");
            out.take(&mut pieces, LARGE);
            assert!(pieces.is_empty());
        }
        (out, all)
    }

    #[test]
    fn all_leaves_in_order_whatever_is_taken_at_a_time() {
        for step in [1, 7, LARGE - 1, LARGE, STEP, 10 * LARGE] {
            let (mut out, all) = filled();
            assert_eq!(out.len(), all.len());
            let mut left = Vec::new();
            while !out.is_empty() {
                let first =
                    |slices: &[IoSlice<'_>]| slices.iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
                let taken: Vec<u8> = out.write(first);
                out.advance(taken.len());
                out.compact();
                assert!(out.len() < all.len() - left.len() + STEP);
                left.extend_from_slice(&taken);
            }
            assert_eq!((left == all, out.len()), (true, 0), "{step}");
        }
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let (out, _) = filled();
        assert_eq!(out.small, b"head firsthead head firsthead ");
        assert_eq!(out.write(|slices| slices.len()), 8);
        let mut out = Output::default();
        out.take(&mut VecDeque::from([Bytes::from(vec![0; LARGE - 1])]), LARGE);
        assert_eq!((out.small.len(), out.write(|slices| slices.len())), (LARGE - 1, 1));
    }
}

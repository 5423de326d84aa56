//! What leaves on a connection: frames in their order, as the socket takes them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};

use crate::net::Stream;

/// Pieces that are written at once.
const PIECES: usize = 16;

/// Frames that have not left.
#[derive(Default)]
pub struct Out {
    queue: VecDeque<Bytes>,
    /// Bytes that have left.
    pub sent: u64,
}

impl Out {
    /// Adds the frames that `write` makes.
    pub fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::with_capacity(32);
        write(&mut bytes);
        self.queue.push_back(bytes.into());
    }

    /// Adds bytes of a frame.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// All of them.
    #[cfg(test)]
    pub fn bytes(&self) -> Vec<u8> {
        self.queue.iter().flatten().copied().collect()
    }

    /// Whether all of them have left.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends all of them.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
            }
            let filled = slices.get(..self.queue.len().min(PIECES)).unwrap_or_default();
            let mut n = ready!(stream.poll_write(cx, filled))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n as u64;
            while let Some(first) = self.queue.front_mut() {
                let taken = first.len().min(n);
                first.advance(taken);
                n -= taken;
                if !first.is_empty() {
                    break;
                }
                self.queue.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what leaves without waiting; true if that is all.
    pub fn flush_now(&mut self, stream: &Stream) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.poll_flush(&mut cx, stream), Poll::Ready(Ok(())))
    }
}

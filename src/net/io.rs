//! A stream as libraries want it: what was read already comes first, and small writes leave together (RFC 9113 §4).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;
use super::stream::make_room;

/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// Bytes that are gathered before they are written.
const GATHER: usize = 32 << 10;

/// A buffered stream.
pub struct Io {
    stream: Rc<Stream>,
    /// What came and was not read.
    input: BytesMut,
    /// What was written and has not left.
    output: BytesMut,
}

impl Io {
    /// A stream of which `input` was read already.
    pub fn new(stream: Rc<Stream>, input: BytesMut) -> Self {
        Self { stream, input, output: BytesMut::new() }
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let n = ready!(self.stream.poll_write(cx, &[IoSlice::new(&self.output)]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(n);
        }
        if self.output.capacity() > 2 * GATHER {
            self.output = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.input.is_empty() {
            make_room(&mut this.input, READ);
            match this.stream.poll_read(cx, &mut this.input, READ) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    // A silent connection owns no buffer.
                    this.input = BytesMut::new();
                    return Poll::Pending;
                }
            };
        }
        let n = this.input.len().min(to.remaining());
        to.put_slice(&this.input.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.output.len() >= GATHER {
            ready!(self.drain(cx))?;
        }
        self.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.output.len() >= GATHER {
            ready!(self.drain(cx))?;
        }
        let before = self.output.len();
        slices.iter().for_each(|slice| self.output.extend_from_slice(slice));
        Poll::Ready(Ok(self.output.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drain(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection lingers after this; who drops it closes it.
        self.drain(cx)
    }
}

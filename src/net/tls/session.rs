//! A TLS session over a socket: records in, records out, and nothing that waits (RFC 8446 §5).

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::facts::Facts;
use crate::net::stream::Io;

/// Plaintext that is encrypted and written at once.
const GATHER: usize = 64 << 10;
/// Ciphertext that is read at once; what it decrypts to always finds room in rustls's own buffer.
const SCRATCH: usize = 16 << 10;

thread_local! {
    static SCRATCHES: RefCell<Vec<Vec<u8>>> = RefCell::default();
}

/// Lends a buffer of the thread's.
fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buf = SCRATCHES.with_borrow_mut(Vec::pop).unwrap_or_default();
    buf.resize(buf.len().max(len), 0);
    let done = work(buf.get_mut(..len).unwrap_or_default());
    SCRATCHES.with_borrow_mut(|all| all.push(buf));
    done
}

/// An established session.
pub struct Session {
    state: RefCell<State>,
    /// What the handshake agreed on.
    pub facts: Facts,
}

struct State {
    conn: Connection,
    /// Bytes that were encrypted for a write that has not returned yet.
    accepted: usize,
    /// Early data that was not taken yet.
    early: Vec<u8>,
    /// Ciphertext that waits until what came before it was taken.
    pending: Vec<u8>,
    /// Whether nothing more will come.
    ended: bool,
}

/// A socket as rustls reads and writes it; what would wait registers the task and says so.
pub struct Raw<'a, 'b, 'c> {
    /// The socket.
    pub io: &'a mut Io,
    /// The task.
    pub cx: &'b mut Context<'c>,
}

fn blocking<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Raw<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        let poll = match self.io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(self.cx, &mut buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(self.cx, &mut buf),
        };
        blocking(poll).map(|()| buf.filled().len())
    }
}

impl Write for Raw<'_, '_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        blocking(match (&mut *self.io, slices) {
            (Io::Tcp(stream), [one]) => Pin::new(stream).poll_write(self.cx, one),
            (Io::Tcp(stream), slices) => Pin::new(stream).poll_write_vectored(self.cx, slices),
            (Io::Unix(stream), [one]) => Pin::new(stream).poll_write(self.cx, one),
            (Io::Unix(stream), slices) => Pin::new(stream).poll_write_vectored(self.cx, slices),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// A session whose handshake is over.
    pub fn new(mut conn: Connection, facts: Facts) -> Self {
        // How much waits to be written is bounded here, by what one write takes.
        conn.set_buffer_limit(None);
        let (early, pending) = (Vec::new(), Vec::new());
        let mut state = State { conn, accepted: 0, early, pending, ended: false };
        state.gather_early();
        Self { state: RefCell::new(state), facts }
    }

    /// Runs `look` over the connection.
    pub fn with<T>(&self, look: impl FnOnce(&Connection) -> T) -> T {
        look(&self.state.borrow().conn)
    }

    /// Reads as [`crate::net::Stream::poll_read`] does.
    pub fn poll_read(&self, raw: &mut Raw<'_, '_, '_>, buf: &mut BytesMut, max: usize) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        let n = state.take(buf, max);
        if n > 0 || max == 0 {
            return Poll::Ready(Ok(n));
        }
        ready!(state.poll_filled(raw))?;
        Poll::Ready(Ok(state.take(buf, max)))
    }

    /// Whether there is something to read, or the end.
    pub fn poll_readable(&self, raw: &mut Raw<'_, '_, '_>) -> Poll<io::Result<()>> {
        self.state.borrow_mut().poll_filled(raw)
    }

    /// Whether the peer has ended its side; data that came is kept.
    pub fn poll_hung_up(&self, raw: &mut Raw<'_, '_, '_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        match state.poll_filled(raw) {
            Poll::Ready(Ok(())) if !state.has_plaintext() => Poll::Ready(()),
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Writes some of the slices. What was encrypted but did not leave yet is written by the next call, which must bring the same.
    pub fn poll_write(&self, raw: &mut Raw<'_, '_, '_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if state.accepted == 0 {
            state.accepted = state.encrypt(slices)?;
        }
        state.poll_written(raw)
    }

    /// Takes bytes that leave with those of the next write.
    pub fn write_ahead(&self, bytes: &[u8]) -> io::Result<usize> {
        self.state.borrow_mut().encrypt(&[IoSlice::new(bytes)])
    }

    /// Writes the last bytes of the session, and a goodbye with them.
    pub fn poll_write_last(&self, raw: &mut Raw<'_, '_, '_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if state.accepted == 0 {
            state.accepted = state.encrypt(&[IoSlice::new(bytes)])?;
            if state.accepted == bytes.len() {
                state.conn.send_close_notify();
            }
        }
        state.poll_written(raw)
    }

    /// Sends up to `len` bytes of `file` from `offset`.
    pub fn poll_send_file(
        &self,
        raw: &mut Raw<'_, '_, '_>,
        file: &File,
        offset: u64,
        len: u64,
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if state.accepted == 0 {
            let len = usize::try_from(len).unwrap_or(GATHER).min(GATHER);
            state.accepted = with_scratch(len, |buf| {
                let n = file.read_at(buf, offset)?;
                state.conn.writer().write(buf.get(..n).unwrap_or_default())
            })?;
        }
        state.poll_written(raw)
    }

    /// Says goodbye and closes the sending side of the session.
    pub fn poll_shutdown(&self, raw: &mut Raw<'_, '_, '_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        state.conn.send_close_notify();
        state.poll_flush(raw)
    }
}

impl State {
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut some = [IoSlice::new(&[]); 16];
        let (mut count, mut left) = (0, GATHER);
        for (slot, slice) in some.iter_mut().zip(slices) {
            let bytes = slice.get(..left).unwrap_or(slice);
            *slot = IoSlice::new(bytes);
            left -= bytes.len();
            count += 1;
            if left == 0 {
                break;
            }
        }
        match some.get(..count).unwrap_or_default() {
            [one] => self.conn.writer().write(one),
            several => self.conn.writer().write_vectored(several),
        }
    }

    fn poll_written(&mut self, raw: &mut Raw<'_, '_, '_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(raw))?;
        Poll::Ready(Ok(std::mem::take(&mut self.accepted)))
    }

    fn poll_flush(&mut self, raw: &mut Raw<'_, '_, '_>) -> Poll<io::Result<()>> {
        while self.conn.wants_write() {
            match self.conn.write_tls(raw) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves plaintext that is there into `buf`.
    fn take(&mut self, buf: &mut BytesMut, max: usize) -> usize {
        let mut taken = self.early.len().min(max);
        buf.extend(self.early.drain(..taken));
        let mut reader = self.conn.reader();
        while taken < max {
            let Ok(chunk) = reader.fill_buf() else { break };
            let n = chunk.len().min(max - taken);
            if n == 0 {
                break;
            }
            buf.put_slice(chunk.get(..n).unwrap_or_default());
            reader.consume(n);
            taken += n;
        }
        taken
    }

    /// Takes early data in, which comes before the handshake is over (RFC 8446 §2.3).
    fn gather_early(&mut self) {
        let Connection::Server(conn) = &mut self.conn else { return };
        let Some(mut early) = conn.early_data() else { return };
        // What is no whole record yet is read with the rest of it.
        let _ = early.read_to_end(&mut self.early);
    }

    fn has_plaintext(&mut self) -> bool {
        !self.early.is_empty() || self.conn.reader().fill_buf().is_ok_and(|chunk| !chunk.is_empty())
    }

    /// Reads until there is plaintext or the end.
    fn poll_filled(&mut self, raw: &mut Raw<'_, '_, '_>) -> Poll<io::Result<()>> {
        loop {
            if self.ended || self.has_plaintext() {
                return Poll::Ready(Ok(()));
            }
            let pending = std::mem::take(&mut self.pending);
            let read: io::Result<io::Result<()>> = match pending.is_empty() {
                true => with_scratch(SCRATCH, |buf| {
                    let n = raw.read(buf)?;
                    Ok(self.feed(buf.get(..n).unwrap_or_default()))
                }),
                false => Ok(self.feed(&pending)),
            };
            let processed = match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flush_own(raw);
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(state) => state,
            };
            if let Err(error) = processed {
                self.flush_own(raw);
                return Poll::Ready(Err(error));
            }
        }
    }

    /// The session's own messages (tickets, alerts, new keys) leave as soon as there is nothing to read, unless a write takes them
    /// along before.
    fn flush_own(&mut self, raw: &mut Raw<'_, '_, '_>) {
        if self.conn.wants_write() && self.accepted == 0 {
            // An error is seen by who reads or writes next.
            let _ = self.poll_flush(raw);
        }
    }

    /// Decrypts what came, as long as there is room for it.
    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.ended = true;
        }
        while !bytes.is_empty() {
            self.conn.read_tls(&mut bytes)?;
            match self.conn.process_new_packets() {
                Ok(state) if state.peer_has_closed() => {
                    self.ended = true;
                    break;
                }
                Ok(state) if state.plaintext_bytes_to_read() >= SCRATCH => {
                    self.pending = bytes.to_vec();
                    break;
                }
                Ok(_) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            self.gather_early();
        }
        Ok(())
    }
}

/// Certificates of a chain, as they came.
pub type Chain = Arc<[rustls::pki_types::CertificateDer<'static>]>;

//! One byte stream: TCP or a unix socket, plain or under TLS. Shared by reader and writer of one task, never across threads.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use super::tls::Session;
use super::tls::session::Raw;

/// A connected stream.
pub struct Stream {
    io: RefCell<Io>,
    /// The session, from the end of the handshake on.
    tls: OnceCell<Box<Session>>,
    /// The name a client asks for, known while its handshake runs.
    asked: OnceCell<Box<str>>,
    /// The number of the error that the peer's end came with; 0 is none.
    broken: Cell<i32>,
}

/// The socket below.
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// What comes behind a write.
#[derive(Clone, Copy, Debug)]
pub enum Follows {
    /// A file.
    File,
    /// The end of the connection.
    End,
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { io: RefCell::new(Io::Tcp(stream)), tls: OnceCell::new(), asked: OnceCell::new(), broken: Cell::new(0) }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self { io: RefCell::new(Io::Unix(stream)), tls: OnceCell::new(), asked: OnceCell::new(), broken: Cell::new(0) }
    }
}

impl Stream {
    /// The TLS session; none on a plain stream.
    pub fn tls(&self) -> Option<&Session> {
        self.tls.get().map(Box::as_ref)
    }

    /// Lets `session` carry everything from here on.
    pub fn secure(&self, session: Session) {
        // A stream has one handshake.
        let _ = self.tls.set(Box::new(session));
    }

    /// The name a client asked for.
    pub fn asked(&self) -> Option<&str> {
        self.asked.get().map(Box::as_ref)
    }

    /// Notes the name a client asks for.
    pub fn ask(&self, name: &str) {
        let _ = self.asked.set(name.into());
    }

    /// The protocol that the handshake agreed on: `h2`, `http/1.1`.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.tls()?.with(|conn| conn.alpn_protocol().map(<[u8]>::to_vec))
    }

    /// Runs `work` over the session and the socket below it.
    fn raw<T>(&self, cx: &mut Context<'_>, work: impl FnOnce(&mut Raw<'_, '_, '_>) -> T) -> T {
        work(&mut Raw { io: &mut self.io.borrow_mut(), cx })
    }

    /// Waits until a stream that is being connected is; the error says why it is not.
    pub async fn connected(&mut self) -> io::Result<()> {
        const DONE: Interest = Interest::WRITABLE.add(Interest::ERROR);
        let ready = match self.io.get_mut() {
            Io::Tcp(stream) => stream.ready(DONE).await?,
            Io::Unix(stream) => stream.ready(DONE).await?,
        };
        if !ready.is_error() && !ready.is_write_closed() {
            return Ok(());
        }
        let failure = match self.io.get_mut() {
            Io::Tcp(stream) => stream.take_error()?,
            Io::Unix(stream) => stream.take_error()?,
        };
        failure.map_or(Ok(()), Err)
    }

    /// Reads up to `max` bytes behind what `buf` holds; 0 is the peer's end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut BytesMut, max: usize) -> Poll<io::Result<usize>> {
        if let Some(tls) = self.tls.get() {
            return self.raw(cx, |raw| tls.poll_read(raw, buf, max));
        }
        let mut limited = buf.limit(max);
        match &mut *self.io.borrow_mut() {
            Io::Tcp(stream) => pin!(stream.read_buf(&mut limited)).poll(cx),
            Io::Unix(stream) => pin!(stream.read_buf(&mut limited)).poll(cx),
        }
    }

    /// Reads as [`Stream::poll_read`] does.
    pub async fn read(&self, buf: &mut BytesMut, max: usize) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buf, max)).await
    }

    /// Writes some of the slices.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(tls) = self.tls.get() {
            return self.raw(cx, |raw| tls.poll_write(raw, slices));
        }
        // One slice needs no vector, which the kernel would have to copy in.
        match (&mut *self.io.borrow_mut(), slices) {
            (Io::Tcp(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Io::Tcp(stream), slices) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Io::Unix(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Io::Unix(stream), slices) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Writes some of `bytes`, which the kernel may hold back for a moment: what `follows` comes at once, and they leave together.
    pub fn poll_write_ahead(&self, cx: &mut Context<'_>, bytes: &[u8], follows: Follows) -> Poll<io::Result<usize>> {
        /// `MSG_MORE` of send(2), a request to wait that the socket crate has no name for.
        const MORE: i32 = 0x8000;
        match (self.tls.get(), follows) {
            (Some(tls), Follows::File) => return Poll::Ready(tls.write_ahead(bytes)),
            (Some(tls), Follows::End) => return self.raw(cx, |raw| tls.poll_write_last(raw, bytes)),
            (None, _) => {}
        }
        if let Io::Tcp(stream) = &*self.io.borrow() {
            while std::task::ready!(stream.poll_write_ready(cx)).is_ok() {
                match stream.try_io(Interest::WRITABLE, || SockRef::from(stream).send_with_flags(bytes, MORE)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    sent => return Poll::Ready(sent),
                }
            }
        }
        self.poll_write(cx, &[IoSlice::new(bytes)])
    }

    /// Writes all of `bytes`.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = std::future::poll_fn(|cx| self.poll_write(cx, &[IoSlice::new(bytes)])).await?;
            bytes = bytes.get(n..).unwrap_or_default();
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Sends up to `len` bytes of `file` from `offset` without copying them through memory.
    pub fn poll_send_file(&self, cx: &mut Context<'_>, file: &File, offset: u64, len: u64) -> Poll<io::Result<usize>> {
        if let Some(tls) = self.tls.get() {
            return self.raw(cx, |raw| tls.poll_send_file(raw, file, offset, len));
        }
        let len = usize::try_from(len.min(2 << 20)).unwrap_or(2 << 20);
        let io = self.io.borrow();
        loop {
            let ready = match &*io {
                Io::Tcp(stream) => stream.poll_write_ready(cx),
                Io::Unix(stream) => stream.poll_write_ready(cx),
            };
            match ready {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            let sent = match &*io {
                Io::Tcp(stream) => stream.try_io(Interest::WRITABLE, || send_file(stream, file, offset, len)),
                Io::Unix(stream) => stream.try_io(Interest::WRITABLE, || send_file(stream, file, offset, len)),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Whether there is something to read, or the end.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = self.tls.get() {
            return self.raw(cx, |raw| tls.poll_readable(raw));
        }
        match &*self.io.borrow() {
            Io::Tcp(stream) => stream.poll_read_ready(cx),
            Io::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Waits as [`Stream::poll_readable`] tells.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Whether an idle stream can still be used: nothing came on it, not even its end.
    pub fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.poll_readable(&mut cx).is_pending() {
            return true;
        }
        if self.tls.get().is_some() {
            return false;
        }
        let mut probe = [0u8; 1];
        let read = match &*self.io.borrow() {
            Io::Tcp(stream) => stream.try_read(&mut probe),
            Io::Unix(stream) => stream.try_read(&mut probe),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ready when the peer has closed its side and has nothing more to say.
    pub fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(tls) = self.tls.get() {
            return self.raw(cx, |raw| tls.poll_hung_up(raw));
        }
        loop {
            if self.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            let peek = |fd| Ok(nix::sys::socket::recv(fd, &mut [0u8; 1], nix::sys::socket::MsgFlags::MSG_PEEK)?);
            let peeked = match &*self.io.borrow() {
                Io::Tcp(stream) => stream.try_io(Interest::READABLE, || peek(stream.as_raw_fd())),
                Io::Unix(stream) => stream.try_io(Interest::READABLE, || peek(stream.as_raw_fd())),
            };
            match peeked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(1..) => return Poll::Pending,
                Ok(_) => return Poll::Ready(()),
                Err(error) => {
                    self.note(&error);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Notes what the peer's end came with.
    pub fn note(&self, error: &io::Error) {
        self.broken.set(error.raw_os_error().unwrap_or_default());
    }

    /// The error that was noted, as by [`Stream::poll_hung_up`], where the peer did not just close.
    pub fn broken(&self) -> Option<io::Error> {
        Some(self.broken.get()).filter(|&code| code != 0).map(io::Error::from_raw_os_error)
    }

    /// Waits as [`Stream::poll_hung_up`] tells; for ever if the peer has more to say.
    pub async fn hung_up(&self) {
        std::future::poll_fn(|cx| self.poll_hung_up(cx)).await;
    }

    /// Closes the sending side.
    pub async fn shutdown(&self) -> io::Result<()> {
        if let Some(tls) = self.tls.get() {
            std::future::poll_fn(|cx| self.raw(cx, |raw| tls.poll_shutdown(raw))).await?;
        }
        std::future::poll_fn(|cx| match &mut *self.io.borrow_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        })
        .await
    }

    /// Ends both directions at once; whoever waits for the stream sees its end.
    pub fn cut(&self) {
        // A stream that has ended already needs no end.
        let _ = match &*self.io.borrow() {
            Io::Tcp(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Both),
            Io::Unix(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Both),
        };
    }

    /// Makes the kernel answer with a reset when the stream is dropped.
    pub fn reset_on_close(&self) {
        if let Io::Tcp(stream) = &*self.io.borrow() {
            // Only a courtesy to the kernel: closing works without it.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Switches Nagle's algorithm off or on; unix sockets have none.
    pub fn set_nodelay(&self, on: bool) {
        if let Io::Tcp(stream) = &*self.io.borrow() {
            let _ = stream.set_nodelay(on);
        }
    }

    /// Acknowledges what came and what comes at once: a peer may hold the rest of a message back until then.
    pub fn acknowledge_quickly(&self) {
        if let Io::Tcp(stream) = &*self.io.borrow() {
            let _ = SockRef::from(stream).set_tcp_quickack(true);
        }
    }

    /// The address and port this end has, for TCP.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match &*self.io.borrow() {
            Io::Tcp(stream) => stream.local_addr().ok(),
            Io::Unix(_) => None,
        }
    }
}

/// A session says goodbye, as far as that leaves at once.
impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = self.tls.take() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = self.raw(&mut cx, |raw| tls.poll_shutdown(raw));
        }
    }
}

fn send_file(to: impl AsFd, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(io::Error::other)?;
    Ok(nix::sys::sendfile::sendfile(to, file, Some(&mut offset), len)?)
}

/// Room for `len` more bytes, without growing what is there already.
pub fn make_room(buf: &mut BytesMut, len: usize) {
    if buf.capacity() - buf.len() < len {
        buf.reserve(len);
    }
    debug_assert!(buf.remaining_mut() >= len);
}

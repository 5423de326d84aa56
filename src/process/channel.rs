//! The socket pair between master and worker: messages of bytes and descriptors (unix(7), `SCM_RIGHTS`).
#![allow(unsafe_code, reason = "a descriptor that the kernel has just handed over has no owner yet")]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Descriptors that go with one byte; the kernel takes 253 at most.
const BATCH: usize = 200;
/// How long a peer may take to read: longer, and it is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// One end.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        one.set_write_timeout(Some(PATIENCE))?;
        other.set_write_timeout(Some(PATIENCE))?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes();
        let mut stream = &self.0;
        stream.write_all(&length(message.len()))?;
        stream.write_all(&length(descriptors.len()))?;
        for batch in descriptors.chunks(BATCH) {
            let raw: Vec<RawFd> = batch.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&raw)];
            sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(b"+")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        }
        stream.write_all(message)
    }

    /// The next message; none at the peer's end.
    pub fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut stream = &self.0;
        let mut length = || -> io::Result<u64> {
            let mut bytes = [0; 8];
            stream.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let size = match length() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            size => size?,
        };
        let count = usize::try_from(length()?).map_err(io::Error::other)?;
        let mut descriptors = Vec::new();
        while descriptors.len() < count {
            self.batch(&mut descriptors)?;
        }
        let mut message = Vec::new();
        stream.take(size).read_to_end(&mut message)?;
        let whole = message.len() as u64 == size;
        if whole { Ok(Some((message, descriptors))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn batch(&self, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut byte = [0];
        let mut byte = [IoSliceMut::new(&mut byte)];
        let mut space = nix::cmsg_space!([RawFd; BATCH]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut byte, Some(&mut space), flags)?;
        let before = descriptors.len();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel made these descriptors for this process in this very call; nobody else owns them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        if descriptors.len() == before { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn messages_arrive_with_their_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let many: Vec<BorrowedFd<'_>> = (0..BATCH + 1).map(|_| file.as_fd()).collect();
        let text = vec![b'x'; 1 << 20];
        let sender = std::thread::scope(|scope| {
            let sent = scope.spawn(|| one.send(&text, &many));
            let (message, descriptors) = other.receive().unwrap().unwrap();
            assert_eq!((message.len(), descriptors.len()), (1 << 20, BATCH + 1));
            assert_eq!(std::fs::File::from(descriptors.into_iter().next().unwrap()).stream_position().unwrap(), 0);
            sent.join().unwrap()
        });
        sender.unwrap();
        one.send(b"", &[]).unwrap();
        assert_eq!(other.receive().unwrap().unwrap().0, b"");
        drop(one);
        assert!(other.receive().unwrap().is_none());
    }
}

//! The signals a process hears (<https://nginx.org/en/docs/control.html>), read like a file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::net::{ErrorLog, Level};

/// Everything that means something to a master or a worker.
const HEARD: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
    Signal::SIGIO,
];

/// An ear for signals. From its making on they are kept until they are asked for.
pub struct Signals(SignalFd);

impl Signals {
    /// Listens. Threads that start later leave the signals to this ear.
    pub fn listen() -> io::Result<Self> {
        let heard: SigSet = HEARD.into_iter().collect();
        heard.thread_block()?;
        Ok(Self(SignalFd::with_flags(&heard, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next signal; `log` learns who sent it and what comes of it.
    pub fn next(&self, log: &ErrorLog, meaning: impl Fn(Signal) -> &'static str) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())?;
        let from = if info.ssi_pid == 0 { String::new() } else { format!(" received from {}", info.ssi_pid) };
        let from = if from.is_empty() { " received".to_owned() } else { from };
        let message = format!("signal {} ({signal}){from}{}", signal as i32, meaning(signal));
        log.write(Level::Notice, None, &message);
        Some(signal)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `descriptors` has something to read or has ended; which ones have. `limit` is in milliseconds.
pub fn wait(descriptors: &[BorrowedFd<'_>], limit: Option<u16>) -> Vec<bool> {
    let mut set: Vec<PollFd<'_>> = descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // An interruption is a wait that was short.
    let _ = poll(&mut set, limit.map_or(PollTimeout::NONE, PollTimeout::from));
    set.iter().map(|fd| fd.any().unwrap_or(false)).collect()
}

//! A new program takes over while the old one serves (<https://nginx.org/en/docs/control.html#upgrade>).
#![allow(unsafe_code, reason = "descriptors that a predecessor or systemd left open have no owner yet")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{systemd, title};

/// The variable in which the descriptors of listening sockets are handed on: `6;7;`.
const VARIABLE: &str = "NGINX";

/// What a predecessor left.
#[derive(Default)]
pub struct Inheritance {
    /// Listening sockets.
    pub sockets: Vec<OwnedFd>,
    /// Whether a running server left them, whose successor this is.
    pub succeeds: bool,
    /// What the error log says of it.
    pub note: Option<String>,
}

impl Inheritance {
    /// The sockets of a running server or of systemd. To be asked once: it owns them from then on.
    pub fn take() -> Self {
        if let Ok(list) = std::env::var(VARIABLE) {
            let numbers: Vec<RawFd> = list.split([';', ':']).filter_map(|number| number.parse().ok()).collect();
            let note = Some(format!("using inherited sockets from \"{list}\""));
            return Self { sockets: own(numbers), succeeds: true, note };
        }
        Self { sockets: own(systemd::sockets()), succeeds: false, note: None }
    }
}

fn own(numbers: impl IntoIterator<Item = RawFd>) -> Vec<OwnedFd> {
    let open = numbers.into_iter().filter(|&fd| {
        // SAFETY: the descriptor is only looked at; one that is not open is an error.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok()
    });
    // SAFETY: they are open, and whoever started this program left them to it and to nobody else.
    open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Starts the program that lies under this one's name now, with the sockets; its process number.
pub fn start(sockets: impl IntoIterator<Item = RawFd>) -> Result<u32> {
    let mut list = String::new();
    let mut handed = Vec::new();
    for fd in sockets {
        list.push_str(&format!("{fd};"));
        // SAFETY: the listeners that own the descriptors outlive this call.
        handed.push(unsafe { BorrowedFd::borrow_raw(fd) });
    }
    let keep = |flag| handed.iter().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flag)).map(drop));
    keep(FdFlag::empty())?;
    let program = title::program();
    let child = Command::new(&program).args(std::env::args_os().skip(1)).env(VARIABLE, list).spawn();
    keep(FdFlag::FD_CLOEXEC)?;
    Ok(child
        .with_context(|| format!("execve() failed while executing new binary process \"{}\"", program.display()))?
        .id())
}

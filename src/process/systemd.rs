//! What systemd hands over and wants to hear: sd_listen_fds(3), sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The descriptors of sockets that systemd opened for this process, where it did.
pub fn sockets() -> std::ops::Range<i32> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    let own = number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
    let count = if own { number("LISTEN_FDS").unwrap_or_default() } else { 0 };
    3..3 + count.max(0)
}

/// Tells systemd how things are, where it listens: `READY=1`, `RELOADING=1`, `STOPPING=1`.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.as_bytes();
    let to = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    };
    // Who does not listen need not be told.
    let _ = to.and_then(|to| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to));
}

/// What a reload begins with: systemd wants to know when.
pub fn reloading() -> String {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let now = now.map(std::time::Duration::from).unwrap_or_default();
    format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())
}

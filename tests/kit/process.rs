//! Processes, ports and directories that go away with the test (no page of nginx's manual).

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything that should become ready.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A child in a process group of its own; the whole group ends when this is dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `command`; panics with its name if it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.process_group(0).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display())) }
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Has the first process of the group not ended yet?
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The group's first process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Sends `signal` to the first process only.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(self.pid(), signal);
    }

    /// Waits for the end that a signal or the process itself has brought about.
    pub fn wait_end(&mut self) -> Option<ExitStatus> {
        until(PATIENCE, || self.child.try_wait().ok().flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.pid();
        let _ = killpg(group, Signal::SIGTERM);
        let ended = until(Duration::from_secs(5), || self.child.try_wait().ok().flatten());
        let _ = killpg(group, Signal::SIGKILL);
        if ended.is_none() {
            let _ = self.child.wait();
        }
    }
}

/// Polls until `ready` gives something or `limit` has passed.
pub fn until<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = ready() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until 127.0.0.1:`port` accepts; false if `process` ended or [`PATIENCE`] ran out first.
pub fn wait_for_port(port: u16, process: &mut Running) -> bool {
    until(PATIENCE, || match TcpStream::connect(("127.0.0.1", port)) {
        Ok(_) => Some(true),
        Err(_) if !process.alive() => Some(false),
        Err(_) => None,
    }) == Some(true)
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    // Below what the kernel gives to clients, or one of them might have it before the server does; a range for each process.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let base = 10_240 + std::process::id() % 320 * 64;
    let ports = std::iter::repeat_with(|| base + NEXT.fetch_add(1, Ordering::Relaxed) % 64);
    let mut ports = ports.take(64).filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// A new directory, removed on drop; its path is short enough for unix sockets in it.
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates `TMPDIR/nginx-rs-NAME-PID-N`.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nginx-rs-{name}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates a directory inside.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

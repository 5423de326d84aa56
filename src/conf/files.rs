//! Where a configuration's bytes, paths and host names come from: the disk, or a snapshot taken of it.
//!
//! A privileged process reads the disk and an unprivileged one compiles the same configuration from what was read
//! (<https://nginx.org/en/docs/control.html>), so that it needs no right to read keys.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long whoever writes to a pipe is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What compiling asks of the world around it.
pub trait Files: Send + Sync {
    /// The contents of a file.
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>>;
    /// The files a pattern names, sorted.
    fn glob(&self, pattern: &Path) -> Vec<PathBuf>;
    /// The addresses of a host name; none where nothing answers to it.
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>>;
}

/// The disk and the system's resolver, each asked once: a second question gets the first one's answer.
#[derive(Default)]
pub struct Disk(Mutex<Snapshot>);

/// The answers to everything that compiling a configuration asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The bytes of files, or the number of the operating system's error.
    pub read: HashMap<PathBuf, Result<Arc<[u8]>, i32>>,
    /// The files that patterns name.
    pub globs: HashMap<PathBuf, Vec<PathBuf>>,
    /// The addresses of host names.
    pub names: HashMap<String, Option<Vec<IpAddr>>>,
}

impl Disk {
    /// What was asked so far, with its answers.
    pub fn snapshot(&self) -> Snapshot {
        self.answers().clone()
    }

    fn answers(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if let Some(known) = self.answers().read.get(path) {
            return known.clone().map_err(io::Error::from_raw_os_error);
        }
        let read = super::read::read(path, PATIENCE).map(Arc::from);
        let kept = read.as_ref().map(Arc::clone).map_err(|error| error.raw_os_error().unwrap_or_default());
        self.answers().read.insert(path.to_owned(), kept);
        read
    }

    fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = glob::glob_with(&pattern.to_string_lossy(), options);
        let paths: Vec<PathBuf> = found.map(|paths| paths.filter_map(Result::ok).collect()).unwrap_or_default();
        self.answers().globs.entry(pattern.to_owned()).or_insert(paths).clone()
    }

    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        use std::net::ToSocketAddrs;
        if let Some(known) = self.answers().names.get(name) {
            return known.clone();
        }
        let found = (name, 0).to_socket_addrs().ok().map(|found| {
            let mut found: Vec<IpAddr> = found.map(|at| at.ip()).collect();
            found.dedup();
            found
        });
        self.answers().names.entry(name.to_owned()).or_insert(found).clone()
    }
}

impl Files for Snapshot {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        let known = self.read.get(path).cloned().unwrap_or(Err(nix::errno::Errno::ENOENT as i32));
        known.map_err(io::Error::from_raw_os_error)
    }

    fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        self.globs.get(pattern).cloned().unwrap_or_default()
    }

    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.names.get(name).cloned().flatten()
    }
}

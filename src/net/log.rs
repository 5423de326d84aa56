//! Log files and the error log's format (<https://nginx.org/en/docs/ngx_core_module.html#error_log>).

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::clock;
use super::syslog::Syslog;

/// How grave an entry is; a log takes its own level and everything graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

impl Level {
    /// All levels by name.
    pub const NAMES: [(&'static str, Level); 8] = [
        ("emerg", Level::Emerg),
        ("alert", Level::Alert),
        ("crit", Level::Crit),
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("notice", Level::Notice),
        ("info", Level::Info),
        ("debug", Level::Debug),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::NAMES.iter().find(|(_, level)| level == self).map_or("error", |(name, _)| name);
        f.write_str(name)
    }
}

/// A file that is appended to and can be opened anew by name (USR1).
#[derive(Debug)]
pub struct LogFile {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
}

impl LogFile {
    /// Opens `path`, making it where it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: Some(path.to_owned()), file: Mutex::new(Some(append(path)?)) })
    }

    /// A file that is open for appending.
    pub fn from_file(path: &Path, file: File) -> Self {
        Self { path: Some(path.to_owned()), file: Mutex::new(Some(file)) }
    }

    /// The process's standard error.
    pub fn stderr() -> Self {
        Self { path: None, file: Mutex::new(None) }
    }

    /// Its path; none for standard error.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Opens the same name again; it belongs to the user `owner` then, who may read and write it.
    pub fn reopen(&self, owner: Option<u32>) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = append(path)?;
        if let Some(owner) = owner {
            let found = file.metadata()?;
            if found.is_file() && found.uid() != owner {
                std::os::unix::fs::fchown(&file, Some(owner), None)?;
            }
            if found.is_file() && found.mode() & 0o600 != 0o600 {
                file.set_permissions(Permissions::from_mode(found.mode() | 0o600))?;
            }
        }
        self.replace(file);
        Ok(())
    }

    /// Goes on in `file`.
    pub fn replace(&self, file: File) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// Another descriptor of the file; none for standard error.
    pub fn descriptor(&self) -> Option<File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.try_clone().ok()
    }

    /// Appends whole lines with one write. A full disk loses them, as in nginx: serving goes on.
    pub fn write(&self, lines: &[u8]) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = match &*file {
            Some(file) => (&*file).write_all(lines),
            None => io::stderr().write_all(lines),
        };
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// A ring of the last entries in memory, which a debugger finds by its first word.
#[derive(Debug)]
pub struct Memory {
    /// The bytes behind `MEMLOG`, and where the next entry goes.
    ring: Mutex<(Vec<u8>, usize)>,
}

/// What a ring begins with.
const MARK: &[u8] = b"MEMLOG ";

impl Memory {
    /// A ring of `size` bytes.
    pub fn new(size: usize) -> Self {
        let mut ring = MARK.to_vec();
        ring.resize(size.max(MARK.len()), b' ');
        Self { ring: Mutex::new((ring, MARK.len())) }
    }

    fn write(&self, line: &[u8]) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, at) = &mut *ring;
        for &byte in line {
            if *at >= bytes.len() {
                *at = MARK.len();
            }
            if let Some(place) = bytes.get_mut(*at) {
                *place = byte;
            }
            *at += 1;
        }
    }
}

/// A place of an error log.
#[derive(Clone, Debug)]
pub enum Sink {
    /// A file, or standard error.
    File(Arc<LogFile>),
    /// A syslog server.
    Syslog(Arc<Syslog>),
    /// Memory.
    Memory(Arc<Memory>),
}

impl Sink {
    fn write(&self, level: Level, line: &str) {
        match self {
            Sink::File(file) => file.write(line.as_bytes()),
            Sink::Syslog(server) => {
                server.send(level as u8, line.trim_end().as_bytes());
            }
            Sink::Memory(ring) => ring.write(line.as_bytes()),
        }
    }
}

/// The places errors of one scope are written to.
#[derive(Clone, Debug, Default)]
pub struct ErrorLog {
    sinks: Vec<(Level, Sink)>,
}

impl ErrorLog {
    /// A log with these places.
    pub fn new(sinks: Vec<(Level, Sink)>) -> Self {
        Self { sinks }
    }

    /// A descriptor of its first file; none where standard error is among its places.
    pub fn file(&self) -> Option<File> {
        let files = self.sinks.iter().filter_map(|(_, sink)| match sink {
            Sink::File(file) => Some(file.descriptor()),
            _ => None,
        });
        files.collect::<Option<Vec<File>>>()?.into_iter().next()
    }

    /// Whether an entry of this level is written anywhere.
    pub fn takes(&self, level: Level) -> bool {
        self.sinks.iter().any(|(limit, _)| level <= *limit)
    }

    /// Writes an entry; `connection` is the number nginx prints as `*7`.
    pub fn write(&self, level: Level, connection: Option<u64>, message: &str) {
        if !self.takes(level) {
            return;
        }
        let line = entry(level, connection, message);
        for (_, sink) in self.sinks.iter().filter(|(limit, _)| level <= *limit) {
            sink.write(level, &line);
        }
    }
}

/// One line in the error log's format, with its newline.
pub fn entry(level: Level, connection: Option<u64>, message: &str) -> String {
    let (pid, tid) = (std::process::id(), nix::unistd::gettid());
    let number = connection.map(|n| format!("*{n} ")).unwrap_or_default();
    format!("{} [{level}] {pid}#{tid}: {number}{message}\n", clock::now().1.error)
}

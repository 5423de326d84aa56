//! Files as responses: opened as nginx does, small ones kept in memory and held against `stat` each time.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#etag>

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;

use super::{Body, FilePart, Flow, Request, Response};
use crate::conf::load::os_error;
use crate::net::{Level, clock};

/// Files up to this many bytes are kept.
const SMALL: u64 = 32 << 10;
/// Bytes kept on one thread, in each of two generations.
const GENERATION: usize = 8 << 20;
/// A file that changed this recently may change again without its times telling: clocks of file systems are coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// What a path leads to.
pub enum Found {
    /// A regular file.
    File(Rc<Opened>),
    /// A directory.
    Directory,
    /// A device, socket or pipe.
    Other,
}

/// A regular file, ready to be sent.
pub struct Opened {
    stamp: Stamp,
    modified_text: Bytes,
    etag: Bytes,
    content: Content,
}

enum Content {
    Bytes(Bytes),
    File(Rc<File>),
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files of one thread. What was used since the last turn is in `young`; a turn drops everything in `old`.
#[derive(Default)]
struct Kept {
    young: HashMap<Box<[u8]>, Rc<Opened>>,
    old: HashMap<Box<[u8]>, Rc<Opened>>,
    bytes: usize,
}

thread_local!(static KEPT: RefCell<Kept> = RefCell::default());

/// Opens `path`.
pub fn open(request: &Request, path: &[u8]) -> io::Result<Found> {
    if let Some(links) = &request.core().disable_symlinks {
        return found(path, links.open(request, path)?, false);
    }
    if let Some(kept) = KEPT.with_borrow_mut(|kept| kept.get(path))
        && std::fs::metadata(as_path(path)).is_ok_and(|found| Stamp::of(&found) == kept.stamp)
    {
        return Ok(Found::File(kept));
    }
    found(path, OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(as_path(path))?, true)
}

/// What `stat` says of `path`.
pub fn stat(request: &Request, path: &[u8]) -> io::Result<Metadata> {
    match &request.core().disable_symlinks {
        Some(links) => links.open(request, path)?.metadata(),
        None => std::fs::metadata(as_path(path)),
    }
}

/// What an open file is; `keep` lets it stay in memory.
fn found(path: &[u8], file: File, keep: bool) -> io::Result<Found> {
    let found = file.metadata()?;
    if found.is_dir() {
        return Ok(Found::Directory);
    }
    if !found.is_file() {
        return Ok(Found::Other);
    }
    let stamp = Stamp::of(&found);
    let content = match small(&file, &stamp)? {
        Some(bytes) => Content::Bytes(bytes),
        None => Content::File(Rc::new(file)),
    };
    let opened = Rc::new(Opened::new(stamp, content));
    if keep && matches!(opened.content, Content::Bytes(_)) && stamp.is_settled() {
        KEPT.with_borrow_mut(|kept| kept.put(path, &opened));
    }
    Ok(Found::File(opened))
}

/// Logs that the system call `call` on `path` failed, and says what the request ends with.
pub fn failed(request: &Request, call: &str, path: &[u8], error: &io::Error) -> Flow {
    let (level, status) = match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => (Level::Error, 404),
        Errno::EACCES | Errno::ELOOP | Errno::EMLINK => (Level::Error, 403),
        _ => (Level::Crit, 500),
    };
    if status != 404 || request.core().log_not_found {
        log(request, level, call, path, error);
    }
    Flow::Fail(status)
}

/// Logs that the system call `call` on `path` failed.
pub fn log(request: &Request, level: Level, call: &str, path: &[u8], error: &io::Error) {
    request.log(level, &format!("{call} \"{}\" failed ({})", String::from_utf8_lossy(path), os_error(error)));
}

/// Bytes as the path they are.
pub fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

impl Opened {
    fn new(stamp: Stamp, content: Content) -> Self {
        let etag = format!("\"{:x}-{:x}\"", stamp.modified.0, stamp.len).into();
        Self { stamp, modified_text: clock::http(stamp.modified.0).into(), etag, content }
    }

    /// The response that carries the file.
    pub fn response(&self, request: &Request) -> Response {
        let mut response = Response::new(200);
        let head = &mut response.head;
        head.content_type = Some(request.core().content_type(request));
        head.content_length = Some(self.stamp.len);
        // An error page does not tell its own time.
        if matches!(request.error_status, 0 | 200) {
            head.last_modified = Some(self.stamp.modified.0);
            head.last_modified_text = Some(self.modified_text.clone());
        }
        head.allow_ranges = true;
        if request.core().etag {
            head.headers.push(b"ETag", &self.etag);
        }
        response.body = match &self.content {
            Content::Bytes(bytes) => Body::Full(bytes.clone()),
            Content::File(file) => Body::File(FilePart { file: Rc::clone(file), offset: 0, len: self.stamp.len }),
        };
        response
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether the last change is long enough ago that a further one would show.
    fn is_settled(&self) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or_default();
        (UNIX_EPOCH + Duration::from_secs(changed) + SETTLED).elapsed().is_ok()
    }
}

impl Kept {
    fn get(&mut self, path: &[u8]) -> Option<Rc<Opened>> {
        if let Some(found) = self.young.get(path) {
            return Some(Rc::clone(found));
        }
        let found = self.old.remove(path)?;
        self.put(path, &found);
        Some(found)
    }

    fn put(&mut self, path: &[u8], opened: &Rc<Opened>) {
        // The path and the entry's own fields count too, so that a million empty files are bounded as well.
        let cost = usize::try_from(opened.stamp.len).unwrap_or(GENERATION) + path.len() + 256;
        if self.bytes + cost > GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += cost;
        self.young.insert(path.into(), Rc::clone(opened));
    }
}

/// The bytes of a small file; nothing if it is large, or shorter than it said, which sending it will find out.
fn small(file: &File, stamp: &Stamp) -> io::Result<Option<Bytes>> {
    if stamp.len > SMALL {
        return Ok(None);
    }
    let len = usize::try_from(stamp.len).unwrap_or_default();
    let mut bytes = Vec::with_capacity(len);
    file.take(stamp.len).read_to_end(&mut bytes)?;
    Ok(Some(bytes.into()).filter(|bytes: &Bytes| bytes.len() == len))
}

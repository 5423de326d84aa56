//! Opening files without following symbolic links on the way.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#disable_symlinks>

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use super::{Request, Value};

/// Which links are not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symlinks {
    /// Those to files of another owner; otherwise all.
    pub owner: bool,
    /// The start of the path that is not looked at.
    pub from: Option<Value>,
}

/// Opens something only to go on from there.
const STEP: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
/// Opens for reading.
const READ: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_CLOEXEC);

impl Symlinks {
    /// Opens `path` for reading.
    pub fn open(&self, request: &Request, path: &[u8]) -> io::Result<File> {
        let skip = self.skip(request, path);
        if skip == path.len() {
            return Ok(open(name(path), READ, Mode::empty())?.into());
        }
        let (start, rest) = path.split_at_checked(skip).unwrap_or_default();
        let start = match start {
            [] if rest.first() == Some(&b'/') => b"/",
            [] => b".",
            start => start,
        };
        let mut at = open(name(start), STEP, Mode::empty())?;
        let (steps, last) = rest.split_at(rest.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1));
        for step in steps.split(|&b| b == b'/').filter(|step| !step.is_empty()) {
            at = self.step(&at, step, STEP)?;
        }
        let file = if last.is_empty() { openat(&at, ".", READ, Mode::empty())? } else { self.step(&at, last, READ)? };
        Ok(file.into())
    }

    /// Opens `step` in the directory `at`, if it is no link that must not be followed.
    fn step(&self, at: &OwnedFd, step: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        if !self.owner {
            return openat(at, name(step), flags | OFlag::O_NOFOLLOW, Mode::empty());
        }
        // Whether a link was opened cannot be known for sure, so that the owners are compared in any case.
        let file = openat(at, name(step), flags, Mode::empty())?;
        let named = fstatat(at.as_fd(), name(step), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if fstat(&file)?.st_uid == named.st_uid { Ok(file) } else { Err(Errno::ELOOP) }
    }

    /// How many bytes of `path` are trusted.
    fn skip(&self, request: &Request, path: &[u8]) -> usize {
        let Some(from) = &self.from else { return 0 };
        let from = from.get(request);
        match path.strip_prefix(&*from) {
            _ if from.is_empty() => 0,
            None => 0,
            Some(b"" | [b'/', ..]) => from.len(),
            Some(_) if from.last() == Some(&b'/') => from.len() - 1,
            Some(_) => 0,
        }
    }
}

fn name(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}

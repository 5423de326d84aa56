//! Files for bodies that memory does not hold:
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#client_body_in_file_only>

use std::fs::{DirBuilder, File, remove_file};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::conf::field::TempPath;

/// How long a request body's file keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Not at all: it is gone with its last descriptor, whatever happens.
    Unnamed,
    /// As long as the request.
    Request,
    /// For ever.
    Kept,
}

/// A temporary file.
#[derive(Debug)]
pub struct TempFile {
    /// Open for reading and writing.
    pub file: Rc<File>,
    /// Its path, where it has one.
    pub path: Option<PathBuf>,
    /// The path it was made at.
    pub made: PathBuf,
    naming: Naming,
}

impl TempFile {
    /// Makes a file in `directory`, which is made as well where it is missing.
    pub fn new(directory: &TempPath, naming: Naming) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        loop {
            let made = place(directory, &format!("{:010}", NEXT.fetch_add(1, Ordering::Relaxed)));
            let open = || File::options().read(true).write(true).create_new(true).mode(0o600).open(&made);
            let opened = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parent = made.parent().unwrap_or(&directory.path);
                    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                    open()
                }
                opened => opened,
            };
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => Rc::new(opened?),
            };
            if naming == Naming::Unnamed {
                remove_file(&made)?;
            }
            return Ok(Self { file, path: Some(made.clone()).filter(|_| naming != Naming::Unnamed), made, naming });
        }
    }
}

/// Where the file of this name belongs: the end of the name says which directories.
fn place(directory: &TempPath, name: &str) -> PathBuf {
    let (mut path, mut left) = (directory.path.clone(), name);
    for level in &directory.levels {
        let (rest, part) = left.split_at_checked(left.len().saturating_sub(*level)).unwrap_or_default();
        path.push(part);
        left = rest;
    }
    path.join(name)
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.naming == Naming::Request) {
            // Somebody else may have removed it already.
            let _ = remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_last_as_long_as_asked() {
        let directory = std::env::temp_dir().join(format!("temp-{}", std::process::id()));
        let path = |naming| {
            let made = TempFile::new(&TempPath { path: directory.clone(), levels: Vec::new() }, naming).unwrap();
            made.path.clone().inspect(|path| assert!(path.exists()))
        };
        assert_eq!(path(Naming::Unnamed), None);
        assert!(!path(Naming::Request).unwrap().exists());
        assert!(path(Naming::Kept).unwrap().exists());
        std::fs::remove_dir_all(directory).unwrap();
        let levels = TempPath { path: "/t".into(), levels: vec![1, 2] };
        assert_eq!(place(&levels, "0000000123"), PathBuf::from("/t/3/12/0000000123"));
    }
}

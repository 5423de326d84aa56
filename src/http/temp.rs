//! Files for bodies that memory does not hold:
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#client_body_in_file_only>

use std::fs::{File, create_dir_all, remove_file};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    naming: Naming,
}

impl TempFile {
    /// Makes a file in `directory`, which is made as well where it is missing.
    pub fn new(directory: &Path, naming: Naming) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        create_dir_all(directory)?;
        loop {
            let path = directory.join(format!("{:010}", NEXT.fetch_add(1, Ordering::Relaxed)));
            let file = match File::options().read(true).write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => Rc::new(made?),
            };
            if naming == Naming::Unnamed {
                remove_file(&path)?;
            }
            return Ok(Self { file, path: Some(path).filter(|_| naming != Naming::Unnamed), naming });
        }
    }
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
            let made = TempFile::new(&directory, naming).unwrap();
            made.path.clone().inspect(|path| assert!(path.exists()))
        };
        assert_eq!(path(Naming::Unnamed), None);
        assert!(!path(Naming::Request).unwrap().exists());
        assert!(path(Naming::Kept).unwrap().exists());
        std::fs::remove_dir_all(directory).unwrap();
    }
}

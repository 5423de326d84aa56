//! What sealing a scope may ask for: log files, upstream groups, the place it is at.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::conf::{Diag, Env};
use crate::http::Value;
use crate::http::host::Name;
use crate::net::LogFile;
use crate::upstream::Upstreams;

/// Log files by path. A reload starts with the ones that are open.
#[derive(Clone, Debug, Default)]
pub struct LogFiles {
    files: HashMap<PathBuf, Arc<LogFile>>,
    /// Whether some log is standard error, which must stay what it is then.
    pub stderr: bool,
}

impl LogFiles {
    /// The file at `path`, opened once.
    pub fn open(&mut self, path: &Path) -> Result<Arc<LogFile>, Diag> {
        if let Some(file) = self.files.get(path) {
            return Ok(Arc::clone(file));
        }
        let file =
            LogFile::open(path).map_err(|error| Diag::general(crate::conf::load::cannot_open(path, &error), None))?;
        let file = Arc::new(file);
        self.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// Standard error.
    pub fn stderr(&mut self) -> Arc<LogFile> {
        self.stderr = true;
        Arc::new(LogFile::stderr())
    }

    /// Lets the log at `path` go on in `file`.
    pub fn put(&mut self, path: &Path, file: File) {
        match self.files.get(path) {
            Some(log) => log.replace(file),
            None => drop(self.files.insert(path.to_owned(), Arc::new(LogFile::from_file(path, file)))),
        }
    }

    /// Every file, with a descriptor of its own.
    pub fn descriptors(&self) -> Vec<(PathBuf, File)> {
        self.files.iter().filter_map(|(path, log)| Some((path.clone(), log.descriptor()?))).collect()
    }

    /// Opens every file again by its name, for the user `owner` (USR1); what fails stays as it was.
    pub fn reopen(&self, owner: Option<u32>) -> Vec<String> {
        let reopened = self.files.iter().map(|(path, file)| (path, file.reopen(owner)));
        reopened.filter_map(|(path, done)| Some(crate::conf::load::cannot_open(path, &done.err()?))).collect()
    }
}

/// The way from settings to what requests read.
pub struct Seal<'a> {
    /// What the configuration shares.
    pub env: &'a mut Env,
    /// Log files.
    pub logs: &'a mut LogFiles,
    /// Caches of TLS sessions.
    pub tls: &'a mut crate::net::tls::Kept,
    /// Upstream groups.
    pub upstreams: &'a mut Upstreams,
    /// What `charset` says at this place, for those that count characters.
    pub charset: Option<Value>,
    /// The names of the server around.
    pub server_names: &'a [Name],
}

impl Seal<'_> {
    /// Says which variable of these values is unknown: nginx compiles them only where a server or location has them.
    pub fn know<'v>(&self, values: impl IntoIterator<Item = &'v Value>) -> Result<(), Diag> {
        let mut ids = values.into_iter().flat_map(Value::variables);
        let unknown = ids.find_map(|id| self.env.names.get(id)?.unknown.clone());
        unknown.map_or(Ok(()), Err)
    }
}

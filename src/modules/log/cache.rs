//! Files with variables in their names that stay open for the next line.
//!
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html#open_log_file_cache>

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::conf::args::text;
use crate::conf::{Args, Problem, units};
use crate::net::clock;

/// Open files by name.
#[derive(Debug)]
pub struct Cache {
    max: usize,
    /// After such a time without use a file is closed.
    inactive: Duration,
    /// For such a time nobody asks whether the name still is that file's.
    valid: Duration,
    /// A file stays open once it was written to so often.
    min_uses: u64,
    files: Mutex<LruCache<Box<Path>, Entry>>,
}

#[derive(Debug)]
struct Entry {
    file: Option<File>,
    checked: Instant,
    used: Instant,
    uses: u64,
}

impl Cache {
    /// Appends a line.
    pub fn write(&self, path: &Path, line: &[u8]) -> io::Result<()> {
        let now = clock::instant();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            if files.peek_lru().is_some_and(|(_, oldest)| now.saturating_duration_since(oldest.used) >= self.inactive) {
                files.pop_lru();
            }
        }
        if !files.contains(path) {
            let file = append(path)?;
            while files.len() >= self.max {
                files.pop_lru();
            }
            files.push(path.into(), Entry { file: Some(file), checked: now, used: now, uses: 0 });
        }
        let Some(entry) = files.get_mut(path) else { return append(path)?.write_all(line) };
        entry.uses += 1;
        entry.used = now;
        if now.saturating_duration_since(entry.checked) >= self.valid {
            entry.checked = now;
            entry.file = entry.file.take().filter(|file| is_at(file, path));
        }
        let file = match entry.file.take() {
            Some(file) => file,
            None => append(path)?,
        };
        let written = (&file).write_all(line);
        if entry.uses >= self.min_uses {
            entry.file = Some(file);
        }
        written
    }
}

/// Opens a file for appending, making it where it is missing.
pub fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// `open_log_file_cache max=N [inactive=time] [min_uses=N] [valid=time] | off`.
pub fn read(args: &Args<'_>) -> Result<Option<Arc<Cache>>, Problem> {
    let (mut max, mut inactive, mut valid, mut min_uses, mut off) = (0, 10, 60, 1, false);
    for (index, word) in args.words().enumerate() {
        let (name, value) = word.split_at(word.iter().position(|&b| b == b'=').map_or(word.len(), |at| at + 1));
        let taken = match name {
            b"max=" => units::number(value).inspect(|number| max = *number).is_some(),
            b"min_uses=" => units::number(value).inspect(|number| min_uses = *number).is_some(),
            b"inactive=" => units::sec(value).inspect(|time| inactive = *time).is_some(),
            b"valid=" => units::sec(value).inspect(|time| valid = *time).is_some(),
            _ => {
                off = word == b"off";
                off
            }
        };
        if !taken {
            return Err(Problem::new(format!("invalid \"open_log_file_cache\" parameter \"{}\"", text(word))).at(index));
        }
    }
    if off {
        return Ok(None);
    }
    let max = usize::try_from(max).ok().filter(|&max| max > 0);
    Ok(Some(Arc::new(Cache {
        max: max.ok_or_else(|| Problem::new("\"open_log_file_cache\" must have \"max\" parameter"))?,
        inactive: Duration::from_secs(inactive),
        valid: Duration::from_secs(valid),
        min_uses,
        files: Mutex::new(LruCache::unbounded()),
    })))
}

//! Lines on their way to the files: written once a turn of the event loop, or later where `buffer=` says so.
//!
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html#access_log>

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::http::zlib::{self, Effort};
use crate::net::LogFile;

/// Lines of one turn are written early once there are so many bytes of them.
const MANY: usize = 64 << 10;
/// A turn that lasts longer does not hold them back.
const LONG: Duration = Duration::from_secs(1);

/// `buffer=`, `flush=` and `gzip=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// Bytes.
    pub size: usize,
    /// How long a line may wait for the buffer to fill.
    pub flush: Option<Duration>,
    /// The level at which lines are compressed before they are written, 1 to 9.
    pub gzip: Option<u8>,
}

/// What waits for one file.
struct Pending {
    file: Arc<LogFile>,
    lines: Vec<u8>,
    buffering: Option<Buffering>,
    since: Instant,
}

/// What waits on this thread. It is written when the thread ends.
#[derive(Default)]
struct Batch(Vec<Pending>);

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::default();
}

/// Writes every line that need not wait. The event loop calls it whenever it is about to sleep.
pub fn flush() {
    BATCH.with_borrow_mut(|batch| {
        for pending in &mut batch.0 {
            if pending.buffering.is_none_or(|b| b.flush.is_some_and(|limit| pending.since.elapsed() >= limit)) {
                pending.write();
            }
        }
        // Files that a reload took away are held by nothing else.
        batch.0.retain(|pending| !pending.lines.is_empty() || Arc::strong_count(&pending.file) > 1);
    });
}

/// Writes every line, for the end of a process and before files are opened anew.
pub fn finish() {
    BATCH.with_borrow_mut(|batch| batch.0.iter_mut().for_each(Pending::write));
}

/// Adds the line that `write` appends.
pub fn add(file: &Arc<LogFile>, buffering: Option<Buffering>, write: impl FnOnce(&mut Vec<u8>)) {
    let wakes = BATCH.with_borrow_mut(|batch| {
        let found = batch.0.iter().position(|pending| Arc::ptr_eq(&pending.file, file));
        let index = found.unwrap_or_else(|| {
            batch.0.push(Pending { file: Arc::clone(file), lines: Vec::new(), buffering, since: Instant::now() });
            batch.0.len() - 1
        });
        batch.0.get_mut(index).and_then(|pending| pending.add(buffering, write))
    });
    if let (Some(after), Ok(runtime)) = (wakes, tokio::runtime::Handle::try_current()) {
        drop(runtime.spawn(async move {
            tokio::time::sleep(after).await;
            flush();
        }));
    }
}

impl Pending {
    /// Adds a line; returns after how long somebody must call [`flush`].
    fn add(&mut self, buffering: Option<Buffering>, write: impl FnOnce(&mut Vec<u8>)) -> Option<Duration> {
        let before = self.lines.len();
        if before == 0 {
            self.since = Instant::now();
        }
        self.buffering = buffering;
        write(&mut self.lines);
        let Some(Buffering { size, flush, .. }) = buffering else {
            if self.lines.len() >= MANY || self.since.elapsed() >= LONG {
                self.write();
            }
            return None;
        };
        if self.lines.len() > size {
            // The line does not fit behind those before it.
            let line = self.lines.split_off(before);
            self.write();
            self.lines = line;
            self.since = Instant::now();
            if self.lines.len() > size {
                self.write();
            }
        }
        flush.filter(|_| before == 0 || self.lines.len() < before)
    }

    fn write(&mut self) {
        if !self.lines.is_empty() {
            let level = self.buffering.and_then(|buffering| buffering.gzip);
            let effort = level.map(|level| Effort { level, ..Effort::default() });
            match effort.and_then(|effort| zlib::member(effort, Bytes::copy_from_slice(&self.lines)).ok()) {
                Some(packed) => self.file.write(&packed),
                None => self.file.write(&self.lines),
            }
            self.lines.clear();
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Pending::write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_as_told() {
        let path = std::env::temp_dir().join(format!("nginx-rs-pending-{}", std::process::id()));
        let file = Arc::new(LogFile::open(&path).unwrap());
        let line = |text: &'static str| move |out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes());
        let written = || std::fs::read_to_string(&path).unwrap();
        add(&file, None, line("a\n"));
        assert_eq!(written(), "");
        flush();
        assert_eq!(written(), "a\n");
        let small = Some(Buffering { size: 4, flush: None, gzip: None });
        add(&file, small, line("b\n"));
        add(&file, small, line("c\n"));
        flush();
        assert_eq!(written(), "a\n");
        add(&file, small, line("d\n"));
        assert_eq!(written(), "a\nb\nc\n");
        add(&file, small, line("longer\n"));
        assert_eq!(written(), "a\nb\nc\nd\nlonger\n");
        add(&file, Some(Buffering { size: 9, flush: Some(Duration::ZERO), gzip: None }), line("e\n"));
        flush();
        assert_eq!(written(), "a\nb\nc\nd\nlonger\ne\n");
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn compresses() {
        let path = std::env::temp_dir().join(format!("nginx-rs-packed-{}", std::process::id()));
        let file = Arc::new(LogFile::open(&path).unwrap());
        let packed = Some(Buffering { size: 9, flush: None, gzip: Some(6) });
        for _ in 0..3 {
            add(&file, packed, |out| out.extend_from_slice(b"a line\n"));
        }
        finish();
        let (mut input, mut out) = (Bytes::from(std::fs::read(&path).unwrap()), Vec::with_capacity(64));
        let mut decoder = zlib::Decoder::default();
        while decoder.run(&mut input, &mut out).unwrap() {}
        assert_eq!(out, b"a line\na line\na line\n");
        let _ = std::fs::remove_file(&path);
    }
}

//! What came of a reply before its client wanted it: in memory as far as the buffers go, then in a file.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::shared::Limits;
use crate::http::attempts::Attempts;
use crate::http::temp::{Naming, TempFile};
use crate::http::{Chunk, Fault, FilePart};
use crate::net::Level;

/// Pieces in the order they came.
#[derive(Default)]
pub struct Ahead {
    queue: VecDeque<Chunk>,
    /// Bytes of the pieces that are in memory.
    held: usize,
    file: Option<TempFile>,
    /// Bytes in the file. No part of it is written twice: the kernel may still be sending from it long after it took it.
    written: u64,
    /// What went wrong behind the last piece.
    fault: Option<Fault>,
}

/// Where a reply comes from.
pub trait Feed {
    /// Whether all of it came.
    fn is_done(&self) -> bool;
    /// The next piece; about `free` bytes of memory are left for it.
    fn poll_next(&mut self, cx: &mut Context<'_>, free: usize) -> Poll<Option<Result<Bytes, Fault>>>;
    /// The tries so far, which take what is to be logged.
    fn attempts(&self) -> &Attempts;
}

impl Ahead {
    /// Reads on while the client takes nothing: into memory as far as the buffers go, then into a file. `queued` bytes that
    /// were taken still wait in memory.
    pub fn read(&mut self, cx: &mut Context<'_>, queued: usize, limits: &Limits, feed: &mut impl Feed) {
        while self.fault.is_none() && !feed.is_done() {
            let free = limits.memory.saturating_sub(self.held() + queued);
            if free == 0 && !self.may_write(limits) {
                return;
            }
            if free == 0 && self.held() > 0 {
                match self.write(limits) {
                    Ok(None) => {}
                    Ok(Some(path)) => {
                        let text = format!(
                            "an upstream response is buffered to a temporary file {path} while reading upstream"
                        );
                        feed.attempts().note(Level::Warn, text);
                    }
                    Err(error) => self.fault = Some(Fault::here(error)),
                }
                continue;
            }
            match feed.poll_next(cx, free) {
                Poll::Ready(Some(Ok(bytes))) => self.push(bytes),
                Poll::Ready(Some(Err(fault))) => self.fault = Some(fault),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// What was read ahead, in its order, and then what went wrong.
    pub fn take(&mut self) -> Option<Result<Chunk, Fault>> {
        self.pop().map(Ok).or_else(|| self.fault.take().map(Err))
    }

    /// Bytes in memory.
    fn held(&self) -> usize {
        self.held
    }

    /// Adds a piece.
    fn push(&mut self, bytes: Bytes) {
        self.held += bytes.len();
        self.queue.push_back(Chunk::Data(bytes));
    }

    /// Takes the next piece.
    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.queue.pop_front();
        if let Some(Chunk::Data(bytes)) = &chunk {
            self.held -= bytes.len();
        }
        chunk
    }

    /// Whether the file may take more.
    fn may_write(&self, limits: &Limits) -> bool {
        self.written < limits.file
    }

    /// Moves what is in memory to the file. Returns the path where it had to be made.
    fn write(&mut self, limits: &Limits) -> io::Result<Option<String>> {
        let mut made = None;
        let temp = match &mut self.file {
            Some(temp) => temp,
            none => {
                let temp = TempFile::new(&limits.directory, Naming::Unnamed)?;
                made = Some(temp.made.display().to_string());
                none.insert(temp)
            }
        };
        let first = self.queue.iter().rposition(|chunk| matches!(chunk, Chunk::File(_))).map_or(0, |file| file + 1);
        let offset = self.written;
        for pieces in batches(self.queue.range(first..), limits.write) {
            temp.file.write_all_at(&pieces, self.written)?;
            self.written += pieces.len() as u64;
        }
        self.queue.truncate(first);
        let len = self.written - offset;
        match self.queue.back_mut() {
            Some(Chunk::File(last)) if last.offset + last.len == offset => last.len += len,
            _ => self.queue.push_back(Chunk::File(FilePart { file: Rc::clone(&temp.file), offset, len })),
        }
        self.held = self.queue.iter().map(|chunk| if let Chunk::Data(bytes) = chunk { bytes.len() } else { 0 }).sum();
        Ok(made)
    }
}

/// Small pieces joined, so that each is worth a write; about `most` bytes each.
fn batches<'a>(chunks: impl Iterator<Item = &'a Chunk>, most: usize) -> Vec<Bytes> {
    let (mut out, mut joined) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let Chunk::Data(bytes) = chunk else { continue };
        if joined.is_empty() && bytes.len() >= most {
            out.push(bytes.clone());
            continue;
        }
        joined.extend_from_slice(bytes);
        if joined.len() >= most {
            out.push(std::mem::take(&mut joined).into());
        }
    }
    out.extend(Some(joined).filter(|last| !last.is_empty()).map(Bytes::from));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::field::TempPath;

    fn limits(name: &str) -> Limits {
        let path = std::env::temp_dir().join(format!("ahead-{name}-{}", std::process::id()));
        Limits { memory: 8, file: 20, write: 4, directory: TempPath { path, levels: vec![1] } }
    }

    fn read(ahead: &mut Ahead) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(chunk) = ahead.pop() {
            match chunk {
                Chunk::Data(bytes) => out.extend_from_slice(&bytes),
                Chunk::File(part) => {
                    let mut bytes = vec![0; usize::try_from(part.len).unwrap()];
                    part.file.read_exact_at(&mut bytes, part.offset).unwrap();
                    out.extend(bytes);
                }
                Chunk::Flush => {}
            }
        }
        out
    }

    #[test]
    fn keeps_the_order_through_the_file() {
        let (limits, mut ahead) = (limits("order"), Ahead::default());
        for piece in ["abc", "d", "efghi"] {
            ahead.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(ahead.held(), 9);
        assert!(ahead.write(&limits).unwrap().is_some());
        assert_eq!(ahead.held(), 0);
        ahead.push(Bytes::from_static(b"jkl"));
        assert!(ahead.write(&limits).unwrap().is_none());
        assert_eq!(ahead.queue.len(), 1, "one part of the file");
        ahead.push(Bytes::from_static(b"m"));
        assert!(ahead.may_write(&limits));
        assert_eq!(read(&mut ahead), b"abcdefghijklm");
        std::fs::remove_dir_all(limits.directory.path).unwrap();
    }

    #[test]
    fn a_full_file_takes_no_more() {
        let (limits, mut ahead) = (limits("full"), Ahead::default());
        ahead.push(Bytes::from(vec![b'x'; 20]));
        ahead.write(&limits).unwrap();
        assert!(!ahead.may_write(&limits));
        std::fs::remove_dir_all(limits.directory.path).unwrap();
    }
}

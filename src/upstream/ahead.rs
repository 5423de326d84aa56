//! What came of a reply before its client wanted it: in memory as far as the buffers go, then in a file.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use bytes::Bytes;

use super::shared::Limits;
use crate::http::temp::{Naming, TempFile};
use crate::http::{Chunk, Fault, FilePart};

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
    pub fault: Option<Fault>,
}

impl Ahead {
    /// Bytes in memory.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Adds a piece.
    pub fn push(&mut self, bytes: Bytes) {
        self.held += bytes.len();
        self.queue.push_back(Chunk::Data(bytes));
    }

    /// Takes the next piece.
    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.queue.pop_front();
        if let Some(Chunk::Data(bytes)) = &chunk {
            self.held -= bytes.len();
        }
        chunk
    }

    /// Whether the file may take more.
    pub fn may_write(&self, limits: &Limits) -> bool {
        self.written < limits.file
    }

    /// Moves what is in memory to the file. Returns the path where it had to be made.
    pub fn write(&mut self, limits: &Limits) -> io::Result<Option<String>> {
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

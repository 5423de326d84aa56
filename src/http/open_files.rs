//! What paths led to, believed for a while without asking the file system again.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#open_file_cache>. Each thread has its own memory, as each of
//! nginx's processes has.

use std::cell::RefCell;
use std::io;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::net::clock;

/// `open_file_cache` and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// Paths that are remembered at most, and for how long without use; none switches it off.
    pub cache: Option<(usize, Duration)>,
    /// How long an answer is believed.
    pub valid: Duration,
    /// From which use on an answer is kept.
    pub min_uses: u64,
    /// Whether failures are kept too.
    pub errors: bool,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self { cache: None, valid: Duration::from_secs(60), min_uses: 1, errors: false }
    }
}

/// Answers by path, the one used last at the end.
pub type Answers<T> = RefCell<LruCache<Box<[u8]>, Answer<T>>>;

/// What a path led to.
pub struct Answer<T> {
    /// The answer or the number of the error; none until it was asked for often enough.
    kept: Option<Result<T, i32>>,
    asked: Instant,
    used: Instant,
    uses: u64,
}

impl OpenFiles {
    /// The answer for `path`: what is kept, or what `ask` finds.
    pub fn find<T: Clone + 'static>(
        &self,
        answers: &'static LocalKey<Answers<T>>,
        path: &[u8],
        ask: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some((max, inactive)) = self.cache else { return ask() };
        let now = clock::instant();
        let fresh = answers.with_borrow_mut(|answers| {
            let answer = answers.get_mut(path)?;
            (answer.uses, answer.used) = (answer.uses + 1, now);
            answer.kept.clone().filter(|_| now.saturating_duration_since(answer.asked) < self.valid)
        });
        if let Some(kept) = fresh {
            return kept.map_err(io::Error::from_raw_os_error);
        }
        let found = ask();
        let kept = match &found {
            Ok(found) => Some(Ok(found.clone())),
            Err(error) => error.raw_os_error().filter(|_| self.errors).map(Err),
        };
        answers.with_borrow_mut(|answers| {
            if kept.is_none() {
                answers.pop(path);
                return;
            }
            for _ in 0..2 {
                let idle = |oldest: &Answer<T>| now.saturating_duration_since(oldest.used) >= inactive;
                if answers.peek_lru().is_some_and(|(_, oldest)| idle(oldest)) {
                    answers.pop_lru();
                }
            }
            let uses = answers.peek(path).map_or(1, |answer| answer.uses);
            let kept = kept.filter(|_| uses >= self.min_uses);
            answers.push(path.into(), Answer { kept, asked: now, used: now, uses });
            while answers.len() > max {
                answers.pop_lru();
            }
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local!(static ANSWERS: Answers<u32> = RefCell::new(LruCache::unbounded()));

    #[test]
    fn believes_what_it_may() {
        let files =
            OpenFiles { cache: Some((2, Duration::from_secs(9))), min_uses: 2, errors: true, ..OpenFiles::default() };
        let ask = |path: &str, n: u32| files.find(&ANSWERS, path.as_bytes(), || Ok(n)).unwrap();
        assert_eq!([ask("a", 1), ask("a", 2), ask("a", 3)], [1, 2, 2]);
        assert_eq!([ask("b", 1), ask("b", 2), ask("a", 4)], [1, 2, 2]);
        assert_eq!([ask("c", 1), ask("a", 5), ask("b", 6)], [1, 2, 6]);
        let none = || Err(io::Error::from_raw_os_error(2));
        assert!((0..3).all(|_| files.find(&ANSWERS, b"none", none).is_err()));
        assert_eq!(files.find(&ANSWERS, b"none", || Ok(1)).unwrap_err().raw_os_error(), Some(2));
        let stale = OpenFiles { valid: Duration::ZERO, ..files };
        assert_eq!(stale.find(&ANSWERS, b"none", || Ok(1)).unwrap(), 1);
        assert_eq!(OpenFiles::default().find(&ANSWERS, b"b", || Ok(9)).unwrap(), 9);
    }
}

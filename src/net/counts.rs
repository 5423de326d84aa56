//! How many connections and requests there are and were:
//! <https://nginx.org/en/docs/http/ngx_http_stub_status_module.html>
//!
//! Each thread counts for itself, without locked instructions; whoever asks adds the threads up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A connection of this thread, to a client or to an upstream server, as long as this lives.
#[derive(Debug)]
pub struct Open(());

thread_local! {
    static OPEN: Cell<u64> = const { Cell::new(0) };
    static LIMIT: Cell<u64> = const { Cell::new(u64::MAX) };
}

impl Open {
    /// One more, if this thread may have it; otherwise how many it may have.
    pub fn new() -> Result<Self, u64> {
        let (open, limit) = (OPEN.get(), LIMIT.get());
        if open >= limit {
            return Err(limit);
        }
        OPEN.set(open + 1);
        Ok(Self(()))
    }

    /// Sets how many connections this thread may have: `worker_connections`.
    pub fn limit(limit: u64) {
        LIMIT.set(limit);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

/// nginx's sentence for a thread that has all the connections it may have.
pub fn not_enough(limit: u64) -> String {
    format!("{limit} worker_connections are not enough")
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections ever accepted.
    Accepted,
    /// Requests ever begun.
    Requests,
    /// Connections that are open.
    Active,
    /// Connections on which a response is due.
    Writing,
    /// Connections on which nothing of a request has come.
    Waiting,
}

type Counts = [AtomicU64; 5];

static THREADS: Mutex<Vec<Arc<Counts>>> = Mutex::new(Vec::new());

thread_local!(static OWN: Arc<Counts> = {
    let own = Arc::<Counts>::default();
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&own));
    own
});

impl Count {
    /// Counts one more.
    pub fn up(self) {
        self.add(1);
    }

    /// Counts one less.
    pub fn down(self) {
        self.add(u64::MAX);
    }

    /// The sum over all threads.
    pub fn get(self) -> u64 {
        let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads
            .iter()
            .filter_map(|counts| counts.get(self as usize))
            .fold(0, |sum, n| sum.wrapping_add(n.load(Relaxed)))
    }

    fn add(self, n: u64) {
        OWN.with(|own| {
            if let Some(count) = own.get(self as usize) {
                count.store(count.load(Relaxed).wrapping_add(n), Relaxed);
            }
        });
    }
}

/// Where one connection stands; it is counted there as long as this lives.
#[derive(Debug)]
pub struct Stage {
    at: Cell<Option<Count>>,
    /// Whether it is a connection of its own, not a stream of one.
    whole: bool,
}

impl Stage {
    /// A new connection, on which nothing has come.
    pub fn accepted() -> Self {
        Count::Accepted.up();
        Count::Active.up();
        Count::Waiting.up();
        Self { at: Cell::new(Some(Count::Waiting)), whole: true }
    }

    /// A stream of a connection that is counted already.
    pub fn stream() -> Self {
        Self { at: Cell::new(None), whole: false }
    }

    /// Nothing of a request has come.
    pub fn wait(&self) {
        self.enter(Some(Count::Waiting));
    }

    /// Part of a head has come.
    pub fn read(&self) {
        self.enter(None);
    }

    /// A response is due.
    pub fn write(&self) {
        Count::Requests.up();
        self.enter(Some(Count::Writing));
    }

    fn enter(&self, next: Option<Count>) {
        if let Some(last) = self.at.replace(next) {
            last.down();
        }
        if let Some(next) = next {
            next.up();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.enter(None);
        if self.whole {
            Count::Active.down();
        }
    }
}

/// Connections on which part of a head has come.
pub fn reading() -> u64 {
    Count::Active.get().saturating_sub(Count::Writing.get()).saturating_sub(Count::Waiting.get())
}

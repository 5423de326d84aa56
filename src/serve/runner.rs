//! What serves a request takes more than 3 KB while it runs. A connection borrows that for a request and gives it back, so that
//! idle connections are small and the next request finds memory that is still warm.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Idle runners that a thread keeps.
const KEPT: usize = 256;

/// What runs a job of type `J` to its end `D`, one after the other.
pub struct Runner<J, D> {
    desk: Rc<Desk<J, D>>,
    work: Pin<Box<dyn Future<Output = ()>>>,
}

/// Where a job is put and its end is found.
struct Desk<J, D> {
    job: Cell<Option<J>>,
    done: Cell<Option<D>>,
}

impl<J: 'static, D: 'static> Runner<J, D> {
    /// A runner that does `work` with every job.
    pub fn new<W: Future<Output = D> + 'static>(work: impl Fn(J) -> W + 'static) -> Self {
        let desk = Rc::new(Desk { job: Cell::default(), done: Cell::default() });
        let place = Rc::clone(&desk);
        let work = Box::pin(async move {
            loop {
                let job = std::future::poll_fn(|_| place.job.take().map_or(Poll::Pending, Poll::Ready)).await;
                place.done.set(Some(work(job).await));
            }
        });
        Self { desk, work }
    }

    /// Runs a job.
    async fn run(&mut self, job: J) -> D {
        self.desk.job.set(Some(job));
        std::future::poll_fn(|cx| {
            // It ends never, but waits for another job.
            let _ = self.work.as_mut().poll(cx);
            self.desk.done.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A thread's idle runners.
pub type Idle<J, D> = RefCell<Vec<Runner<J, D>>>;

/// Runs a job with the runner that was used last, or with a new one. A job that is dropped takes its runner along.
pub async fn run<J: 'static, D: 'static>(
    idle: &'static std::thread::LocalKey<Idle<J, D>>,
    new: impl FnOnce() -> Runner<J, D>,
    job: J,
) -> D {
    let mut runner = idle.with_borrow_mut(Vec::pop).unwrap_or_else(new);
    let done = runner.run(job).await;
    idle.with_borrow_mut(|idle| {
        if idle.len() < KEPT {
            idle.push(runner);
        }
    });
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local!(static IDLE: Idle<u8, u8> = RefCell::default());

    #[tokio::test(flavor = "current_thread")]
    async fn runners_are_used_again() {
        let made = Rc::new(Cell::new(0));
        let new = || {
            made.set(made.get() + 1);
            Runner::new(|job: u8| async move {
                tokio::task::yield_now().await;
                job * 2
            })
        };
        assert_eq!(run(&IDLE, new, 1).await, 2);
        assert_eq!(tokio::join!(run(&IDLE, new, 2), run(&IDLE, new, 3)), (4, 6));
        assert_eq!(made.get(), 2);
        // What is dropped halfway leaves nothing behind that the next job would find.
        let mut half = Box::pin(run(&IDLE, new, 4));
        assert!(std::future::poll_fn(|cx| Poll::Ready(half.as_mut().poll(cx).is_pending())).await);
        drop(half);
        assert_eq!(run(&IDLE, new, 5).await, 10);
    }
}

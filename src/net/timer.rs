//! Time limits that cost next to nothing while they are not reached.
//!
//! Nearly every wait for a peer ends long before its limit. A limit of a second or more is a place in a thread-local list;
//! one task a thread sleeps until the earliest of them and wakes whoever is over time. Shorter ones are the runtime's.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::clock;

/// Limits below this are kept exactly.
const COARSE: Duration = Duration::from_secs(1);
/// How late a longer limit may be noticed.
const SLACK: Duration = Duration::from_millis(20);

thread_local! {
    static LIMITS: RefCell<Limits> = RefCell::default();
}

#[derive(Default)]
struct Limits {
    waits: Vec<Option<Wait>>,
    free: Vec<usize>,
    /// When the thread's task looks next; none while it does not run.
    next: Option<Instant>,
    task: Option<Rc<Notify>>,
}

struct Wait {
    until: Instant,
    waker: Waker,
}

/// A place in the list, given back when it is dropped.
struct Place(usize);

impl Place {
    /// Takes a place; nothing where the thread has no task that would look at it.
    fn take(until: Instant, cx: &Context<'_>) -> Option<Self> {
        LIMITS.with_borrow_mut(|limits| {
            let task = limits.task.as_ref()?;
            if limits.next.is_none_or(|next| until < next) {
                task.notify_one();
            }
            let wait = Some(Wait { until, waker: cx.waker().clone() });
            let at = limits.free.pop().unwrap_or(limits.waits.len());
            match limits.waits.get_mut(at) {
                Some(place) => *place = wait,
                None => limits.waits.push(wait),
            }
            Some(Place(at))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        LIMITS.with_borrow_mut(|limits| {
            if let Some(place) = limits.waits.get_mut(self.0) {
                *place = None;
                limits.free.push(self.0);
            }
        });
    }
}

/// Runs `future` at most for `limit`; `None` when the time ran out.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut wait: Option<(Instant, Option<Place>)> = None;
    let coarse = std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Coarse::Done(output));
        }
        match &wait {
            None => {
                let until = clock::instant() + limit;
                let place = if limit >= COARSE { Place::take(until, cx) } else { None };
                if place.is_none() {
                    return Poll::Ready(Coarse::Exact);
                }
                wait = Some((until, place));
                Poll::Pending
            }
            Some((until, _)) if Instant::now() >= *until => Poll::Ready(Coarse::Over),
            Some(_) => Poll::Pending,
        }
    });
    match coarse.await {
        Coarse::Done(output) => Some(output),
        Coarse::Over => None,
        Coarse::Exact => tokio::time::timeout(limit, future).await.ok(),
    }
}

enum Coarse<T> {
    Done(T),
    Over,
    Exact,
}

/// A limit that a state machine polls by hand.
#[derive(Default)]
pub struct Limit {
    until: Option<Instant>,
    place: Option<Place>,
    exact: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl Limit {
    /// Whether `limit` has passed since the last [`Limit::clear`]; the task is woken when it does.
    pub fn poll_over(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| clock::instant() + limit);
        if self.exact.is_none() && self.place.is_none() {
            self.place = if limit >= COARSE { Place::take(until, cx) } else { None };
            if self.place.is_none() {
                self.exact = Some(Box::pin(tokio::time::sleep(limit)));
            }
        }
        match &mut self.exact {
            Some(sleep) => sleep.as_mut().poll(cx),
            None if Instant::now() >= until => Poll::Ready(()),
            None => Poll::Pending,
        }
    }

    /// Starts the time afresh.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Wakes everybody who waits on this thread, to look at what has changed.
pub fn wake_all() {
    LIMITS.with_borrow(|limits| limits.waits.iter().flatten().for_each(|wait| wait.waker.wake_by_ref()));
}

/// Wakes those whose limit has passed, for as long as the thread runs.
pub async fn watch() {
    let task = Rc::new(Notify::new());
    LIMITS.with_borrow_mut(|limits| limits.task = Some(Rc::clone(&task)));
    loop {
        let next = LIMITS.with_borrow_mut(|limits| {
            let now = Instant::now();
            let mut next = None::<Instant>;
            for wait in limits.waits.iter().flatten() {
                if wait.until <= now {
                    wait.waker.wake_by_ref();
                } else {
                    next = Some(next.map_or(wait.until, |next| next.min(wait.until)));
                }
            }
            limits.next = next;
            next
        });
        match next {
            Some(next) => {
                let sleep = tokio::time::sleep_until((next + SLACK).into());
                tokio::select! {
                    () = sleep => {}
                    () = task.notified() => {}
                }
            }
            None => task.notified().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_worker(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            tokio::task::spawn_local(watch());
            tokio::task::yield_now().await;
            test.await;
        });
    }

    #[test]
    fn what_ends_in_time_ends() {
        on_a_worker(async {
            assert_eq!(within(Duration::from_secs(60), async { 1 }).await, Some(1));
            let late = async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                2
            };
            assert_eq!(within(Duration::from_secs(60), late).await, Some(2));
            LIMITS.with_borrow(|limits| assert!(limits.waits.iter().all(Option::is_none)));
        });
    }

    #[test]
    fn what_hangs_is_ended() {
        on_a_worker(async {
            let begun = Instant::now();
            assert_eq!(within(COARSE, std::future::pending::<()>()).await, None);
            assert!(begun.elapsed() >= COARSE);
            assert_eq!(within(Duration::from_millis(1), std::future::pending::<()>()).await, None);
        });
    }
}

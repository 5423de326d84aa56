//! The workers a master has: usually one, and while one takes over from another, two.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::channel::Channel;
use super::config::Config;
use super::listeners::Listeners;
use super::order::{Answer, Order, Slot};
use super::worker;
use crate::net::Level;

/// A worker that lived this long did not fail because of how it was started.
const PROVEN: Duration = Duration::from_secs(2);
/// The first pause before a worker that failed is replaced once more; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// A worker.
pub struct Worker {
    /// Its process.
    pub pid: Pid,
    /// Whether it was told to end.
    pub leaving: bool,
    /// Whether it has ever served.
    pub serves: bool,
    channel: Option<Channel>,
    slots: BTreeSet<Slot>,
    born: Instant,
}

/// All of them.
#[derive(Default)]
pub struct Workers {
    list: Vec<Worker>,
    failures: u32,
}

impl Workers {
    /// Starts a worker on `config`.
    pub fn start(&mut self, config: &Config, listeners: &Listeners) -> Result<()> {
        let (pid, channel) = worker::start(&config.process)?;
        config.error_log.write(Level::Notice, None, &format!("start worker process {pid}"));
        let pid = Pid::from_raw(i32::try_from(pid)?);
        let (slots, born) = (BTreeSet::new(), Instant::now());
        let mut worker = Worker { pid, leaving: false, serves: false, channel: Some(channel), slots, born };
        worker.order(config, listeners);
        self.list.push(worker);
        Ok(())
    }

    /// Has the worker that serves go over to `config`; false if there is none.
    pub fn order(&mut self, config: &Config, listeners: &Listeners) -> bool {
        match self.list.iter_mut().rev().find(|worker| !worker.leaving) {
            Some(worker) => {
                worker.order(config, listeners);
                true
            }
            None => false,
        }
    }

    /// Tells all workers where the logs are now.
    pub fn reopen(&self, config: &Config) {
        let files = config.logs.descriptors();
        let message = Order::Reopen(files.iter().map(|(path, _)| path.clone()).collect()).encode();
        let files: Vec<BorrowedFd<'_>> = files.iter().map(|(_, file)| file.as_fd()).collect();
        for channel in self.list.iter().filter_map(|worker| worker.channel.as_ref()) {
            // A worker that has just died is replaced by one that has the new files.
            let _ = channel.send(&message, &files);
        }
    }

    /// Sends `signal` to all, who are leaving then.
    pub fn end(&mut self, signal: Signal) {
        self.list.iter_mut().for_each(|worker| worker.end(signal));
    }

    /// Lets those end that another one has replaced: all but the last.
    pub fn relieve(&mut self) {
        let last = self.list.iter().rposition(|worker| !worker.leaving);
        let old = self.list.iter_mut().enumerate().filter(|(index, worker)| Some(*index) != last && !worker.leaving);
        old.for_each(|(_, worker)| worker.end(Signal::SIGQUIT));
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one serves or is about to.
    pub fn any_stays(&self) -> bool {
        self.list.iter().any(|worker| !worker.leaving)
    }

    /// What the workers speak through, each with its process.
    pub fn ears(&self) -> Vec<(Pid, BorrowedFd<'_>)> {
        self.list.iter().filter_map(|worker| Some((worker.pid, worker.channel.as_ref()?.as_fd()))).collect()
    }

    /// What the worker `pid` says; none when it is speechless from now on.
    pub fn hear(&mut self, pid: Pid) -> Option<Answer> {
        let worker = self.list.iter_mut().find(|worker| worker.pid == pid)?;
        let Ok(Some((message, _))) = worker.channel.as_ref()?.receive() else {
            worker.channel = None;
            return None;
        };
        let answer = Answer::decode(&message);
        worker.serves |= answer == Answer::Serving;
        Some(answer)
    }

    /// Takes a worker that has ended off the list.
    pub fn remove(&mut self, pid: Pid) -> Option<Worker> {
        let index = self.list.iter().position(|worker| worker.pid == pid)?;
        let worker = self.list.remove(index);
        let proven = worker.serves && worker.born.elapsed() > PROVEN;
        self.failures = if proven { 0 } else { self.failures + 1 };
        Some(worker)
    }

    /// How long to wait before the worker that ended is replaced.
    pub fn pause(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            n => PAUSE.saturating_mul(1 << (n - 2).min(16)).min(LONGEST),
        }
    }
}

impl Worker {
    fn order(&mut self, config: &Config, listeners: &Listeners) {
        let slots: Vec<(Slot, BorrowedFd<'_>)> = listeners.slots().collect();
        let new = |slot: &Slot| !self.slots.contains(slot);
        let logs = config.logs.descriptors();
        let order = Order::Serve {
            plan: config.plan.clone(),
            threads: config.threads(),
            sockets: slots.iter().map(|(slot, _)| (slot.clone(), new(slot))).collect(),
            logs: logs.iter().map(|(path, _)| path.clone()).collect(),
        };
        let sockets = slots.iter().filter(|(slot, _)| new(slot)).map(|(_, socket)| *socket);
        let descriptors: Vec<BorrowedFd<'_>> = sockets.chain(logs.iter().map(|(_, file)| file.as_fd())).collect();
        // A worker that does not listen is dead or will be found stuck: its end is heard of elsewhere.
        let sent = self.channel.as_ref().map(|channel| channel.send(&order.encode(), &descriptors));
        if sent.is_some_and(|sent| sent.is_err()) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        self.slots = slots.into_iter().map(|(slot, _)| slot).collect();
    }

    fn end(&mut self, signal: Signal) {
        self.leaving = true;
        // It may have ended by itself.
        let _ = kill(self.pid, signal);
    }
}

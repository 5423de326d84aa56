//! The worker process: it serves what the master orders, without the master's rights.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use super::channel::Channel;
use super::crew::Crew;
use super::order::{Answer, Order, Plan, Slot};
use super::signals::{Signals, wait};
use super::{privileges, title};
use crate::conf::Level as Grade;
use crate::modules::process::Process;
use crate::modules::seal::LogFiles;
use crate::net::{ErrorLog, Level};
use crate::table::Table;

/// Starts a worker with the environment `env` asks for; its number, and the way to it.
pub fn start(process: &Process) -> Result<(u32, Channel)> {
    let (own, theirs) = Channel::pair()?;
    let mut command = title::worker();
    command.stdin(Stdio::from(OwnedFd::from(theirs))).env_clear();
    for (name, value) in std::iter::once(&("TZ".into(), None)).chain(&process.env) {
        if let Some(value) = value.clone().or_else(|| std::env::var_os(name)) {
            command.env(name, value);
        }
    }
    let child = command.spawn().context("starting a worker failed")?;
    Ok((child.id(), own))
}

/// What a worker does, from its first order to its end; the exit code.
pub fn run() -> Result<u8> {
    // Large pages, which the master does without, save time where memory is in use.
    let _ = nix::sys::prctl::set_thp_disable(false);
    title::name_worker();
    let channel = Channel::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    let signals = Signals::listen()?;
    let mut worker = Worker { crew: Crew::new()?, table: None, logs: LogFiles::default() };
    let Some((message, descriptors)) = channel.receive()? else { return Ok(0) };
    if let Err(error) = worker.obey(&message, descriptors) {
        channel.send(&Answer::Failed(format!("{error:#}")).encode(), &[])?;
        // nginx's code for a worker that cannot start.
        return Ok(2);
    }
    channel.send(&Answer::Serving.encode(), &[])?;
    worker.listen(channel, &signals)
}

struct Worker {
    crew: Crew,
    table: Option<Arc<Table>>,
    logs: LogFiles,
}

impl Worker {
    /// Hears the master and signals until the threads have ended.
    fn listen(&mut self, channel: Channel, signals: &Signals) -> Result<u8> {
        let mut channel = Some(channel);
        loop {
            let log = self.table.as_ref().map(|table| table.error_log.clone()).unwrap_or_default();
            let mut ears = vec![signals.as_fd(), self.crew.ended()];
            ears.extend(channel.as_ref().map(AsFd::as_fd));
            let heard = wait(&ears, None);
            if heard.get(1) == Some(&true) {
                log.write(Level::Notice, None, "exit");
                return Ok(0);
            }
            while let Some(signal) = signals.next(&log, |_| "") {
                self.signal(signal, &log);
            }
            if heard.get(2) == Some(&true) && !channel.as_ref().is_some_and(|channel| self.order(channel)) {
                // Without a master the worker serves on, as nginx's does.
                channel = None;
            }
        }
    }

    fn signal(&mut self, signal: Signal, log: &ErrorLog) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => {
                log.write(Level::Notice, None, "exiting");
                self.crew.stop();
            }
            Signal::SIGQUIT | Signal::SIGWINCH => {
                log.write(Level::Notice, None, "gracefully shutting down");
                title::leave();
                self.crew.quit();
            }
            _ => {}
        }
    }

    /// Takes one order; false when there will be no more.
    fn order(&mut self, channel: &Channel) -> bool {
        let Ok(Some((message, descriptors))) = channel.receive() else { return false };
        let answer = match self.obey(&message, descriptors) {
            Ok(None) => return true,
            Ok(Some(answer)) => answer,
            Err(error) => Answer::Failed(format!("{error:#}")),
        };
        channel.send(&answer.encode(), &[]).is_ok()
    }

    /// Does what is ordered; the answer that the master waits for.
    fn obey(&mut self, message: &[u8], descriptors: Vec<OwnedFd>) -> Result<Option<Answer>> {
        let order = Order::decode(message).context("the master's order makes no sense")?;
        let mut descriptors = descriptors.into_iter();
        match order {
            Order::Serve { plan, threads, sockets, logs } => {
                let new = sockets.iter().filter(|(_, sent)| *sent).map(|(slot, _)| slot.clone());
                let new: Vec<(Slot, OwnedFd)> = new.zip(descriptors.by_ref()).collect();
                self.take_logs(logs, descriptors);
                let table = Arc::new(self.compile(&plan)?);
                match self.table {
                    None => privileges::give_up(&table, threads)?,
                    Some(_) => privileges::open_files(&table, threads),
                }
                let slots: Vec<Slot> = sockets.into_iter().map(|(slot, _)| slot).collect();
                self.crew.serve(&table, threads, &slots, new)?;
                self.logs = table.logs.clone();
                self.table = Some(table);
                Ok(Some(Answer::Serving))
            }
            Order::Reopen(logs) => {
                self.take_logs(logs, descriptors);
                Ok(None)
            }
        }
    }

    fn take_logs(&mut self, logs: Vec<PathBuf>, descriptors: impl Iterator<Item = OwnedFd>) {
        for (path, file) in logs.into_iter().zip(descriptors) {
            self.logs.put(&path, File::from(file));
        }
    }

    fn compile(&self, plan: &Plan) -> Result<Table> {
        let output = plan.compile_again(self.logs.clone(), self.table.as_deref());
        output.table.ok_or_else(|| {
            let error = output.diags.iter().find(|diag| diag.level == Grade::Emerg);
            anyhow!(error.map_or_else(String::new, |diag| diag.sentence(&output.sources)))
        })
    }
}

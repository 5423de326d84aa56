//! The main thread: starts the workers and hears signals (<https://nginx.org/en/docs/control.html>).
//!
//! The process is a single one for now; a privileged master and an unprivileged worker will take its place.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::listeners::Listeners;
use super::worker::{self, Command, Handle};
use super::{daemon, input};
use crate::cli::{Options, paths};
use crate::compile;
use crate::conf::Level;
use crate::net::Level as LogLevel;
use crate::table::Table;

/// Serves until a signal ends it.
pub fn serve(options: &Options, table: Table) -> Result<u8> {
    let threads = match table.process.worker_processes {
        0 => std::thread::available_parallelism().map_or(1, Into::into),
        number => usize::try_from(number).unwrap_or(1),
    };
    // A signal that comes before anybody listens waits: a connection may be accepted from here on.
    held().thread_block()?;
    let mut listeners = Listeners::default();
    let change = listeners.update(&table, threads)?;
    let table = Arc::new(table);
    if table.process.daemon {
        daemon::daemonize()?;
    }
    let pid = pid_file(&table)?;
    table.error_log.write(
        LogLevel::Notice,
        None,
        &format!("nginx/{} (nginx-rs {})", crate::VERSION, env!("CARGO_PKG_VERSION")),
    );
    let (done, ended) = unbounded_channel();
    let start = |sockets| worker::start(Arc::clone(&table), sockets, done.clone());
    let workers = change.added.into_iter().map(start).collect::<std::io::Result<Vec<_>>>()?;
    drop(done);
    let mut master = Master { options, listeners, workers, table };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(master.supervise(ended))?;
    master.listeners.clean();
    if let Some(pid) = pid {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(pid);
    }
    Ok(0)
}

/// The signals that mean something.
fn held() -> SigSet {
    use nix::sys::signal::Signal;
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1];
    signals.into_iter().collect()
}

/// Writes the pid file; nginx's default place may be closed to an ordinary user, who then goes without.
fn pid_file(table: &Table) -> Result<Option<PathBuf>> {
    let path = table.process.pid.clone().unwrap_or_else(|| PathBuf::from(paths::PID));
    match daemon::write_pid(&path) {
        Ok(()) => Ok(Some(path)),
        Err(_) if table.process.pid.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

struct Master<'a> {
    options: &'a Options,
    listeners: Listeners,
    workers: Vec<Handle>,
    table: Arc<Table>,
}

impl Master<'_> {
    async fn supervise(&mut self, mut ended: UnboundedReceiver<()>) -> Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut hup = signal(SignalKind::hangup())?;
        let mut usr1 = signal(SignalKind::user_defined1())?;
        held().thread_unblock()?;
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                _ = quit.recv() => self.tell(|| Command::Quit),
                _ = hup.recv() => self.reload(),
                _ = usr1.recv() => self.reopen(),
                _ = ended.recv() => return Ok(()),
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A thread that has ended needs no telling.
            let _ = worker.commands.send(command());
        }
    }

    fn reopen(&self) {
        self.table.error_log.write(LogLevel::Notice, None, "reopening logs");
        for problem in self.table.logs.reopen() {
            self.table.error_log.write(LogLevel::Emerg, None, &problem);
        }
    }

    /// Compiles anew; a configuration that does not compile changes nothing and says why.
    fn reload(&mut self) {
        let log = self.table.error_log.clone();
        log.write(LogLevel::Notice, None, "reconfiguring");
        let output = compile::compile(&input(self.options, self.table.logs.clone(), self.table.zones.clone()));
        for diag in &output.diags {
            let level = if diag.level == Level::Warn { LogLevel::Warn } else { LogLevel::Emerg };
            log.write(level, None, &diag.sentence(&output.sources));
        }
        let Some(table) = output.table else { return };
        let change = match self.listeners.update(&table, self.workers.len()) {
            Ok(change) => change,
            Err(error) => return log.write(LogLevel::Emerg, None, &format!("{error:#}")),
        };
        self.table = Arc::new(table);
        for (worker, added) in self.workers.iter().zip(change.added) {
            let command = Command::Reload(Arc::clone(&self.table), added, change.removed.clone());
            let _ = worker.commands.send(command);
        }
    }
}

//! The master: it reads, opens and supervises, and leaves serving to a worker without its rights.
//!
//! <https://nginx.org/en/docs/control.html>. One thread, no runtime: it waits for signals and for its workers.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

use super::config::Config;
use super::daemon::{PidFile, Starter, daemonize};
use super::listeners::{Listeners, Retired};
use super::order::{Answer, Plan};
use super::signals::{Signals, wait};
use super::upgrade::{self, Inheritance};
use super::workers::Workers;
use super::{findings, redirect_stderr, systemd};
use crate::cli::Options;
use crate::net::Level;
use crate::table::Table;

/// How long workers that must end at once may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves until a signal ends it.
pub fn serve(options: &Options, plan: Plan, table: Table) -> Result<u8> {
    let config = Config::of(plan, &table)?;
    config.make_directories(&table)?;
    let inheritance = Inheritance::take();
    if let Some(note) = &inheritance.note {
        config.error_log.write(Level::Notice, None, note);
    }
    // A signal that comes from here on waits until somebody asks: connections may be accepted soon.
    let signals = Signals::listen()?;
    let parent = Some(getppid()).filter(|_| inheritance.succeeds);
    let mut listeners = Listeners::inheriting(inheritance.sockets);
    listeners.update(&table.listens, config.threads())?.close();
    drop(table);
    let background = config.process.daemon && parent.is_none();
    let starter = if background { daemonize()? } else { Starter::NONE };
    let pid = PidFile::write(&config.process)?;
    redirect_stderr(&config.error_log, &config.logs)?;
    let version = format!("nginx/{} (nginx-rs {})", crate::VERSION, env!("CARGO_PKG_VERSION"));
    config.error_log.write(Level::Notice, None, &version);
    config.error_log.write(Level::Notice, None, "start worker processes");
    let mut workers = Workers::default();
    workers.start(&config, &listeners)?;
    let master = Master {
        options,
        config,
        ordered: None,
        reload_again: false,
        listeners,
        workers,
        pid,
        starter,
        background,
        parent,
        successor: None,
        stopping: None,
        resting: false,
        respawn: None,
    };
    master.supervise(&signals)
}

/// A reload that a worker has not confirmed yet.
struct Ordered {
    config: Config,
    retired: Retired,
}

struct Master<'a> {
    options: &'a Options,
    /// What is served.
    config: Config,
    ordered: Option<Ordered>,
    /// Whether a reload was asked for while one was under way.
    reload_again: bool,
    listeners: Listeners,
    workers: Workers,
    pid: PidFile,
    starter: Starter,
    background: bool,
    /// The predecessor whose sockets these are.
    parent: Option<Pid>,
    /// A new program that was started to take over.
    successor: Option<Pid>,
    /// By when workers must have ended, once they must; none for as long as they like.
    stopping: Option<Option<Instant>>,
    /// Whether a successor serves in this one's place.
    resting: bool,
    /// When a dead worker is replaced.
    respawn: Option<Instant>,
}

impl Master<'_> {
    fn supervise(mut self, signals: &Signals) -> Result<u8> {
        loop {
            let speakers = self.workers.ears();
            let ears: Vec<_> = std::iter::once(signals.as_fd()).chain(speakers.iter().map(|(_, ear)| *ear)).collect();
            let heard = wait(&ears, self.limit());
            let spoke = speakers.iter().zip(heard.into_iter().skip(1)).filter(|(_, heard)| *heard);
            let spoke: Vec<Pid> = spoke.map(|((pid, _), _)| *pid).collect();
            for pid in spoke {
                self.answer(pid)?;
            }
            while let Some(signal) = signals.next(&self.config.error_log, meaning) {
                self.signal(signal)?;
            }
            self.respawn()?;
            if let Some(deadline) = self.stopping {
                if self.workers.is_empty() {
                    return Ok(self.exit());
                }
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    self.workers.end(Signal::SIGKILL);
                    self.stopping = Some(None);
                }
            }
        }
    }

    /// How long to wait for anything to happen, in milliseconds.
    fn limit(&self) -> Option<u16> {
        let next = self.respawn.into_iter().chain(self.stopping.flatten()).min()?;
        let left = next.saturating_duration_since(Instant::now()).as_millis() + 1;
        Some(u16::try_from(left).unwrap_or(u16::MAX))
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        match signal {
            Signal::SIGCHLD => self.bury()?,
            Signal::SIGTERM | Signal::SIGINT => {
                systemd::notify("STOPPING=1");
                self.workers.end(Signal::SIGTERM);
                self.stopping = Some(Some(Instant::now() + PATIENCE));
            }
            Signal::SIGQUIT => {
                systemd::notify("STOPPING=1");
                self.workers.end(Signal::SIGQUIT);
                self.stopping = self.stopping.or(Some(None));
            }
            Signal::SIGHUP if self.resting => {
                self.resting = false;
                self.respawn = Some(Instant::now());
            }
            Signal::SIGHUP => self.reload(),
            Signal::SIGUSR1 => self.reopen(),
            Signal::SIGUSR2 if self.successor.is_none() => self.upgrade(),
            // In a terminal it only means that the window has another size.
            Signal::SIGWINCH if self.background => {
                self.resting = true;
                self.workers.end(Signal::SIGQUIT);
            }
            _ => {}
        }
        Ok(())
    }

    /// Compiles anew; a configuration that does not compile changes nothing and says why.
    fn reload(&mut self) {
        if self.ordered.is_some() {
            self.reload_again = true;
            return;
        }
        let log = self.config.error_log.clone();
        log.write(Level::Notice, None, "reconfiguring");
        systemd::notify(&systemd::reloading());
        if let Err(error) = self.order() {
            if let Some(error) = error {
                log.write(Level::Emerg, None, &format!("{error:#}"));
            }
            systemd::notify("READY=1");
        }
    }

    /// Has the worker serve what lies on the disk now. An error of none has been reported already.
    fn order(&mut self) -> Result<(), Option<anyhow::Error>> {
        let (plan, mut output) = Plan::new(self.options).compile(self.config.logs.clone());
        findings::check_limits(&mut output);
        findings::log(&output, &self.config.error_log);
        let table = output.table.ok_or(None)?;
        let config = Config::of(plan, &table).map_err(Some)?;
        config.make_directories(&table).map_err(Some)?;
        let retired = self.listeners.update(&table.listens, config.threads()).map_err(Some)?;
        drop(table);
        // nginx opens every log anew too.
        reopen(&config);
        if !config.fits(&self.config) || !self.workers.order(&config, &self.listeners) {
            self.workers.start(&config, &self.listeners).map_err(Some)?;
        }
        self.ordered = Some(Ordered { config, retired });
        Ok(())
    }

    /// Hears what a worker says of its last order.
    fn answer(&mut self, pid: Pid) -> Result<()> {
        match self.workers.hear(pid) {
            Some(Answer::Serving) => {
                self.workers.relieve();
                self.starter.release();
                if let Some(Ordered { config, retired }) = self.ordered.take() {
                    self.config = config;
                    retired.close();
                    if let Err(error) = self.pid.update(&self.config.process) {
                        self.config.error_log.write(Level::Emerg, None, &format!("{error:#}"));
                    }
                }
                systemd::notify("READY=1");
            }
            Some(Answer::Failed(why)) => {
                self.config.error_log.write(Level::Emerg, None, &why);
                if self.starter.is_waiting() {
                    eprintln!("nginx: [emerg] {why}");
                }
                self.ordered = None;
                systemd::notify("READY=1");
            }
            None => return Ok(()),
        }
        if self.ordered.is_none() && std::mem::take(&mut self.reload_again) {
            self.reload();
        }
        Ok(())
    }

    fn reopen(&self) {
        self.config.error_log.write(Level::Notice, None, "reopening logs");
        reopen(&self.config);
        self.workers.reopen(&self.config);
    }

    /// Starts the program that lies under this one's name now.
    fn upgrade(&mut self) {
        let log = &self.config.error_log;
        if let Err(error) = self.pid.step_aside() {
            return log.write(Level::Alert, None, &format!("renaming the pid file failed: {error}"));
        }
        match upgrade::start(self.listeners.descriptors()) {
            Ok(successor) => {
                log.write(Level::Notice, None, &format!("start new binary process {successor}"));
                self.successor = i32::try_from(successor).ok().map(Pid::from_raw);
            }
            Err(error) => {
                log.write(Level::Alert, None, &format!("{error:#}"));
                self.step_back();
            }
        }
    }

    /// Takes the place of a successor that has ended.
    fn step_back(&mut self) {
        self.successor = None;
        if let Err(error) = self.pid.step_back(&self.config.process) {
            self.config.error_log.write(Level::Alert, None, &format!("renaming the pid file failed: {error}"));
        }
        if std::mem::take(&mut self.resting) {
            self.respawn = Some(Instant::now());
        }
    }

    /// Takes note of children that have ended.
    fn bury(&mut self) -> Result<()> {
        let log = self.config.error_log.clone();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, level, how) = match status {
                WaitStatus::Exited(pid, code) => (pid, Level::Notice, format!("exited with code {code}")),
                WaitStatus::Signaled(pid, signal, core) => {
                    let core = if core { " (core dumped)" } else { "" };
                    (pid, Level::Alert, format!("exited on signal {}{core}", signal as i32))
                }
                _ => return Ok(()),
            };
            if self.successor == Some(pid) {
                log.write(level, None, &format!("new binary process {pid} {how}"));
                self.step_back();
                continue;
            }
            log.write(level, None, &format!("worker process {pid} {how}"));
            let Some(worker) = self.workers.remove(pid) else { continue };
            if worker.leaving || self.stopping.is_some() {
                continue;
            }
            if self.starter.is_waiting() || !worker.serves && matches!(status, WaitStatus::Exited(_, 2)) {
                self.give_up(pid)?;
            }
            self.ordered = None;
            if !self.workers.any_stays() {
                self.respawn = Some(Instant::now() + self.workers.pause());
            }
        }
        Ok(())
    }

    /// A worker that could not even begin will not begin the next time: without another one, there is no server.
    fn give_up(&mut self, pid: Pid) -> Result<()> {
        if self.workers.any_stays() {
            return Ok(());
        }
        self.exit();
        bail!(anyhow!("worker process {pid} cannot be respawned"))
    }

    fn respawn(&mut self) -> Result<()> {
        let due = self.respawn.is_some_and(|at| at <= Instant::now());
        if due && self.stopping.is_none() {
            self.respawn = None;
            self.workers.start(&self.config, &self.listeners)?;
        }
        Ok(())
    }

    fn exit(&mut self) -> u8 {
        self.pid.remove();
        // The files of unix sockets belong to whoever serves on: a successor, or the predecessor this one came from.
        if self.successor.is_none() && self.parent.is_none_or(|parent| parent != getppid()) {
            self.listeners.clean();
        }
        self.config.error_log.write(Level::Notice, None, "exit");
        0
    }
}

/// Opens all logs again by name, for the workers' user to write.
pub fn reopen(config: &Config) {
    let owner = config.identity.as_ref().map(|identity| identity.user.as_raw());
    for problem in config.logs.reopen(owner) {
        config.error_log.write(Level::Emerg, None, &problem);
    }
}

/// What a signal brings about, as nginx's log puts it.
fn meaning(signal: Signal) -> &'static str {
    match signal {
        Signal::SIGQUIT => ", shutting down",
        Signal::SIGTERM | Signal::SIGINT => ", exiting",
        Signal::SIGWINCH => ", stop accepting connections",
        Signal::SIGHUP => ", reconfiguring",
        Signal::SIGUSR1 => ", reopening logs",
        Signal::SIGUSR2 => ", changing binary",
        _ => "",
    }
}

//! `master_process off`: one process that reads, opens and serves, for debugging
//! (<https://nginx.org/en/docs/ngx_core_module.html#master_process>).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::config::Config;
use super::crew::Crew;
use super::daemon::{PidFile, Starter, daemonize};
use super::listeners::{Listeners, Retired};
use super::master::reopen;
use super::order::{Plan, Slot};
use super::signals::{Signals, wait};
use super::{findings, privileges, redirect_stderr};
use crate::cli::Options;
use crate::net::Level;
use crate::table::Table;

/// Serves until a signal ends it.
pub fn serve(options: &Options, plan: Plan, table: Table) -> Result<u8> {
    let config = Config::of(plan, &table)?;
    config.make_directories(&table)?;
    let signals = Signals::listen()?;
    let mut listeners = Listeners::default();
    listeners.update(&table.listens, config.threads())?.close();
    let mut starter = if config.process.daemon { daemonize()? } else { Starter::NONE };
    let pid = PidFile::write(&config.process)?;
    redirect_stderr(&config.error_log, &config.logs)?;
    privileges::give_up(&table, config.threads())?;
    let mut single = Single { options, config, listeners, crew: Crew::new()? };
    single.serve(table)?;
    starter.release();
    loop {
        let heard = wait(&[signals.as_fd(), single.crew.ended()], None);
        if heard.get(1) == Some(&true) {
            break;
        }
        let log = single.config.error_log.clone();
        while let Some(signal) = signals.next(&log, |_| "") {
            single.signal(signal);
        }
    }
    single.listeners.clean();
    pid.remove();
    Ok(0)
}

struct Single<'a> {
    options: &'a Options,
    config: Config,
    listeners: Listeners,
    crew: Crew,
}

impl Single<'_> {
    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.crew.stop(),
            Signal::SIGQUIT => self.crew.quit(),
            Signal::SIGHUP => {
                if let Err(error) = self.reload() {
                    self.config.error_log.write(Level::Emerg, None, &format!("{error:#}"));
                }
            }
            Signal::SIGUSR1 => reopen(&self.config),
            _ => {}
        }
    }

    fn reload(&mut self) -> Result<()> {
        let (plan, mut output) = Plan::new(self.options).compile(self.config.logs.clone());
        findings::check_limits(&mut output);
        findings::log(&output, &self.config.error_log);
        let Some(table) = output.table else { return Ok(()) };
        let config = Config::of(plan, &table)?;
        let retired = self.listeners.update(&table.listens, config.threads())?;
        self.config = config;
        self.serve(table)?;
        Retired::close(retired);
        Ok(())
    }

    fn serve(&mut self, table: Table) -> Result<()> {
        let slots: Vec<Slot> = self.listeners.slots().map(|(slot, _)| slot).collect();
        let all = self.listeners.slots().map(|(slot, socket)| Ok((slot, socket.try_clone_to_owned()?)));
        let all: Vec<(Slot, OwnedFd)> = all.collect::<std::io::Result<_>>()?;
        self.crew.serve(&Arc::new(table), self.config.threads(), &slots, all)?;
        Ok(())
    }
}

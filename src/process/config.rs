//! A configuration as the master keeps it: what workers compile from, and what concerns processes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};

use super::order::Plan;
use super::privileges::Identity;
use crate::cli::{Options, paths};
use crate::compile::{self, Input, Output};
use crate::conf::files::{Disk, Files, Snapshot};
use crate::conf::zones::Zones;
use crate::modules::process::Process;
use crate::modules::seal::LogFiles;
use crate::net::ErrorLog;
use crate::table::Table;
use crate::upstream::groups::Sealed;

/// A configuration that compiled.
pub struct Config {
    /// What workers compile.
    pub plan: Plan,
    /// Settings of the processes.
    pub process: Process,
    /// The log of what belongs to no request.
    pub error_log: ErrorLog,
    /// The open log files.
    pub logs: LogFiles,
    transparent: bool,
    /// Who workers are; none where the master is not root.
    pub identity: Option<Identity>,
}

impl Config {
    /// What the master needs of a table it compiled.
    pub fn of(plan: Plan, table: &Table) -> Result<Self> {
        Ok(Self {
            plan,
            identity: Identity::of(&table.process)?,
            process: table.process.clone(),
            error_log: table.error_log.clone(),
            logs: table.logs.clone(),
            transparent: table.transparent,
        })
    }

    /// How many threads a worker has.
    pub fn threads(&self) -> usize {
        match self.process.worker_processes {
            0 => std::thread::available_parallelism().map_or(1, Into::into),
            number => usize::try_from(number).unwrap_or(1),
        }
    }

    /// Whether a worker of `other` can serve this one too: what it gave up or was given when it began is the same.
    pub fn fits(&self, other: &Self) -> bool {
        let begins_with = |config: &Self| {
            let process = &config.process;
            let limits = (process.worker_rlimit_nofile, process.worker_rlimit_core, process.worker_priority);
            let own = (process.env.clone(), process.working_directory.clone(), process.worker_hardening);
            (limits, own, config.identity.clone(), config.transparent)
        };
        begins_with(self) == begins_with(other)
    }

    /// Makes the directories of temporary files, owned by the workers' user, as nginx does when it starts as root.
    /// Others make them when they are needed.
    pub fn make_directories(&self, table: &Table) -> Result<()> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let made = |path: &Path| -> std::io::Result<()> {
            std::fs::create_dir_all(path)?;
            std::os::unix::fs::chown(path, Some(identity.user.as_raw()), None)
        };
        for path in &table.temp_paths {
            let failed =
                |error| anyhow!("mkdir() \"{}\" failed ({})", path.display(), crate::conf::load::os_error(&error));
            made(path).map_err(failed)?;
        }
        Ok(())
    }
}

impl Plan {
    /// What the command line says; nothing is read yet.
    pub fn new(options: &Options) -> Self {
        Self {
            file: options.file(),
            prefix: options.prefix(),
            globals: options.globals.clone().unwrap_or_default(),
            error_log: options.error_log(),
            temp: options.prefix.is_none().then(|| paths::TEMP.into()),
            snapshot: Arc::default(),
        }
    }

    /// Compiles it from the disk, starting with logs that are open, and keeps what was read.
    pub fn compile(mut self, logs: LogFiles) -> (Self, Output) {
        let disk = Arc::new(Disk::default());
        let output = compile::compile(&self.input(Arc::clone(&disk) as Arc<dyn Files>, logs));
        self.snapshot = Arc::new(disk.snapshot());
        (self, output)
    }

    /// Compiles it from what was read; what `before` knows of upstream servers goes on.
    pub fn compile_again(&self, logs: LogFiles, before: Option<&Table>) -> Output {
        let mut input = self.input(Arc::clone(&self.snapshot) as Arc<Snapshot> as Arc<dyn Files>, logs);
        input.upstreams = before.map(|table| table.upstreams.sealed()).unwrap_or_default();
        input.tls = before.map(|table| table.tls.clone()).unwrap_or_default();
        input.zones = before.map(|table| table.zones.clone()).unwrap_or_default();
        compile::compile(&input)
    }

    fn input(&self, files: Arc<dyn Files>, logs: LogFiles) -> Input {
        Input {
            file: self.file.clone(),
            prefix: self.prefix.clone(),
            globals: self.globals.clone(),
            files,
            logs,
            upstreams: Sealed::default(),
            tls: Default::default(),
            zones: Zones::default(),
            error_log: self.error_log.clone(),
            access_log: Some(paths::ACCESS_LOG.into()),
            temp: self.temp.clone(),
        }
    }
}

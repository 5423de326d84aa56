//! Going into the background, and the pid file.
#![allow(unsafe_code, reason = "fork has no safe form; nothing but this thread runs when it is called")]

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, dup2_stdin, dup2_stdout, fork, setsid};

use crate::cli::paths;
use crate::modules::process::Process;

/// Whoever started the server, waiting to hear whether it runs.
pub struct Starter(Option<PipeWriter>);

impl Starter {
    /// Nobody: the server stays in the foreground.
    pub const NONE: Self = Self(None);

    /// Whether somebody waits.
    pub fn is_waiting(&self) -> bool {
        self.0.is_some()
    }

    /// The server runs; who started it need not wait any longer.
    pub fn release(&mut self) {
        if let Some(mut starter) = self.0.take() {
            // Whoever is gone waits no more.
            let _ = starter.write_all(b"+");
        }
    }
}

/// Forks and leaves the terminal. The parent ends when it is released, and fails if the server ends before.
pub fn daemonize() -> Result<Starter> {
    let (mut ear, voice) = std::io::pipe()?;
    // SAFETY: no other thread exists yet, so the child finds every lock free.
    match unsafe { fork() }.context("fork() failed")? {
        ForkResult::Parent { .. } => {
            drop(voice);
            // Whoever started it may still change his mind.
            let _ = SigSet::all().thread_unblock();
            let released = ear.read(&mut [0]).is_ok_and(|n| n == 1);
            std::process::exit(if released { 0 } else { 1 });
        }
        ForkResult::Child => {}
    }
    setsid().context("setsid() failed")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(Starter(Some(voice)))
}

/// The pid file, as long as this process is the server.
#[derive(Debug)]
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes this process's number. nginx's default place may be closed to an ordinary user, who then goes without.
    pub fn write(process: &Process) -> Result<Self> {
        let path = path(process);
        let text = format!("{}\n", std::process::id());
        match std::fs::write(&path, text) {
            Ok(()) => Ok(Self(Some(path))),
            Err(_) if process.pid.is_none() => Ok(Self(None)),
            Err(error) => Err(anyhow!(crate::conf::load::cannot_open(&path, &error))),
        }
    }

    /// Follows a reload that names another file.
    pub fn update(&mut self, process: &Process) -> Result<()> {
        if self.0.as_ref().is_some_and(|old| *old != path(process)) {
            let old = std::mem::replace(self, Self::write(process)?);
            old.remove();
        }
        Ok(())
    }

    /// Gives the name to a successor: this one has `.oldbin` behind it from now on.
    pub fn step_aside(&mut self) -> std::io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let old = oldbin(path);
        std::fs::rename(path, &old)?;
        self.0 = Some(old);
        Ok(())
    }

    /// Takes the name back from a successor that failed.
    pub fn step_back(&mut self, process: &Process) -> std::io::Result<()> {
        let Some(old) = &self.0 else { return Ok(()) };
        let path = path(process);
        std::fs::rename(old, &path)?;
        self.0 = Some(path);
        Ok(())
    }

    /// Removes it.
    pub fn remove(&self) {
        if let Some(path) = &self.0 {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where the number of the running server stands.
pub fn path(process: &Process) -> PathBuf {
    process.pid.clone().unwrap_or_else(|| PathBuf::from(paths::PID))
}

fn oldbin(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(".oldbin");
    old.into()
}

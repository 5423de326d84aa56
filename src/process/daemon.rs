//! Going into the background, and the pid file.
#![allow(unsafe_code, reason = "fork has no safe form; nothing but this thread runs when it is called")]

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::unistd::{ForkResult, dup2_stdin, dup2_stdout, fork, setsid};

/// Forks, leaves the terminal, and ends the parent.
pub fn daemonize() -> Result<()> {
    // SAFETY: no other thread exists yet, so the child finds every lock free.
    match unsafe { fork() }.context("fork() failed")? {
        ForkResult::Parent { .. } => std::process::exit(0),
        ForkResult::Child => {}
    }
    setsid().context("setsid() failed")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(())
}

/// Writes the process's number.
pub fn write_pid(path: &Path) -> Result<()> {
    let text = format!("{}\n", std::process::id());
    std::fs::write(path, text).map_err(|error| anyhow!(crate::conf::load::cannot_open(path, &error)))
}

//! The process: testing a configuration, starting, signals, reloading (<https://nginx.org/en/docs/control.html>).

use std::io::Write;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use crate::cli::Options;
use crate::compile::Output;
use crate::modules::seal::LogFiles;
use crate::net::ErrorLog;
use order::Plan;

mod channel;
mod config;
mod crew;
mod daemon;
mod findings;
mod listeners;
mod master;
mod order;
mod privileges;
mod signals;
mod single;
mod systemd;
mod thread;
mod title;
mod upgrade;
mod worker;
mod workers;

/// Does the work of a worker process if this is one; the exit code.
pub fn work() -> Option<Result<u8>> {
    title::is_worker().then(worker::run)
}

/// Does what the command line asks for and returns the exit code.
pub fn run(options: &Options) -> Result<u8> {
    let serves = !(options.test || options.dump || options.signal.is_some());
    if serves {
        title::become_master();
        title::name_master();
    }
    let (plan, mut output) = Plan::new(options).compile(LogFiles::default());
    findings::check_user(&mut output, options.test || options.dump);
    findings::check_limits(&mut output);
    if options.test || options.dump {
        findings::check_pid(&mut output);
        return Ok(test(options, &output));
    }
    findings::print(&output, options.signal.is_some());
    let Some(table) = output.table else {
        findings::record(options, &output);
        return Ok(1);
    };
    match &options.signal {
        Some(signal) => send(signal, &daemon::path(&table.process)),
        None if table.process.master_process => master::serve(options, plan, table),
        None => single::serve(options, plan, table),
    }
}

/// Lets standard error end in the error log, where nobody holds on to the terminal or pipe of whoever started us.
fn redirect_stderr(log: &ErrorLog, logs: &LogFiles) -> Result<()> {
    if let Some(file) = log.file().filter(|_| !logs.stderr) {
        nix::unistd::dup2_stderr(file.as_fd())?;
    }
    Ok(())
}

/// `-t` and `-T`.
fn test(options: &Options, output: &Output) -> u8 {
    let file = options.file();
    findings::print(output, options.quiet);
    let mut err = std::io::stderr().lock();
    let failed = output.table.is_none();
    let verdict = match failed {
        true => format!("nginx: configuration file {} test failed\n", file.display()),
        false if options.quiet => String::new(),
        false => {
            let file = file.display();
            format!(
                "nginx: the configuration file {file} syntax is ok\nnginx: configuration file {file} test is successful\n"
            )
        }
    };
    // A closed standard error changes nothing about the verdict.
    let _ = err.write_all(verdict.as_bytes());
    if options.dump && !failed {
        let _ = std::io::stdout().lock().write_all(&dump(output));
    }
    u8::from(failed)
}

/// Every file of the configuration in nginx's format, each once.
fn dump(output: &Output) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for source in output.sources.all().iter().filter(|source| seen.insert(&source.name)) {
        out.extend_from_slice(b"# configuration file ");
        out.extend_from_slice(&source.name);
        out.extend_from_slice(b":\n");
        out.extend_from_slice(&source.text);
        out.push(b'\n');
    }
    out
}

/// `-s`: sends the signal to the process whose number the pid file holds.
fn send(signal: &str, pid_file: &std::path::Path) -> Result<u8> {
    use nix::sys::signal::{Signal, kill};
    let opened = crate::conf::read::read(pid_file, std::time::Duration::ZERO);
    let text = opened.map_err(|error| anyhow::anyhow!(crate::conf::load::cannot_open(pid_file, &error)))?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    let pid: i32 = text
        .parse()
        .ok()
        .filter(|&pid| pid > 0)
        .with_context(|| format!("invalid PID number \"{text}\" in \"{}\"", pid_file.display()))?;
    let number = match signal {
        "stop" => Signal::SIGTERM,
        "quit" => Signal::SIGQUIT,
        "reopen" => Signal::SIGUSR1,
        _ => Signal::SIGHUP,
    };
    match kill(nix::unistd::Pid::from_raw(pid), number) {
        Ok(()) => Ok(0),
        Err(error) => {
            eprintln!("nginx: [alert] kill({pid}, {}) failed ({}: {})", number as i32, error as i32, error.desc());
            Ok(1)
        }
    }
}

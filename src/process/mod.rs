//! The process: testing a configuration, starting, signals, reloading (<https://nginx.org/en/docs/control.html>).

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::cli::{Options, paths};
use crate::compile::{self, Input, Output};
use crate::conf::Level;
use crate::conf::load::Disk;
use crate::conf::zones::Zones;
use crate::modules::seal::LogFiles;

mod daemon;
mod listeners;
mod master;
mod worker;

/// Does what the command line asks for and returns the exit code.
pub fn run(options: &Options) -> Result<u8> {
    let output = compile::compile(&input(options, LogFiles::default(), Zones::default()));
    if options.test || options.dump {
        return Ok(test(options, &output));
    }
    let quiet = options.signal.is_some();
    print(&output, quiet);
    let Some(table) = output.table else {
        record(options, &output);
        return Ok(1);
    };
    match &options.signal {
        Some(signal) => send(signal, &table.process.pid.unwrap_or_else(|| PathBuf::from(paths::PID))),
        None => master::serve(options, table),
    }
}

/// What to compile, as the command line has it.
fn input(options: &Options, logs: LogFiles, zones: Zones) -> Input {
    Input {
        file: options.file(),
        prefix: options.prefix(),
        globals: options.globals.clone().unwrap_or_default(),
        files: Arc::new(Disk::default()),
        logs,
        zones,
        error_log: options.error_log(),
        access_log: Some(PathBuf::from(paths::ACCESS_LOG)),
    }
}

/// `-t` and `-T`.
fn test(options: &Options, output: &Output) -> u8 {
    let file = options.file();
    print(output, options.quiet);
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

/// Prints the findings: nginx's line for every warning and the first error, then the framed report of all errors.
fn print(output: &Output, quiet: bool) {
    let mut text = String::new();
    let mut errors = output.diags.iter().filter(|diag| diag.level == Level::Emerg);
    let first = errors.next();
    let warnings = output.diags.iter().filter(|diag| diag.level == Level::Warn);
    for diag in warnings.chain(first) {
        text.push_str(&format!("nginx: [{}] {}\n", diag.level, diag.sentence(&output.sources)));
    }
    if !quiet {
        for diag in first.into_iter().chain(errors) {
            text.push_str(&diag.render(&output.sources));
        }
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes the first error to the error log too, where a supervisor looks for it.
fn record(options: &Options, output: &Output) {
    let Some(diag) = output.diags.iter().find(|diag| diag.level == Level::Emerg) else { return };
    if let Some(file) = options.error_log().and_then(|path| crate::net::LogFile::open(&path).ok()) {
        let sentence = diag.sentence(&output.sources);
        file.write(crate::net::log::entry(crate::net::Level::Emerg, None, &sentence).as_bytes());
    }
}

/// `-s`: sends the signal to the process whose number the pid file holds.
fn send(signal: &str, pid_file: &std::path::Path) -> Result<u8> {
    use nix::sys::signal::{Signal, kill};
    let opened = std::fs::read_to_string(pid_file);
    let text = opened.map_err(|error| anyhow::anyhow!(crate::conf::load::cannot_open(pid_file, &error)))?;
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

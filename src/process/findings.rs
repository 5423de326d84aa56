//! What compiling found, said to whoever has to know: the terminal, the error log.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use super::privileges::Identity;
use crate::cli::Options;
use crate::compile::Output;
use crate::conf::load::cannot_open;
use crate::conf::{Diag, Level};
use crate::net::{self, ErrorLog, LogFile, log};

/// Looks whether the user exists, as nginx does where it reads `user`. A test only warns: a configuration is often
/// tested where it will not run.
pub fn check_user(output: &mut Output, test: bool) {
    let Some(table) = &output.table else { return };
    let user = table.process.user.as_ref();
    let found = match (Identity::of(&table.process), user) {
        (Err(error), Some(user)) if test => Diag::error(error.to_string(), user.at, user.at).warning(),
        (Err(error), Some(user)) => Diag::error(error.to_string(), user.at, user.at),
        (Err(error), None) => Diag::general(error.to_string(), None),
        (Ok(None), Some(user)) => {
            let only = "the \"user\" directive makes sense only if the master process runs with super-user privileges, ignored";
            Diag::error(only, user.at, user.at).warning()
        }
        (Ok(_), _) => return,
    };
    if found.is_error() {
        output.table = None;
    }
    output.diags.insert(0, found);
}

/// Says what will be short: files to open, for which nginx's log must take warnings.
pub fn check_limits(output: &mut Output) {
    let Some(table) = output.table.as_ref().filter(|table| table.error_log.takes(net::Level::Warn)) else { return };
    let (wanted, own) = (table.process.worker_connections, table.process.worker_rlimit_nofile);
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
    let limit = own.unwrap_or(soft);
    if wanted > soft && wanted > limit {
        let problem = format!("{wanted} worker_connections exceed open file resource limit: {limit}");
        output.diags.push(Diag::general(problem, None).warning());
    }
}

/// Looks, for a test, whether the pid file can be where `pid` says. That somebody else may write there is no error.
pub fn check_pid(output: &mut Output) {
    let pid = output.table.as_ref().and_then(|table| table.process.pid.clone());
    let Some((error, path)) = pid.and_then(|path| Some((unwritable(&path)?, path))) else { return };
    output.table = None;
    output.diags.push(Diag::general(cannot_open(&path, &error), None));
}

/// Why a file cannot be made or written to, apart from rights. It is not made.
fn unwritable(path: &Path) -> Option<io::Error> {
    // Opened both ways as nginx does: a pipe waits for nobody then.
    let error = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path.as_os_str().as_bytes().ends_with(b"/") => {
            io::Error::from(Errno::EISDIR)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::metadata(path.parent()?).err()?,
        opened => opened.err()?,
    };
    Some(error).filter(|error| !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem))
}

/// Writes all findings to the log of a running server.
pub fn log(output: &Output, log: &ErrorLog) {
    for diag in &output.diags {
        let level = if diag.level == Level::Warn { net::Level::Warn } else { net::Level::Emerg };
        log.write(level, None, &diag.sentence(&output.sources));
    }
}

/// Prints the findings: nginx's line for every warning and the first error, then the framed report of all errors.
pub fn print(output: &Output, quiet: bool) {
    let mut text = String::new();
    let mut errors = output.diags.iter().filter(|diag| diag.is_error());
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
pub fn record(options: &Options, output: &Output) {
    let Some(diag) = output.diags.iter().find(|diag| diag.is_error()) else { return };
    if let Some(file) = options.error_log().and_then(|path| LogFile::open(&path).ok()) {
        let sentence = diag.sentence(&output.sources);
        file.write(log::entry(net::Level::Emerg, None, &sentence).as_bytes());
    }
}

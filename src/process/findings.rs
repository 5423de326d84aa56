//! What compiling found, said to whoever has to know: the terminal, the error log.

use std::io::Write;

use super::privileges::Identity;
use crate::cli::Options;
use crate::compile::Output;
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

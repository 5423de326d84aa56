//! `error_log`: <https://nginx.org/en/docs/ngx_core_module.html#error_log>

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Conf;
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Diag, Problem};
use crate::modules::Seal;
use crate::net::{ErrorLog, Level, LogFile};

/// Where errors go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// Standard error.
    Stderr,
}

/// `error_log file [level]`.
pub fn error_log(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let place = match args.word(0) {
        b"stderr" => Place::Stderr,
        word if word.starts_with(b"syslog:") || word.starts_with(b"memory:") => {
            return Err(Problem::new(format!("error_log to \"{}\" is not supported yet", text(word))).at(0));
        }
        word => Place::File(args.env.full_name(word)),
    };
    let mut level = Level::Error;
    for (index, word) in args.words().enumerate().skip(1) {
        level = one_of(word, &Level::NAMES)
            .map_err(|_| Problem::new(format!("invalid log level \"{}\"", text(word))).at(index))?;
    }
    if conf.error_logs.is_own() && conf.error_logs.iter().any(|(_, other)| *other == place) {
        return Err(Problem::tail("is duplicate"));
    }
    conf.error_logs.push((level, place));
    Ok(())
}

/// Opens the places of a scope.
pub fn open(places: &[(Level, Place)], cx: &mut Seal<'_>) -> Result<ErrorLog, Diag> {
    let mut sinks = Vec::new();
    for (level, place) in places {
        let file = match place {
            Place::File(path) => cx.logs.open(path)?,
            Place::Stderr => Arc::new(LogFile::stderr()),
        };
        sinks.push((*level, file));
    }
    Ok(ErrorLog::new(sinks))
}

/// The log of what belongs to no request: the outermost `error_log`, or `fallback`.
pub fn seal(conf: &Conf, cx: &mut Seal<'_>) -> Result<ErrorLog, Diag> {
    open(&conf.error_logs, cx)
}

/// Gives the outermost scope a log where the configuration names none.
pub fn complete(conf: &mut Conf, fallback: Option<&Path>) {
    if conf.error_logs.is_empty() {
        let place = fallback.map_or(Place::Stderr, |path| Place::File(path.to_owned()));
        conf.error_logs.push((Level::Error, place));
    }
}

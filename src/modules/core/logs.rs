//! `error_log`: <https://nginx.org/en/docs/ngx_core_module.html#error_log>

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Conf;
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Diag, Problem, units};
use crate::http::syslog;
use crate::modules::Seal;
use crate::net::log::Memory;
use crate::net::{ErrorLog, Level, Sink};

/// Where errors go.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// Standard error.
    Stderr,
    /// What is no file.
    Other(Sink),
}

/// nginx's longest entry in bytes, which a ring in memory must have room for, with its mark.
const LONGEST: u64 = 2048 + 64;

/// `error_log file [level]`.
pub fn error_log(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let place = match args.word(0) {
        b"stderr" | b"" => Place::Stderr,
        word if word.starts_with(b"syslog:") => {
            let parameters = word.get(b"syslog:".len()..).unwrap_or_default();
            Place::Other(Sink::Syslog(syslog::read(parameters, args).map_err(|problem| problem.at(0))?))
        }
        word if word.starts_with(b"memory:") => {
            let size = word.get(b"memory:".len()..).unwrap_or_default();
            let bytes = units::size(size).filter(|&bytes| bytes >= LONGEST).and_then(|bytes| usize::try_from(bytes).ok());
            let problem = || Problem::new(format!("invalid buffer size \"{}\"", text(size))).at(0);
            Place::Other(Sink::Memory(Arc::new(Memory::new(bytes.ok_or_else(problem)?))))
        }
        word => {
            let path = args.env.full_name(word);
            args.env.log_files.push(path.clone());
            Place::File(path)
        }
    };
    let mut level = Level::Error;
    for (index, word) in args.words().enumerate().skip(1) {
        let problem = |what| Problem::new(format!("{what} log level \"{}\"", text(word))).at(index);
        level = one_of(word, &Level::NAMES).map_err(|_| problem("invalid"))?;
        if index > 1 {
            return Err(problem("duplicate"));
        }
    }
    conf.error_logs.push((level, place));
    Ok(())
}

/// Opens the places of a scope.
pub fn open(places: &[(Level, Place)], cx: &mut Seal<'_>) -> Result<ErrorLog, Diag> {
    let mut sinks = Vec::new();
    for (level, place) in places {
        let sink = match place {
            Place::File(path) => Sink::File(cx.logs.open(path)?),
            Place::Stderr => Sink::File(cx.logs.stderr()),
            Place::Other(sink) => sink.clone(),
        };
        sinks.push((*level, sink));
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

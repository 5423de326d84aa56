//! `access_log` and `log_format`: <https://nginx.org/en/docs/http/ngx_http_log_module.html>

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::load::{cannot_open, os_error};
use crate::conf::{Args, Contexts, Diag, Directive, Env, Field, List, Problem, many, on, units};
use crate::http::{Request, Value, syslog};
use crate::net::{Level, LogFile, Syslog};

mod cache;
mod format;
mod pending;

use cache::Cache;
pub use format::Format;
pub use pending::{Buffering, finish, flush};

/// `ngx_http_log_module`.
pub struct Module;

/// The name of the format that every configuration has.
const COMBINED: &[u8] = b"combined";

/// An `access_log` as written.
#[derive(Clone, Debug)]
pub enum Written {
    /// `off`.
    Off,
    /// A place.
    Log {
        /// Where lines go.
        place: Place,
        /// The format's name.
        format: Bytes,
        /// `if=`.
        filter: Option<Value>,
    },
}

/// Settings of a scope.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    logs: List<Written>,
    cache: Option<Arc<Cache>>,
}

/// Where lines go.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file.
    File(PathBuf, Option<Buffering>),
    /// Standard error.
    Stderr(Option<Buffering>),
    /// A path with variables.
    Path(Value),
    /// A syslog server.
    Syslog(Arc<Syslog>),
}

/// A log that requests write to.
#[derive(Debug)]
pub struct Log {
    sink: Sink,
    format: Format,
    filter: Option<Value>,
}

#[derive(Debug)]
enum Sink {
    File(Arc<LogFile>, Option<Buffering>),
    Path(Value, Option<Arc<Cache>>),
    Syslog(Arc<Syslog>),
}

/// The formats by name.
pub type Formats = Vec<(Bytes, Format)>;

const PLACES: Contexts = Contexts(Contexts::SCOPES_IF.0 | Contexts::LIMIT_EXCEPT.0);
/// Bytes of lines that are compressed together where `buffer=` does not say.
const GZIP_BUFFER: u64 = 64 << 10;
const LOG_FORMAT: &str = "log_format";

impl super::Module for Module {
    type Conf = Conf;
    type Main = Formats;
    type Loc = Vec<Log>;
    const PHASES: Phases = Phases::LOG;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        many("access_log", PLACES, 1..=255, |c, a| access_log(&mut c.logs, a)),
        on("open_log_file_cache", Contexts::SCOPES, 1..=4, |c, a| {
            c.cache = cache::read(a)?;
            Ok(())
        }),
    ];
    const MAIN_DIRECTIVES: &'static [Directive<Formats>] = &[many(LOG_FORMAT, Contexts::HTTP, 2..=255, log_format)];

    fn prepare(formats: &mut Formats, env: &mut Env) {
        formats.push((Bytes::from_static(COMBINED), Format::combined(&mut env.names)));
    }

    fn seal(conf: Conf, formats: &Formats, cx: &mut Seal<'_>) -> Result<Vec<Log>, Diag> {
        if conf.logs.is_empty() {
            return Ok(default(formats, cx).into_iter().collect());
        }
        let mut logs = Vec::new();
        for written in &*conf.logs {
            match written {
                Written::Off => return Ok(Vec::new()),
                Written::Log { place, format, filter } => {
                    let sink = match place {
                        Place::File(path, buffering) => Sink::File(cx.logs.open(path)?, *buffering),
                        Place::Stderr(buffering) => Sink::File(cx.logs.stderr(), *buffering),
                        Place::Path(path) => Sink::Path(path.clone(), conf.cache.clone()),
                        Place::Syslog(server) => Sink::Syslog(Arc::clone(server)),
                    };
                    logs.push(Log { sink, format: find(formats, format), filter: filter.clone() });
                }
            }
        }
        Ok(logs)
    }

    fn log(logs: &Vec<Log>, request: &Request) {
        logs.iter().for_each(|log| log.write(request));
    }
}

/// The log of a configuration that names none. It is no reason not to start.
fn default(formats: &Formats, cx: &mut Seal<'_>) -> Option<Log> {
    let path = cx.env.access_log.clone()?;
    match cx.logs.open(&path) {
        Ok(file) => Some(Log { sink: Sink::File(file, None), format: find(formats, COMBINED), filter: None }),
        Err(diag) => {
            cx.env.access_log = None;
            cx.env.warnings.push(diag.warning().note("there is no access log; say where it is with \"access_log\""));
            None
        }
    }
}

fn find(formats: &Formats, name: &[u8]) -> Format {
    let found = formats.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, format)| format.clone()).unwrap_or_default()
}

impl Log {
    fn write(&self, request: &Request) {
        let passes = |filter: &Value| !matches!(&*filter.get(request), b"" | b"0");
        if !self.filter.as_ref().is_none_or(passes) {
            return;
        }
        match &self.sink {
            Sink::File(file, buffering) => pending::add(file, *buffering, |out| self.format.write(request, out)),
            Sink::Path(path, cache) => self.write_to(Path::new(OsStr::from_bytes(&path.get(request))), cache.as_deref(), request),
            Sink::Syslog(server) => {
                let mut line = Vec::new();
                self.format.write(request, &mut line);
                if !server.send(server.severity, line.strip_suffix(b"\n").unwrap_or(&line)) {
                    request.log(Level::Warn, "send() to syslog failed while logging request");
                }
            }
        }
    }

    /// Appends to a file whose path holds variables; it must lie in a tree that exists.
    fn write_to(&self, path: &Path, cache: Option<&Cache>, request: &Request) {
        let root = request.core().document_root(request);
        if let Err(error) = std::fs::metadata(OsStr::from_bytes(&root)) {
            let problem = format!("testing \"{}\" existence failed ({})", text(&root), os_error(&error));
            return request.log(Level::Error, &problem);
        }
        let mut line = Vec::new();
        self.format.write(request, &mut line);
        let written = match cache {
            Some(cache) => cache.write(path, &line),
            None => cache::append(path).and_then(|mut file| file.write_all(&line)),
        };
        if let Err(error) = written {
            request.log(Level::Crit, &format!("{} while logging request", cannot_open(path, &error)));
        }
    }
}

fn log_format(formats: &mut Formats, args: &mut Args<'_>) -> Result<(), Problem> {
    let name = args.word(0);
    if formats.iter().any(|(other, _)| other == name) {
        return Err(Problem::new(format!("duplicate \"log_format\" name \"{}\"", text(name))).at(0));
    }
    args.env.declared.insert((LOG_FORMAT, name.to_ascii_lowercase()), args.directive().end);
    let format = Format::read(args)?;
    formats.push((Bytes::copy_from_slice(name), format));
    Ok(())
}

fn access_log(logs: &mut List<Written>, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let invalid = |word: &[u8], at: usize| Problem::new(format!("invalid parameter \"{}\"", text(word))).at(at);
    if word == b"off" {
        logs.push(Written::Off);
        return args.get(1).map_or(Ok(()), |word| Err(invalid(word, 1)));
    }
    let mut place = place(word, args)?;
    let format = args.get(1).unwrap_or(COMBINED);
    let at = args.directive().end;
    let known = format.eq_ignore_ascii_case(COMBINED)
        || args.env.is_declared(LOG_FORMAT, &format.to_ascii_lowercase(), at);
    if !known {
        return Err(Problem::new(format!("unknown log format \"{}\"", text(format))).at(1));
    }
    let (mut filter, mut size, mut flush, mut gzip) = (None, 0, None, None);
    for (index, word) in args.words().enumerate().skip(2) {
        let (name, value) = word.split_at(word.iter().position(|&b| b == b'=').map_or(word.len(), |at| at + 1));
        let bad = |what: &str| Problem::new(format!("invalid {what} \"{}\"", text(value))).at(index);
        match name {
            b"buffer=" => size = units::size(value).filter(|&size| size > 0).ok_or_else(|| bad("buffer size"))?,
            b"flush=" => {
                let time = units::msec(value).filter(|&time| time > 0).ok_or_else(|| bad("flush time"))?;
                flush = Some(Duration::from_millis(time));
            }
            b"gzip" => gzip = Some(1),
            b"gzip=" => {
                let level = units::number(value).and_then(|level| u8::try_from(level).ok());
                gzip = Some(level.filter(|level| (1..=9).contains(level)).ok_or_else(|| bad("compression level"))?);
            }
            b"if=" => filter = Some(Value::read(value, args).map_err(|problem| problem.at(index))?),
            _ => return Err(invalid(word, index)),
        }
    }
    if gzip.is_some() && size == 0 {
        size = GZIP_BUFFER;
    }
    if flush.is_some() && size == 0 {
        return Err(Problem::new(format!("no buffer is defined for access_log \"{}\"", text(word))).at(0));
    }
    let buffering = (size > 0).then(|| Buffering { size: usize::try_from(size).unwrap_or(usize::MAX), flush, gzip });
    match &mut place {
        Place::File(_, written) | Place::Stderr(written) => *written = buffering,
        _ if buffering.is_none() => {}
        Place::Syslog(_) => return Err(Problem::new("logs to syslog cannot be buffered").at(0)),
        Place::Path(_) => return Err(Problem::new("buffered logs cannot have variables in name").at(0)),
    }
    logs.push(Written::Log { place, format: Bytes::copy_from_slice(format), filter });
    Ok(())
}

fn place(word: &[u8], args: &mut Args<'_>) -> Result<Place, Problem> {
    if let Some(parameters) = word.strip_prefix(b"syslog:") {
        return Ok(Place::Syslog(syslog::read(parameters, args).map_err(|problem| problem.at(0))?));
    }
    if word.contains(&b'$') {
        let path = args.env.full_name(word);
        return Ok(Place::Path(Value::read(path.as_os_str().as_bytes(), args)?));
    }
    if word.is_empty() {
        return Ok(Place::Stderr(None));
    }
    let path = args.env.full_name(word);
    args.env.log_files.push(path.clone());
    Ok(Place::File(path, None))
}

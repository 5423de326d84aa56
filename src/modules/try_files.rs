//! `try_files`: <https://nginx.org/en/docs/http/ngx_http_core_module.html#try_files>

use bytes::Bytes;
use nix::errno::Errno;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Diag, Directive, Field, Local, Problem, on, units};
use crate::http::core::Alias;
use crate::http::{Flow, Request, Target, Value, disk, uri};
use crate::net::Level;

/// `ngx_http_try_files_module`.
pub struct Module;

/// What to look for, and what comes when nothing is found.
#[derive(Clone, Default)]
pub struct Conf {
    tries: Local<Option<Tries>>,
}

/// A `try_files`.
#[derive(Clone)]
pub struct Tries {
    /// Paths below the root, and whether each must be a directory.
    paths: Vec<(Value, bool)>,
    last: Last,
}

#[derive(Clone)]
enum Last {
    Code(u16),
    Uri(Value),
}

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Option<Tries>;
    const PHASES: Phases = Phases::PRECONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] =
        &[on("try_files", Contexts(Contexts::SERVER.0 | Contexts::LOCATION.0), 2..=255, try_files)];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Option<Tries>, Diag> {
        Ok(conf.tries.0)
    }

    async fn precontent(tries: &Option<Tries>, request: &mut Request) -> Flow {
        match tries {
            Some(tries) => tries.run(request),
            None => Flow::Next,
        }
    }
}

fn try_files(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let words: Vec<&[u8]> = args.words().collect();
    let Some((last, words)) = words.split_last() else { return Ok(()) };
    let mut paths = Vec::with_capacity(words.len());
    for word in words {
        let (path, directory) = word.strip_suffix(b"/").map_or((*word, false), |path| (path, true));
        paths.push((Value::read(path, args)?, directory));
    }
    let last = match last.strip_prefix(b"=") {
        Some(code) => {
            let invalid = || Problem::new(format!("invalid code \"{}\"", text(last))).at(words.len());
            let code = units::number(code).and_then(|code| u16::try_from(code).ok());
            Last::Code(code.filter(|code| *code <= 999).ok_or_else(invalid)?)
        }
        None => Last::Uri(Value::read(last, args)?),
    };
    conf.tries.0 = Some(Tries { paths, last });
    Ok(())
}

impl Tries {
    fn run(&self, request: &mut Request) -> Flow {
        // What is tried hangs under the root, or under what an alias stands for, whatever the URI is.
        if let Err(flow) = request.check_alias() {
            return flow;
        }
        let root = request.core().document_root(request);
        for (value, directory) in &self.paths {
            let name = below(value, request);
            let path = [root.as_slice(), &name].concat();
            match disk::stat(request, &path) {
                Ok(found) if found.is_dir() == *directory => {
                    take(request, name, *directory);
                    return Flow::Next;
                }
                Ok(_) => {}
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                    Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => {}
                    _ => disk::log(request, Level::Crit, "stat()", &path, &error),
                },
            }
        }
        match &self.last {
            Last::Code(code) => Flow::Fail(*code),
            Last::Uri(value) => {
                let target = below(value, request);
                if target.first() == Some(&b'@') {
                    return Flow::Jump(Target::Named(target));
                }
                let (path, args) = uri::split_args(&target);
                Flow::Jump(Target::Uri { uri: path.to_vec(), args: Some(args.to_vec()) })
            }
        }
    }
}

/// The value without the part that an alias stands for; what was written without variables is left alone.
fn below(value: &Value, request: &Request) -> Bytes {
    let name = value.bytes(request);
    match request.core().root.alias {
        Some(Alias::Prefix(len)) if value.as_literal().is_none() => {
            let prefix = request.uri.get(..len).unwrap_or(&request.uri);
            if name.starts_with(prefix) { name.slice(prefix.len()..) } else { name }
        }
        _ => name,
    }
}

/// Makes a path that was found the request's.
fn take(request: &mut Request, name: Bytes, directory: bool) {
    match request.core().root.alias {
        None => request.uri = name,
        Some(Alias::Prefix(len)) => {
            let prefix = request.uri.get(..len).unwrap_or(&request.uri);
            request.uri = [prefix, &name].concat().into();
        }
        Some(Alias::Whole) if directory => {}
        Some(Alias::Whole) => {
            request.uri = name;
            request.uri_after_alias = true;
        }
    }
}

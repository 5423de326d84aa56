//! Index files: <https://nginx.org/en/docs/http/ngx_http_index_module.html>

use std::io;

use nix::errno::Errno;

use super::{Phases, Seal};
use crate::conf::{Args, Contexts, Diag, Directive, Field, List, Problem, many};
use crate::http::disk;
use crate::http::{Flow, Method, Request, Target, Value};
use crate::net::Level;

/// `ngx_http_index_module`.
pub struct Module;

/// The names to try, in order.
#[derive(Clone, Default)]
pub struct Conf {
    names: List<Value>,
}

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = List<Value>;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[many("index", Contexts::SCOPES, 1..=255, index)];

    fn seal(mut conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<List<Value>, Diag> {
        if conf.names.is_empty() {
            conf.names.push(Value::literal("index.html"));
        }
        Ok(conf.names)
    }

    async fn content(names: &List<Value>, request: &mut Request) -> Flow {
        let asked = matches!(request.method, Method::Get | Method::Head | Method::Post);
        if asked && request.uri.last() == Some(&b'/') { find(names, request) } else { Flow::Next }
    }
}

fn index(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    while let Some(word) = args.take() {
        if word.is_empty() {
            return Err(Problem::new("index \"\" in \"index\" directive is invalid").at(args.last_index()));
        }
        if word.first() == Some(&b'/') && args.last_index() + 1 < args.len() {
            args.warn("only the last index in \"index\" directive should be absolute");
        }
        conf.names.push(Value::read(word, args)?);
    }
    Ok(())
}

fn find(names: &[Value], request: &Request) -> Flow {
    let (mut directory, mut directory_seen) = (None, false);
    for name in names {
        let name = name.get(request);
        if name.first() == Some(&b'/') {
            return jump(name.to_vec(), request);
        }
        let directory = match &directory {
            Some(directory) => directory,
            None => match request.path() {
                Ok(path) => directory.insert(path),
                Err(flow) => return flow,
            },
        };
        let path = [directory.as_slice(), &name].concat();
        let Err(error) = disk::stat(request, &path) else {
            return jump([&request.uri[..], &name].concat(), request);
        };
        let kind = errno(&error);
        if matches!(kind, Errno::ELOOP | Errno::EMLINK) {
            return Flow::Fail(403);
        }
        if matches!(kind, Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::EACCES) {
            return refuse(request, &path, &error);
        }
        if !directory_seen && let Err(flow) = test(directory, &path, request) {
            return flow;
        }
        directory_seen = true;
        if kind != Errno::ENOENT {
            disk::log(request, Level::Crit, "stat()", &path, &error);
            return Flow::Fail(500);
        }
    }
    Flow::Next
}

fn jump(uri: Vec<u8>, request: &Request) -> Flow {
    Flow::Jump(Target::Uri { uri, args: request.args() })
}

/// Tells a directory that lacks an index from none at all; `path` is the file that was not found in it.
fn test(directory: &[u8], path: &[u8], request: &Request) -> Result<(), Flow> {
    let bare = directory.strip_suffix(b"/").filter(|bare| !bare.is_empty()).unwrap_or(directory);
    match disk::stat(request, bare) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            request.log(Level::Alert, &format!("\"{}\" is not a directory", String::from_utf8_lossy(path)));
            Err(Flow::Fail(500))
        }
        Err(error) => match errno(&error) {
            Errno::ENOENT => Err(refuse(request, path, &error)),
            Errno::EACCES => Ok(()),
            Errno::ELOOP | Errno::EMLINK => Err(Flow::Fail(403)),
            _ => {
                disk::log(request, Level::Crit, "stat()", bare, &error);
                Err(Flow::Fail(500))
            }
        },
    }
}

fn refuse(request: &Request, path: &[u8], error: &io::Error) -> Flow {
    let (verb, status) = if errno(error) == Errno::EACCES { ("forbidden", 403) } else { ("not found", 404) };
    if status != 404 || request.core().log_not_found {
        let (path, reason) = (String::from_utf8_lossy(path), crate::conf::load::os_error(error));
        request.log(Level::Error, &format!("\"{path}\" is {verb} ({reason})"));
    }
    Flow::Fail(status)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

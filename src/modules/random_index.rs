//! A random file of a directory: <https://nginx.org/en/docs/http/ngx_http_random_index_module.html>

use std::os::unix::ffi::OsStrExt;

use super::{Phases, Seal};
use crate::conf::{Contexts, Diag, Directive, on};
use crate::http::{Flow, Method, Request, Target, disk};
use crate::net::{Level, clock};

/// `ngx_http_random_index_module`.
pub struct Module;

impl super::Module for Module {
    type Conf = bool;
    type Main = ();
    type Loc = bool;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<bool>] =
        &[on("random_index", Contexts::LOCATION, 1..=1, |c, a| a.set(c))];

    fn seal(conf: bool, (): &(), _: &mut Seal<'_>) -> Result<bool, Diag> {
        Ok(conf)
    }

    async fn content(on: &bool, request: &mut Request) -> Flow {
        let asked = *on && matches!(request.method, Method::Get | Method::Head | Method::Post);
        if !asked || request.uri.last() != Some(&b'/') {
            return Flow::Next;
        }
        let path = match request.path() {
            Ok(path) => path,
            Err(flow) => return flow,
        };
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        let names = match names(path) {
            Ok(names) => names,
            Err(("opendir()", error)) => return disk::failed(request, "opendir()", path, &error),
            Err((call, error)) => {
                disk::log(request, Level::Crit, call, path, &error);
                return Flow::Fail(500);
            }
        };
        let chosen = usize::try_from(clock::random()).unwrap_or_default().checked_rem(names.len());
        match chosen.and_then(|chosen| names.get(chosen)) {
            Some(name) => {
                Flow::Jump(Target::Uri { uri: [&request.uri[..], name].concat(), args: request.args() })
            }
            None => Flow::Next,
        }
    }
}

/// The regular files of a directory, without hidden ones.
fn names(path: &[u8]) -> Result<Vec<Vec<u8>>, (&'static str, std::io::Error)> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(disk::as_path(path)).map_err(|error| ("opendir()", error))? {
        let item = item.map_err(|error| ("readdir()", error))?;
        let name = item.file_name().as_bytes().to_vec();
        if name.first() == Some(&b'.') {
            continue;
        }
        let kind = item.file_type().map_err(|error| ("stat()", error))?;
        if kind.is_file() || kind.is_symlink() && item.path().is_file() {
            names.push(name);
        }
    }
    Ok(names)
}

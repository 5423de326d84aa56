//! Listings of directories: <https://nginx.org/en/docs/http/ngx_http_autoindex_module.html>

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use nix::errno::Errno;

use super::{Phases, Seal};
use crate::conf::field::one_of;
use crate::conf::{Contexts, Diag, Directive, on};
use crate::http::{Body, Flow, Method, Request, Response, Value, disk, uri};
use crate::net::Level;

mod write;

/// `ngx_http_autoindex_module`.
pub struct Module;

/// Whether and how directories are listed.
#[derive(Clone)]
pub struct Conf {
    on: bool,
    format: Format,
    local_time: bool,
    exact_size: bool,
}

impl Default for Conf {
    fn default() -> Self {
        Self { on: false, format: Format::Html, local_time: false, exact_size: true }
    }
}

#[derive(Clone, Copy)]
enum Format {
    Html,
    Json,
    Jsonp,
    Xml,
}

/// What a directory holds.
struct Entry {
    name: Vec<u8>,
    kind: Kind,
    /// Seconds since 1970.
    modified: i64,
    /// Bytes.
    size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Directory,
    File,
    Other,
}

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = (Conf, Option<Value>);
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("autoindex", Contexts::SCOPES, 1..=1, |c, a| a.set(&mut c.on)),
        on("autoindex_format", Contexts::SCOPES, 1..=1, |c, a| {
            let formats =
                [("html", Format::Html), ("json", Format::Json), ("jsonp", Format::Jsonp), ("xml", Format::Xml)];
            c.format = one_of(a.word(0), &formats).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        on("autoindex_localtime", Contexts::SCOPES, 1..=1, |c, a| a.set(&mut c.local_time)),
        on("autoindex_exact_size", Contexts::SCOPES, 1..=1, |c, a| a.set(&mut c.exact_size)),
    ];

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Self::Loc, Diag> {
        Ok((conf, cx.charset.clone()))
    }

    async fn content((conf, charset): &Self::Loc, request: &mut Request) -> Flow {
        let asked = conf.on && matches!(request.method, Method::Get | Method::Head);
        if !asked || request.uri.last() != Some(&b'/') {
            return Flow::Next;
        }
        let utf8 = charset.as_ref().is_some_and(|charset| charset.get(request).eq_ignore_ascii_case(b"utf-8"));
        list(conf, utf8, request).unwrap_or_else(|flow| flow)
    }
}

fn list(conf: &Conf, utf8: bool, request: &Request) -> Result<Flow, Flow> {
    let mut path = request.path()?;
    if path.len() > 1 {
        path.pop();
    }
    let callback = match conf.format {
        Format::Jsonp => callback(request)?,
        _ => &[],
    };
    let mut entries = read(request, &path)?;
    entries.sort_by(|a, b| {
        let files_last = |entry: &Entry| entry.kind != Kind::Directory;
        (files_last(a), &a.name).cmp(&(files_last(b), &b.name))
    });
    let (kind, body) = match conf.format {
        Format::Html => ("text/html", write::html(&request.uri, &entries, conf, utf8)),
        Format::Xml => ("text/xml", write::xml(&entries)),
        Format::Jsonp if !callback.is_empty() => ("application/javascript", write::jsonp(&entries, callback)),
        Format::Json | Format::Jsonp => ("application/json", write::json(&entries)),
    };
    let mut response = Response::new(200);
    response.head.content_type = Some(Bytes::from_static(kind.as_bytes()));
    if matches!(conf.format, Format::Xml) {
        response.head.charset = Some(Bytes::from_static(b"utf-8"));
    }
    response.body = Body::Full(body.into());
    Ok(Flow::Respond(Box::new(response)))
}

/// The function that wraps a listing in JSONP.
fn callback(request: &Request) -> Result<&[u8], Flow> {
    let name = uri::arg(&request.args, b"callback").unwrap_or_default();
    let problem = if name.len() > 128 {
        "too long"
    } else if name.iter().any(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))) {
        "invalid"
    } else {
        return Ok(name);
    };
    let text = String::from_utf8_lossy(name);
    request.log(Level::Info, &format!("client sent {problem} callback name: \"{text}\""));
    Err(Flow::Fail(400))
}

fn read(request: &Request, path: &[u8]) -> Result<Vec<Entry>, Flow> {
    let directory =
        std::fs::read_dir(disk::as_path(path)).map_err(|error| disk::failed(request, "opendir()", path, &error))?;
    let mut entries = Vec::new();
    for item in directory {
        let item = item.map_err(|error| {
            disk::log(request, Level::Crit, "readdir()", path, &error);
            Flow::Fail(500)
        })?;
        let name = item.file_name().as_bytes().to_vec();
        if name.first() == Some(&b'.') {
            continue;
        }
        let file = [path, b"/", &name].concat();
        match follow(&file) {
            Ok(found) => entries.push(Entry::new(name, &found)),
            Err((call, error)) => {
                disk::log(request, Level::Crit, call, &file, &error);
                if error.raw_os_error() != Some(Errno::EACCES as i32) {
                    return Err(Flow::Fail(500));
                }
            }
        }
    }
    Ok(entries)
}

/// What a name leads to; a link that leads nowhere is itself.
fn follow(file: &[u8]) -> Result<Metadata, (&'static str, io::Error)> {
    match std::fs::metadata(disk::as_path(file)) {
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ELOOP) => {
                std::fs::symlink_metadata(OsStr::from_bytes(file)).map_err(|error| ("lstat()", error))
            }
            _ => Err(("stat()", error)),
        },
        Ok(found) => Ok(found),
    }
}

impl Entry {
    fn new(name: Vec<u8>, found: &Metadata) -> Self {
        let kind = if found.is_dir() {
            Kind::Directory
        } else if found.is_file() {
            Kind::File
        } else {
            Kind::Other
        };
        Self { name, kind, modified: found.mtime(), size: found.len() }
    }
}

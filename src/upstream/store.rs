//! Responses that are kept as files: <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_store>

use std::fs::{self, DirBuilder, File, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::shared::Limits;
use crate::conf::args::text;
use crate::conf::load::os_error;
use crate::conf::{Args, Field, Problem};
use crate::http::attempts::Attempts;
use crate::http::disk::as_path;
use crate::http::pieces::Pieces;
use crate::http::temp::{Naming, TempFile};
use crate::http::{Body, Chunk, Fault, Headers, Known, Request, Source, Value};
use crate::net::{Level, clock};

/// `*_store` and `*_store_access`.
#[derive(Clone, Debug)]
pub struct Store {
    place: Place,
    /// The rights of files; directories can be entered besides by whoever may read them.
    access: u32,
}

#[derive(Clone, Debug, Default)]
enum Place {
    #[default]
    Off,
    /// Where the request's own file would be.
    On,
    Path(Value),
}

impl Default for Store {
    fn default() -> Self {
        Self { place: Place::Off, access: 0o600 }
    }
}

impl Store {
    /// Reads `*_store`.
    pub fn read(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        self.place = match args.word(0) {
            b"off" => Place::Off,
            b"on" => Place::On,
            b"" => return Err(Problem::new("empty path").at(0)),
            path => Place::Path(Value::read(path, args)?),
        };
        Ok(())
    }

    /// Reads `*_store_access`.
    pub fn read_access(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        let (mut access, mut user) = (0, 0o600);
        for (index, word) in args.words().enumerate() {
            let invalid = || Problem::new(format!("invalid value \"{}\"", text(word))).at(index);
            let colon = word.iter().position(|&b| b == b':').ok_or_else(invalid)?;
            let (who, rights) = word.split_at_checked(colon + 1).ok_or_else(invalid)?;
            let rights = match rights {
                b"rw" => 6,
                b"r" => 4,
                _ => return Err(invalid()),
            };
            access |= match who {
                b"user:" => {
                    user = 0;
                    rights << 6
                }
                b"group:" => rights << 3,
                b"all:" => rights,
                _ => return Err(invalid()),
            };
        }
        self.access = access | user;
        Ok(())
    }

    /// Whether responses are kept.
    pub fn is_on(&self) -> bool {
        !matches!(self.place, Place::Off)
    }

    /// The same body, kept in a file as well once it was whole.
    pub fn keep(&self, body: Body, headers: &Headers, limits: &Limits, request: &Request) -> Body {
        let path = match &self.place {
            Place::Off => return body,
            Place::On => as_path(&request.filename()).to_owned(),
            Place::Path(path) => as_path(&path.get(request)).to_owned(),
        };
        let temp = match TempFile::new(&limits.directory, Naming::Request) {
            Ok(temp) => temp,
            Err(error) => {
                let directory = limits.directory.path.display();
                request.log(Level::Crit, &format!("open() \"{directory}\" failed ({})", os_error(&error)));
                return body;
            }
        };
        let modified = headers.get(Known::LastModified).and_then(clock::parse);
        let body = Pieces::new(body);
        let attempts = Rc::clone(&request.upstream.attempts);
        Body::Stream(Box::new(Kept {
            body,
            temp: Some(temp),
            path,
            access: self.access,
            modified,
            done: false,
            attempts,
        }))
    }
}

/// A body on its way to the client and into a file.
struct Kept {
    body: Pieces,
    temp: Option<TempFile>,
    path: PathBuf,
    access: u32,
    modified: Option<i64>,
    done: bool,
    attempts: Rc<Attempts>,
}

impl Source for Kept {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Fault>>> {
        let next = ready!(self.body.poll_chunk(cx));
        let kept = match &next {
            Some(Ok(Chunk::Data(bytes))) => self.write(bytes),
            None if !std::mem::replace(&mut self.done, true) => self.finish(),
            Some(Err(_)) => {
                self.temp = None;
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = kept {
            // The client still gets all of it.
            self.temp = None;
            let text =
                format!("storing \"{}\" failed ({}) while reading upstream", self.path.display(), os_error(&error));
            self.attempts.note(Level::Crit, text);
        }
        Poll::Ready(next)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, queued: usize) {
        self.body.poll_ahead(cx, queued);
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}

impl Kept {
    fn write(&mut self, bytes: &Bytes) -> io::Result<()> {
        self.temp.as_ref().map_or(Ok(()), |temp| (&*temp.file).write_all(bytes))
    }

    /// Gives the file its rights, its time and its name.
    fn finish(&mut self) -> io::Result<()> {
        let Some(temp) = self.temp.take().filter(|_| !self.path.as_os_str().is_empty()) else { return Ok(()) };
        prepare(&temp.file, self.access, self.modified)?;
        if let Some(parent) = self.path.parent() {
            // Who may read a directory may enter it.
            let mode = self.access | (self.access & 0o444) >> 2;
            DirBuilder::new().recursive(true).mode(mode | 0o700).create(parent)?;
        }
        match fs::rename(&temp.made, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy(&temp.made),
            renamed => renamed,
        }
    }

    /// Moves the file to another file system: whole under another name first.
    fn copy(&self, from: &Path) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(format!(".{:010}", clock::random() % 10_000_000_000));
        fs::copy(from, &beside)?;
        prepare(&File::options().write(true).open(&beside)?, self.access, self.modified)?;
        fs::rename(&beside, &self.path)
    }
}

fn prepare(file: &File, access: u32, modified: Option<i64>) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(access))?;
    match modified.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(seconds))),
        None => Ok(()),
    }
}

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

/// What failed, and why.
type Failure = (String, io::Error);

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
        if let Err((what, error)) = kept {
            // The client still gets all of it.
            self.temp = None;
            self.attempts.note(Level::Crit, format!("{what} failed ({}) while reading upstream", os_error(&error)));
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
    fn write(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        let Some(temp) = &self.temp else { return Ok(()) };
        (&*temp.file).write_all(bytes).map_err(|error| (format!("write() \"{}\"", temp.made.display()), error))
    }

    /// Gives the file its rights, its time and its name.
    fn finish(&mut self) -> Result<(), Failure> {
        let Some(temp) = self.temp.take().filter(|_| !self.path.as_os_str().is_empty()) else { return Ok(()) };
        let (from, to) = (temp.made.as_path(), self.path.as_path());
        prepare(&temp.file, self.access, self.modified)
            .map_err(|error| (format!("chmod() \"{}\"", from.display()), error))?;
        let moved = match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_directories().map_err(|(at, error)| (format!("mkdir() \"{}\"", at.display()), error))?;
                fs::rename(from, to)
            }
            moved => moved,
        };
        let moved = match moved {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy(from),
            moved => moved,
        };
        moved.map_err(|error| (format!("rename() \"{}\" to \"{}\"", from.display(), to.display()), error))
    }

    /// Makes the directories above the file. As in nginx, one that may not be made is no failure before there is nothing to
    /// make the next one in.
    fn make_directories(&self) -> Result<(), (&Path, io::Error)> {
        // Who may read a directory may enter it.
        let mode = self.access | (self.access & 0o444) >> 2 | 0o700;
        let mut refused = None;
        let above: Vec<&Path> = self.path.ancestors().skip(1).filter(|at| at.parent().is_some()).collect();
        for at in above.into_iter().rev() {
            match DirBuilder::new().mode(mode).create(at) {
                Ok(()) => refused = None,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refused = None,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
                Err(error) => return Err((at, error)),
            }
        }
        refused.map_or(Ok(()), |error| Err((self.path.as_path(), error)))
    }

    /// Moves the file to another file system: whole under another name first.
    fn copy(&self, from: &Path) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(format!(".{:010}", clock::random() % 10_000_000_000));
        let copied = File::create_new(&beside).and_then(|mut file| {
            io::copy(&mut File::open(from)?, &mut file)?;
            prepare(&file, self.access, self.modified)?;
            fs::rename(&beside, &self.path)
        });
        if copied.is_err() {
            // Nothing else can be done about it.
            let _ = fs::remove_file(&beside);
        }
        copied
    }
}

fn prepare(file: &File, access: u32, modified: Option<i64>) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(access))?;
    match modified.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(seconds))),
        None => Ok(()),
    }
}

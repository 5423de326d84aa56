//! What master and worker say to one another, as bytes: numbers and byte strings, each string behind its length.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::conf::files::Snapshot;
use crate::net::addr::Endpoint;

/// Everything a worker compiles from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The configuration file.
    pub file: PathBuf,
    /// The prefix of relative paths.
    pub prefix: PathBuf,
    /// Directives of the command line.
    pub globals: String,
    /// The error log where the configuration names none; none is standard error.
    pub error_log: Option<PathBuf>,
    /// The directory of temporary files, where it is not the prefix.
    pub temp: Option<PathBuf>,
    /// What the master read.
    pub snapshot: Arc<Snapshot>,
}

/// A listening socket: its address, and which of that address's sockets it is.
pub type Slot = (Endpoint, usize);

/// What the master wants. Descriptors go with it, in the order of the lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Compile and serve.
    Serve {
        /// What to compile.
        plan: Plan,
        /// How many threads.
        threads: usize,
        /// All sockets to listen on; a descriptor comes with those that are marked.
        sockets: Vec<(Slot, bool)>,
        /// Log files, each with a descriptor.
        logs: Vec<PathBuf>,
    },
    /// Write these logs to new files from now on.
    Reopen(Vec<PathBuf>),
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It serves what was ordered last.
    Serving,
    /// It cannot, and goes on as before.
    Failed(String),
}

impl Order {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Order::Serve { plan, threads, sockets, logs } => {
                out.number(1);
                out.plan(plan);
                out.number(*threads);
                out.list(sockets, |out, ((at, number), sent)| {
                    out.endpoint(at);
                    out.number(*number);
                    out.number(usize::from(*sent));
                });
                out.list(logs, |out, path| out.path(path));
            }
            Order::Reopen(logs) => {
                out.number(2);
                out.list(logs, |out, path| out.path(path));
            }
        }
        out.0
    }

    /// From bytes; none if they are none of [`Order::encode`]'s.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader(bytes);
        match input.number()? {
            1 => Some(Order::Serve {
                plan: input.plan()?,
                threads: input.number()?,
                sockets: input.list(|input| {
                    let slot = (input.endpoint()?, input.number()?);
                    Some((slot, input.number()? == 1))
                })?,
                logs: input.list(Reader::path)?,
            }),
            2 => Some(Order::Reopen(input.list(Reader::path)?)),
            _ => None,
        }
    }
}

impl Answer {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Serving => Vec::new(),
            Answer::Failed(why) => [b"!", why.as_bytes()].concat(),
        }
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            None => Answer::Serving,
            Some((_, why)) => Answer::Failed(String::from_utf8_lossy(why).into_owned()),
        }
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, n: usize) {
        self.0.extend_from_slice(&(n as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>, put: impl Fn(&mut Self, T)) {
        let items = items.into_iter();
        self.number(items.len());
        items.for_each(|item| put(self, item));
    }

    fn endpoint(&mut self, at: &Endpoint) {
        match at {
            Endpoint::Inet(addr) => self.bytes(addr.to_string().as_bytes()),
            Endpoint::Unix(path) => self.bytes(&[b"unix:", path.as_os_str().as_bytes()].concat()),
        }
    }

    fn plan(&mut self, plan: &Plan) {
        self.path(&plan.file);
        self.path(&plan.prefix);
        self.bytes(plan.globals.as_bytes());
        self.list(plan.error_log.as_slice(), |out, path| out.path(path));
        self.list(plan.temp.as_slice(), |out, path| out.path(path));
        self.list(&plan.snapshot.read, |out, (path, read)| {
            out.path(path);
            out.number(read.as_ref().map_or_else(|&code| usize::try_from(code).unwrap_or(1), |_| 0));
            out.bytes(read.as_deref().unwrap_or_default());
        });
        self.list(&plan.snapshot.globs, |out, (pattern, paths)| {
            out.path(pattern);
            out.list(paths, |out, path| out.path(path));
        });
        self.list(&plan.snapshot.names, |out, (name, found)| {
            out.bytes(name.as_bytes());
            out.list(found.as_slice(), |out, list| {
                out.list(list, |out, addr| out.bytes(addr.to_string().as_bytes()));
            });
        });
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u64::from_le_bytes(*number)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(OsString::from_vec(self.bytes()?.to_vec()).into())
    }

    fn list<T, L: FromIterator<T>>(&mut self, mut take: impl FnMut(&mut Self) -> Option<T>) -> Option<L> {
        (0..self.number()?).map(|_| take(self)).collect()
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        let bytes = self.bytes()?;
        match bytes.strip_prefix(b"unix:") {
            Some(path) => Some(Endpoint::Unix(OsString::from_vec(path.to_vec()).into())),
            None => std::str::from_utf8(bytes).ok()?.parse().ok().map(Endpoint::Inet),
        }
    }

    fn plan(&mut self) -> Option<Plan> {
        let (file, prefix, globals) = (self.path()?, self.path()?, self.text()?.to_owned());
        let (error_log, temp): (Vec<PathBuf>, Vec<PathBuf>) = (self.list(Self::path)?, self.list(Self::path)?);
        let read: HashMap<_, _> = self.list(|input| {
            let (path, code, bytes) = (input.path()?, i32::try_from(input.number()?).ok()?, input.bytes()?);
            Some((path, if code == 0 { Ok(Arc::from(bytes)) } else { Err(code) }))
        })?;
        let globs = self.list(|input| Some((input.path()?, input.list(Self::path)?)))?;
        let names = self.list(|input| {
            let name = input.text()?.to_owned();
            let found: Vec<Vec<IpAddr>> = input.list(|input| input.list(|input| input.text()?.parse().ok()))?;
            Some((name, found.into_iter().next()))
        })?;
        let snapshot = Arc::new(Snapshot { read, globs, names });
        let (error_log, temp) = (error_log.into_iter().next(), temp.into_iter().next());
        Some(Plan { file, prefix, globals, error_log, temp, snapshot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_out_as_they_went_in() {
        let snapshot = Snapshot {
            read: [("/a".into(), Ok(Arc::from(&b"text"[..]))), ("/b".into(), Err(13))].into(),
            globs: [("/x/*".into(), vec!["/x/1".into(), "/x/2".into()])].into(),
            names: [("a.test".into(), Some(vec![[127, 0, 0, 1].into()])), ("b.test".into(), None)].into(),
        };
        let plan = Plan {
            file: "/etc/nginx/nginx.conf".into(),
            prefix: "/usr/share/nginx/".into(),
            globals: "daemon off;".into(),
            error_log: Some("/var/log/nginx/error.log".into()),
            temp: None,
            snapshot: Arc::new(snapshot),
        };
        let inet = (Endpoint::Inet(([127, 0, 0, 1], 80).into()), 1);
        let unix = (Endpoint::Unix("/run/x".into()), 0);
        let order =
            Order::Serve { plan, threads: 2, sockets: vec![(inet, true), (unix, false)], logs: vec!["/l".into()] };
        assert_eq!(Order::decode(&order.encode()), Some(order));
        let reopen = Order::Reopen(vec!["/l".into()]);
        assert_eq!(Order::decode(&reopen.encode()), Some(reopen));
        assert_eq!(Order::decode(b"\x01"), None);
    }

    #[test]
    fn answers_come_out_as_they_went_in() {
        for answer in [Answer::Serving, Answer::Failed("why".into())] {
            assert_eq!(Answer::decode(&answer.encode()), answer);
        }
    }
}

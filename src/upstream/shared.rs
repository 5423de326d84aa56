//! What all upstream protocols read of their settings while they serve.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::Conf;
use crate::conf::field::TempPath;
use crate::conf::hash;
use crate::conf::{Diag, Env};
use crate::http::headers::Known;

/// The settings, and what follows from them.
pub struct Shared {
    /// The settings.
    pub conf: Conf,
    /// The fields of responses that are kept back.
    pub hidden: Arc<Names>,
    /// Whether `Date` and `Server` are among them.
    pub hides: (bool, bool),
    /// Fields of responses that have no effect.
    pub ignored: Names,
    /// What may be held of a response for a client that is slower than its upstream.
    pub limits: Arc<Limits>,
}

/// What may be held of a response.
#[derive(Debug)]
pub struct Limits {
    /// Bytes in memory.
    pub memory: usize,
    /// Bytes in a file; 0 is none.
    pub file: u64,
    /// Bytes that are written to it at a time.
    pub write: usize,
    /// Where the file is made.
    pub directory: TempPath,
}

impl Shared {
    /// Works out the fields that are kept back: those that the protocol hides, and `*_hide_header` but `*_pass_header`.
    /// `protocol` is what its directives begin with; `env` knows where its temporary files are by default.
    pub fn seal(conf: Conf, protocol: &str, hides: &[&str], env: &mut Env) -> Result<Self, Diag> {
        let mut hidden = Names::default();
        hides.iter().for_each(|name| hidden.insert(name.as_bytes()));
        conf.hide_header.iter().for_each(|name| hidden.insert(name));
        conf.pass_header.iter().for_each(|name| hidden.remove(name));
        let mut ignored = Names::default();
        conf.ignore_headers.iter().for_each(|name| ignored.insert(name));
        let mut hash = DefaultHasher::new();
        format!("{conf:?}").hash(&mut hash);
        let conf = Conf { tag: hash.finish(), ..conf };
        let write = check(&conf, protocol, env)?;
        let default = || TempPath { path: env.temp_path(protocol), levels: Vec::new() };
        let directory = conf.temp_path.clone().unwrap_or_else(default);
        env.makes(&directory.path);
        let limits = Limits {
            memory: usize::try_from(conf.buffers.total()).unwrap_or(usize::MAX),
            file: conf.max_temp_file_size,
            write: usize::try_from(write).unwrap_or(usize::MAX),
            directory,
        };
        let hides = (hidden.has(Known::Date, b""), hidden.has(Known::Server, b""));
        Ok(Self { conf, hidden: Arc::new(hidden), hides, ignored, limits: Arc::new(limits) })
    }
}

/// Holds the sizes of buffers against one another, also where nothing is passed on; returns how much is written to a file at
/// a time.
pub fn check(conf: &Conf, protocol: &str, env: &Env) -> Result<u64, Diag> {
    let name = |name: &str| format!("\"{protocol}_{name}\"");
    let fail = |problem: String| Err(env.inherited(problem, conf.sized));
    let (largest, both) = (
        conf.buffer_size.max(conf.buffers.size),
        format!("the maximum of the value of {} and one of the {}", name("buffer_size"), name("buffers")),
    );
    let (busy, write) =
        (conf.busy_buffers_size.unwrap_or(2 * largest), conf.temp_file_write_size.unwrap_or(2 * largest));
    if conf.buffers.number < 2 {
        return fail(format!("there must be at least 2 {}", name("buffers")));
    }
    if busy < largest {
        return fail(format!("{} must be equal to or greater than {both}", name("busy_buffers_size")));
    }
    if busy > conf.buffers.total() - conf.buffers.size {
        let (busy, buffers) = (name("busy_buffers_size"), name("buffers"));
        return fail(format!("{busy} must be less than the size of all {buffers} minus one buffer"));
    }
    if write < largest {
        return fail(format!("{} must be equal to or greater than {both}", name("temp_file_write_size")));
    }
    if conf.max_temp_file_size != 0 && conf.max_temp_file_size < largest {
        let file = name("max_temp_file_size");
        return fail(format!(
            "{file} must be equal to zero to disable temporary files usage or must be equal to or greater than {both}"
        ));
    }
    if protocol != "proxy" {
        let held = hash::Hash::new(512)
            .hold(&format!("{protocol}_hide_headers_hash"), conf.hide_header.iter().map(|name| name.len()));
        held.map_err(|problem| Diag::general(problem, None))?;
    }
    Ok(write)
}

/// A set of field names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: Vec<Known>,
    others: Vec<Vec<u8>>,
}

impl Names {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        match Known::of(name) {
            Known::Other => self.others.push(name.to_ascii_lowercase()),
            known => self.known.push(known),
        }
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) {
        let known = Known::of(name);
        self.known.retain(|other| *other != known || known == Known::Other);
        self.others.retain(|other| !other.eq_ignore_ascii_case(name));
    }

    /// Whether it holds this field.
    pub fn has(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Other => self.others.iter().any(|other| other.eq_ignore_ascii_case(name)),
            known => self.known.contains(&known),
        }
    }
}

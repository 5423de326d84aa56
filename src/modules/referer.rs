//! `valid_referers`: where requests may come from.
//!
//! <https://nginx.org/en/docs/http/ngx_http_referer_module.html>

use std::sync::Arc;

use bytes::Bytes;

use super::Seal;
use crate::conf::args::text;
use crate::conf::hash::Hash;
use crate::conf::{Args, Contexts, Diag, Directive, List, Problem, many, on};
use crate::http::host::Name;
use crate::http::pattern::Pattern;
use crate::http::variable::variable;
use crate::http::wildcard::Wildcard;
use crate::http::{Known, Request, Variable};

/// `ngx_http_referer_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    hosts: List<Host>,
    patterns: List<Arc<Pattern>>,
    none: bool,
    blocked: bool,
    server_names: bool,
    hash: Option<Hash>,
}

/// A host on the list.
#[derive(Clone, Debug)]
struct Host {
    name: Vec<u8>,
    wildcard: Wildcard,
    /// What the path must begin with.
    begins: Bytes,
}

/// What requests read.
#[derive(Default)]
pub struct Loc {
    hosts: Vec<Host>,
    /// Those of `server_name`, which see the host alone.
    names: Vec<Arc<Pattern>>,
    patterns: List<Arc<Pattern>>,
    none: bool,
    blocked: bool,
}

const PLACES: Contexts = Contexts(Contexts::SERVER.0 | Contexts::LOCATION.0);
/// The hash of hosts where nothing is said.
const HASH: Hash = Hash::new(2048);
/// Longest host in bytes.
const HOST: usize = 256;

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Loc;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        many("valid_referers", PLACES, 1..=255, valid),
        on("referer_hash_max_size", PLACES, 1..=1, |c, a| a.set(&mut c.hash.get_or_insert(HASH).max)),
        on("referer_hash_bucket_size", PLACES, 1..=1, |c, a| a.set(&mut c.hash.get_or_insert(HASH).bucket)),
    ];

    const VARIABLES: &'static [Variable<Loc>] = &[variable("invalid_referer", |loc, r, _, out| {
        if !loc.admits(r) {
            out.push(b'1');
        }
        true
    })];

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Loc, Diag> {
        let (mut hosts, mut names) = (conf.hosts.to_vec(), Vec::new());
        for name in cx.server_names.iter().filter(|_| conf.server_names) {
            match name {
                Name::Regex(pattern) => names.push(Arc::clone(pattern)),
                Name::Text(name) => {
                    let host = Host::of(name, b"").map_err(|problem| Diag::general(problem.sentence(""), None))?;
                    hosts.push(host);
                }
            }
        }
        if (conf.none || conf.blocked) && hosts.is_empty() {
            let problem = "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive \
                           without any valid referer";
            return Err(Diag::general(problem, None));
        }
        let held = conf.hash.unwrap_or(HASH).hold("referer_hash", hosts.iter().map(|host: &Host| match host.wildcard {
            Wildcard::None => host.name.len(),
            _ => 0,
        }));
        held.map_err(|problem| Diag::general(problem, None))?;
        Ok(Loc { hosts, names, patterns: conf.patterns, none: conf.none, blocked: conf.blocked })
    }
}

impl Loc {
    fn admits(&self, request: &Request) -> bool {
        if self.hosts.is_empty() && self.names.is_empty() && self.patterns.is_empty() {
            return true;
        }
        let Some(referer) = request.headers.get(Known::Referer) else { return self.none };
        let Some(rest) = behind_scheme(referer) else { return self.blocked };
        let end = rest.iter().position(|b| matches!(b, b'/' | b':')).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        if host.len() > HOST {
            return false;
        }
        let host = host.to_ascii_lowercase();
        if let Some(begins) = self.find(&host) {
            let path = path.iter().position(|&b| b == b'/').and_then(|slash| path.get(slash..)).unwrap_or_default();
            return path.starts_with(begins);
        }
        self.names.iter().any(|pattern| pattern.matches(&host))
            || self.patterns.iter().any(|pattern| pattern.matches(rest))
    }

    /// What the path must begin with for a host that is on the list: an exact name goes before the longest `*.x`, and that
    /// before the longest `x.*`.
    fn find(&self, host: &[u8]) -> Option<&Bytes> {
        let found = self.hosts.iter().filter_map(|known| Some((known.rank(host)?, &known.begins)));
        found.max_by_key(|(rank, _)| *rank).map(|(_, begins)| begins)
    }
}

impl Host {
    fn of(name: &[u8], begins: &[u8]) -> Result<Self, Problem> {
        let wildcard = Wildcard::of(name)?;
        Ok(Self { name: name.to_vec(), wildcard, begins: Bytes::copy_from_slice(begins) })
    }

    /// How well it fits; nothing if it does not.
    fn rank(&self, host: &[u8]) -> Option<(u8, usize)> {
        match &self.wildcard {
            Wildcard::None => (self.name == host).then_some((2, 0)),
            Wildcard::Both(name, _) if name == host => Some((2, 0)),
            Wildcard::Both(_, tail) | Wildcard::Head(tail) => {
                (host.len() > tail.len() && host.ends_with(tail)).then_some((1, tail.len()))
            }
            Wildcard::Tail(head) => (host.len() > head.len() && host.starts_with(head)).then_some((0, head.len())),
        }
    }
}

/// What follows `http://` or `https://`; a referer without them is one that somebody on the way has hidden.
fn behind_scheme(referer: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = referer.split_at_checked(scheme.len())?;
        (referer.len() >= b"http://i.ru".len() && start.eq_ignore_ascii_case(scheme)).then_some(rest)
    })
}

fn valid(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    if !conf.hosts.is_own() {
        conf.hosts.clear();
        (conf.none, conf.blocked, conf.server_names) = (false, false, false);
    }
    for (index, word) in args.words().enumerate() {
        match word {
            b"" => return Err(Problem::new("invalid referer \"\"").at(index)),
            b"none" => conf.none = true,
            b"blocked" => conf.blocked = true,
            b"server_names" => conf.server_names = true,
            b"~" => return Err(Problem::new("empty regex in \"~\"").at(index)),
            [b'~', source @ ..] => {
                let pattern = Pattern::new(source, true).map_err(|error| Problem::new(error.to_string()).at(index))?;
                conf.patterns.push(Arc::new(pattern));
            }
            _ => {
                let (host, path) = word.split_at(word.iter().position(|&b| b == b'/').unwrap_or(word.len()));
                let host = host.to_ascii_lowercase();
                let known = Host::of(&host, path).map_err(|problem| problem.at(index))?;
                if conf.hosts.iter().any(|other| other.name == host) {
                    return Err(Problem::new(format!("conflicting parameter \"{}\"", text(&host))).at(index));
                }
                conf.hosts.push(known);
            }
        }
    }
    Ok(())
}

//! `map`: <https://nginx.org/en/docs/http/ngx_http_map_module.html>

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parser::ast;

use super::Seal;
use crate::conf::args::text;
use crate::conf::hash::Hash;
use crate::conf::names::VarId;
use crate::conf::{Args, Contexts, Diag, Directive, Field, Problem, block, on};
use crate::http::wildcard::Wildcard;
use crate::http::{Computed, Matcher, Request, Value};

/// `ngx_http_map_module`.
pub struct Module;

/// The hash of a map where nothing is said.
const HASH: Hash = Hash::new(2048);

/// The `map` blocks.
#[derive(Default)]
pub struct Main {
    maps: Vec<(VarId, Arc<Map>)>,
    /// The sizes of nginx's hash, which bound the length of a key.
    hash: Option<Hash>,
}

impl super::Module for Module {
    type Conf = ();
    type Main = Main;
    type Loc = ();

    const MAIN_DIRECTIVES: &'static [Directive<Main>] = &[
        block("map", Contexts::HTTP, 2..=2, map),
        on("map_hash_max_size", Contexts::HTTP, 1..=1, |main, args| {
            main.sized()?;
            args.set(&mut main.hash.get_or_insert(HASH).max)
        }),
        on("map_hash_bucket_size", Contexts::HTTP, 1..=1, |main, args| {
            main.sized()?;
            args.set(&mut main.hash.get_or_insert(HASH).bucket)
        }),
    ];

    fn seal((): (), _: &Main, _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }

    fn computed(main: &Main) -> Vec<(VarId, Arc<dyn Computed>)> {
        main.maps.iter().map(|(id, map)| (*id, Arc::clone(map) as Arc<dyn Computed>)).collect()
    }
}

impl Main {
    /// The sizes of the hash must stand before the first map.
    fn sized(&self) -> Result<(), Problem> {
        if self.maps.is_empty() { Ok(()) } else { Err(Problem::tail("is duplicate")) }
    }
}

/// One `map`.
#[derive(Debug, Default)]
struct Map {
    subject: Value,
    hostnames: bool,
    volatile: bool,
    /// In lower case.
    exact: HashMap<Vec<u8>, Value>,
    /// What follows the `*` of `*.example.com`.
    heads: HashMap<Vec<u8>, Value>,
    /// What precedes the `*` of `www.example.*`.
    tails: HashMap<Vec<u8>, Value>,
    patterns: Vec<(Matcher, Value)>,
    default: Option<Value>,
}

impl Computed for Map {
    fn compute(&self, request: &Request) -> Option<Bytes> {
        let mut subject = self.subject.bytes(request);
        if self.hostnames && subject.last() == Some(&b'.') {
            subject.truncate(subject.len() - 1);
        }
        let value = self.find(request, &subject).or(self.default.as_ref());
        Some(value.map_or(Bytes::new(), |value| value.bytes(request)))
    }

    fn volatile(&self) -> bool {
        self.volatile
    }
}

impl Map {
    fn find(&self, request: &Request, subject: &Bytes) -> Option<&Value> {
        let mut key = Cow::Borrowed(&subject[..]);
        if key.iter().any(u8::is_ascii_uppercase) {
            key.to_mut().make_ascii_lowercase();
        }
        if let Some(value) = self.exact.get(&*key) {
            return Some(value);
        }
        let dots = || key.iter().enumerate().filter(|(_, b)| **b == b'.').map(|(at, _)| at);
        if !self.heads.is_empty()
            && let Some(value) = dots().find_map(|at| self.heads.get(key.get(at..)?))
        {
            return Some(value);
        }
        if !self.tails.is_empty() {
            let longest_last = dots().filter_map(|at| self.tails.get(key.get(..=at)?));
            if let Some(value) = longest_last.last() {
                return Some(value);
            }
        }
        let mut patterns = self.patterns.iter().filter(|_| !subject.is_empty());
        patterns.find(|(pattern, _)| pattern.matches(request, subject)).map(|(_, value)| value)
    }

    /// Takes one row of the block; an error carries the argument it is about.
    fn row(&mut self, row: &ast::Directive, args: &mut Args<'_>) -> Result<(), Problem> {
        let name = row.name.text.as_slice();
        let value = match row.args.as_slice() {
            [] if name == b"hostnames" => {
                self.hostnames = true;
                return Ok(());
            }
            [] if name == b"volatile" => {
                self.volatile = true;
                return Ok(());
            }
            [value] => Value::parse(&value.text, &mut args.env.names, Some(value.span)).map_err(|p| p.at(0))?,
            _ => return Err(Problem::new("invalid number of the map parameters")),
        };
        if name == b"default" {
            return match self.default.replace(value) {
                Some(_) => Err(Problem::new("duplicate default map parameter")),
                None => Ok(()),
            };
        }
        if let Some(pattern) = name.strip_prefix(b"~") {
            let (caseless, pattern) = match pattern.strip_prefix(b"*") {
                Some(pattern) => (true, pattern),
                None => (false, pattern),
            };
            self.patterns.push((Matcher::read(pattern, caseless, args)?, value));
            return Ok(());
        }
        self.key(name.strip_prefix(b"\\").unwrap_or(name), value)
    }

    fn key(&mut self, name: &[u8], value: Value) -> Result<(), Problem> {
        let lower = name.to_ascii_lowercase();
        let shown = text(&lower).into_owned();
        let conflict = || Problem::new(format!("conflicting parameter \"{shown}\""));
        let (keys, key) = match if self.hostnames { Wildcard::of(&lower)? } else { Wildcard::None } {
            Wildcard::None => (&mut self.exact, lower),
            Wildcard::Head(key) => (&mut self.heads, key),
            Wildcard::Tail(key) => (&mut self.tails, key),
            Wildcard::Both(host, key) => {
                if self.exact.insert(host, value.clone()).is_some() {
                    return Err(conflict());
                }
                (&mut self.heads, key)
            }
        };
        match keys.insert(key, value) {
            Some(_) => Err(conflict()),
            None => Ok(()),
        }
    }
}

fn map(main: &mut Main, args: &mut Args<'_>) -> Result<(), Problem> {
    let subject = Value::read(args.word(0), args)?;
    let id = args.define(1)?;
    let mut map = Map { subject, ..Map::default() };
    for row in args.rows() {
        if let Err(problem) = map.row(row, args) {
            args.fail(row, problem.arg, problem.sentence("map"));
        }
    }
    let keys = map.exact.keys().map(Vec::len).chain((!map.heads.is_empty() || !map.tails.is_empty()).then_some(0));
    if let Err(problem) = main.hash.unwrap_or(HASH).hold("map_hash", keys) {
        args.env.warnings.push(Diag::general(problem, Some(args.directive().name.span)));
    }
    main.maps.push((id, Arc::new(map)));
    Ok(())
}

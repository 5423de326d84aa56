//! From location blocks to sealed locations and their lookup tables.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{Kind, LocationBlock, ScopeBlock};
use crate::conf::{Diag, Env};
use crate::http::host::Name;
use crate::modules::seal::LogFiles;
use crate::modules::{Conf, Main, Seal};
use crate::table::tree::{Entry, Match};
use crate::table::{Definitions, Location, Locations};
use crate::upstream::Upstreams;

/// What sealing needs on its way through the tree; findings gather in `problems`.
pub struct Sealer<'a> {
    /// What is declared once.
    pub main: &'a Main,
    /// What the configuration shares.
    pub env: &'a mut Env,
    /// Log files.
    pub logs: &'a mut LogFiles,
    /// Caches of TLS sessions.
    pub tls: &'a mut crate::net::tls::Kept,
    /// Upstream groups.
    pub upstreams: &'a mut Upstreams,
    /// The variables.
    pub definitions: Arc<Definitions>,
    /// The names of the server at hand.
    pub server_names: Vec<Name>,
    /// What was found wrong.
    pub problems: Vec<Diag>,
}

/// The locations of one level.
#[derive(Default)]
pub struct Level {
    /// Those that paths find.
    pub locations: Locations<Arc<Location>>,
    /// Those that only names find.
    pub named: HashMap<Bytes, Arc<Location>>,
}

impl Sealer<'_> {
    /// Seals a scope and what is inside it; `name` is the location's, as written.
    pub fn scope(&mut self, scope: ScopeBlock, name: &str) -> Option<(Arc<Location>, Level)> {
        let level = self.level(scope.locations);
        let ifs = scope.ifs.into_iter().map(|conf| self.place(conf, Vec::new(), None, name)).collect::<Vec<_>>();
        let inner = |(methods, inner): (_, Box<ScopeBlock>)| Some((methods, self.scope(*inner, name)?.0));
        let limit_except = scope.limit_except.and_then(inner);
        let location = self.place(scope.conf, ifs.into_iter().flatten().collect(), limit_except, name)?;
        Some((location, level))
    }

    fn place(
        &mut self,
        conf: Conf,
        ifs: Vec<Arc<Location>>,
        limit_except: Option<(Vec<crate::http::Method>, Arc<Location>)>,
        name: &str,
    ) -> Option<Arc<Location>> {
        let mut cx = Seal {
            env: self.env,
            logs: self.logs,
            tls: self.tls,
            upstreams: self.upstreams,
            charset: conf.charset.charset.clone(),
            server_names: &self.server_names,
        };
        match conf.seal(self.main, &mut cx) {
            Ok(loc) => {
                let (name, definitions) = (name.to_owned(), Arc::clone(&self.definitions));
                Some(Arc::new(Location { name, loc, ifs, limit_except, definitions }))
            }
            Err(problem) => {
                // What is inherited is found wrong once in every scope.
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                None
            }
        }
    }

    fn level(&mut self, blocks: Vec<LocationBlock>) -> Level {
        let (mut entries, mut named) = (Vec::new(), HashMap::new());
        for block in blocks {
            let (kind, modifier) = match block.kind {
                Kind::Exact => (Some(Match::Exact), "= "),
                Kind::Prefix => (Some(Match::Prefix), ""),
                Kind::Final => (Some(Match::Final), "^~ "),
                Kind::Regex(pattern) if pattern.caseless() => (Some(Match::Regex(pattern)), "~* "),
                Kind::Regex(pattern) => (Some(Match::Regex(pattern)), "~ "),
                Kind::Named => (None, ""),
            };
            let name = format!("{modifier}{}", String::from_utf8_lossy(&block.name));
            let Some((payload, level)) = self.scope(block.scope, &name) else { continue };
            match kind {
                Some(kind) => entries.push(Entry {
                    kind,
                    auto_redirect: payload.loc.passes() && block.name.ends_with(b"/"),
                    name: block.name.to_vec(),
                    payload,
                    nested: level.locations,
                }),
                None => {
                    named.entry(block.name).or_insert(payload);
                }
            }
        }
        Level { locations: Locations::new(entries), named }
    }
}

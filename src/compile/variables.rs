//! What every variable that a configuration mentions stands for.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::conf::hash::Hash;
use crate::conf::names::{Names, VarId};
use crate::conf::{Diag, Env};
use crate::http::{Computed, Definition};
use crate::modules::rows::VariableRow;
use crate::modules::{self, Main};
use crate::table::Definitions;

/// The rows of all modules by name.
pub struct Rows(HashMap<&'static str, VariableRow>);

impl Rows {
    /// Gathers the rows.
    pub fn new() -> Self {
        Self(modules::variables().into_iter().map(|row| (row.name, row)).collect())
    }

    /// The row of `name`, and what follows its prefix where the row is a family.
    pub fn find(&self, name: &str) -> Option<(&VariableRow, Bytes)> {
        if let Some(row) = self.0.get(name).filter(|_| !name.ends_with('_')) {
            return Some((row, Bytes::new()));
        }
        let mut ends = name.match_indices('_').map(|(at, _)| at + 1);
        ends.find_map(|end| {
            let (prefix, suffix) = name.split_at(end);
            Some((self.0.get(prefix)?, Bytes::copy_from_slice(suffix.as_bytes())))
        })
    }
}

/// The names that directives define although a module has them.
pub fn duplicates(env: &Env) -> Vec<Diag> {
    let rows = Rows::new();
    let taken = |name: &str| rows.find(name).is_some_and(|(row, _)| row.set.is_none() && row.name == name);
    let defined = env.names.all().iter().filter_map(|name| Some((&name.name, name.defined?)));
    let twice = defined.filter(|(name, _)| taken(name));
    twice.map(|(name, at)| Diag::error(format!("the duplicate \"{name}\" variable"), at, at)).collect()
}

/// Defines every name, or says which are unknown.
pub fn define(main: &Main, hash: Hash, env: &mut Env) -> Result<Definitions, Vec<Diag>> {
    let rows = Rows::new();
    let computed: HashMap<VarId, Arc<dyn Computed>> = modules::computed(main).into_iter().collect();
    let (mut definitions, mut problems, mut slots) = (Definitions::default(), Vec::new(), 0u16..);
    let mut doubts = Vec::new();
    for (number, name) in env.names.all().iter().enumerate() {
        let id = VarId(u32::try_from(number).unwrap_or(u32::MAX));
        let mut slot = || slots.next().unwrap_or(u16::MAX);
        let row = rows.find(&name.name);
        let definition = match (computed.get(&id), row) {
            (Some(computed), _) => Definition::Computed(slot(), Arc::clone(computed)),
            (None, Some((row, suffix))) if !name.slot || row.set.is_some() => {
                Definition::Builtin(row.builtin, suffix, row.set)
            }
            _ if name.slot => Definition::Slot(slot(), name.set),
            _ if name.needed => {
                problems.push(unknown(&env.names, &rows, name));
                continue;
            }
            _ => {
                doubts.push((id, unknown(&env.names, &rows, name)));
                Definition::Slot(slot(), false)
            }
        };
        definitions.list.push(definition);
        definitions.names.push(name.name.clone());
    }
    doubts.into_iter().for_each(|(id, doubt)| env.names.doubt(id, doubt));
    if problems.is_empty() {
        let own = env.names.all().iter().filter(|name| name.slot || name.defined.is_some()).map(|name| name.name.len());
        let held = hash.hold("variables_hash", own.chain(rows.0.keys().map(|name| name.len())));
        problems.extend(held.err().map(|problem| Diag::general(problem, None)));
    }
    if problems.is_empty() { Ok(definitions) } else { Err(problems) }
}

fn unknown(names: &Names, rows: &Rows, name: &crate::conf::names::Name) -> Diag {
    let diag = Diag::general(format!("unknown \"{}\" variable", name.name), name.first);
    let known = rows.0.keys().copied().chain(names.all().iter().filter(|n| n.slot).map(|n| n.name.as_str()));
    match super::later::nearest(&name.name, known) {
        Some(near) => diag.note(format!("did you mean ${near}?")),
        None => diag,
    }
}

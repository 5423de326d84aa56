//! The names of variables: who mentions one and who defines it. Names fold case, as in nginx.

use std::collections::HashMap;

use parser::ast::Span;

use super::Diag;

/// A variable's number within one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VarId(pub u32);

/// Every variable that a configuration mentions.
#[derive(Debug, Default)]
pub struct Names {
    ids: HashMap<String, VarId>,
    list: Vec<Name>,
}

/// One variable's name.
#[derive(Clone, Debug)]
pub struct Name {
    /// In lower case.
    pub name: String,
    /// Where it was first mentioned.
    pub first: Option<Span>,
    /// Whether a directive gives it its value (`set`, a named capture), into a slot of the request.
    pub slot: bool,
    /// Whether `set` does: reading it earlier is worth a warning.
    pub set: bool,
    /// The directive that first defined it.
    pub defined: Option<Span>,
    /// Whether it is mentioned where it must be known at once.
    pub needed: bool,
    /// What is wrong with needing it, where nothing defines it.
    pub unknown: Option<Diag>,
}

impl Names {
    /// The number of `name`, which something must define.
    pub fn id(&mut self, name: &str, at: Option<Span>) -> VarId {
        let id = self.mention(name, at);
        if let Some(entry) = self.list.get_mut(id.0 as usize) {
            entry.needed = true;
        }
        id
    }

    /// The number of `name`, which need not be known until a request may read it.
    pub fn mention(&mut self, name: &str, at: Option<Span>) -> VarId {
        let name = name.to_ascii_lowercase();
        if let Some(&id) = self.ids.get(&name) {
            return id;
        }
        let id = VarId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let (slot, set, defined, needed, unknown) = (false, false, None, false, None);
        self.list.push(Name { name: name.clone(), first: at, slot, set, defined, needed, unknown });
        self.ids.insert(name, id);
        id
    }

    /// Marks `name` as one that requests store a value for.
    pub fn slot(&mut self, name: &str, at: Option<Span>) -> VarId {
        let id = self.id(name, at);
        if let Some(entry) = self.list.get_mut(id.0 as usize) {
            entry.slot = true;
            entry.defined = entry.defined.or(at);
        }
        id
    }

    /// Marks `name` as one that `set` stores a value for.
    pub fn set(&mut self, name: &str, at: Option<Span>) -> VarId {
        let id = self.slot(name, at);
        if let Some(entry) = self.list.get_mut(id.0 as usize) {
            entry.set = true;
        }
        id
    }

    /// Notes that the directive ending at `at` defines `name`.
    pub fn define(&mut self, name: &str, at: Span) -> VarId {
        let id = self.id(name, None);
        if let Some(entry) = self.list.get_mut(id.0 as usize) {
            entry.defined = entry.defined.or(Some(at));
        }
        id
    }

    /// What is known of a number.
    pub fn get(&self, id: VarId) -> Option<&Name> {
        self.list.get(id.0 as usize)
    }

    /// Keeps what is wrong with needing a number.
    pub fn doubt(&mut self, id: VarId, unknown: Diag) {
        if let Some(entry) = self.list.get_mut(id.0 as usize) {
            entry.unknown = Some(unknown);
        }
    }

    /// All names, by number.
    pub fn all(&self) -> &[Name] {
        &self.list
    }
}

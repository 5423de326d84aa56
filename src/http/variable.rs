//! Variables: rows of the modules, values that blocks define, and where a request looks them up.
//!
//! <https://nginx.org/en/docs/varindex.html>

use bytes::Bytes;

use super::core::Core;
use super::request::Request;
use crate::conf::names::VarId;

/// Appends a variable's value and says whether it has one. `suffix` is what follows a family's prefix (`$http_…`).
pub type Get<L> = fn(&L, &Request, suffix: &[u8], out: &mut Vec<u8>) -> bool;

/// Gives a variable a value (`set $args …`).
pub type Set = fn(&mut Request, Bytes);

/// A module's variable. A name that ends in `_` is a family.
pub struct Variable<L: 'static> {
    /// Without the `$`.
    pub name: &'static str,
    /// Reads it.
    pub get: Get<L>,
    /// Writes it, where `set` may.
    pub set: Option<Set>,
}

/// A row that can only be read.
pub const fn variable<L>(name: &'static str, get: Get<L>) -> Variable<L> {
    Variable { name, get, set: None }
}

/// Place of a variable among the modules' rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Number of the module.
    pub module: u8,
    /// Number of its row.
    pub row: u16,
}

/// A value that a block defines (`map`, `geo`, `split_clients`).
pub trait Computed: Send + Sync + std::fmt::Debug {
    /// Computes it; `None` is "not found".
    fn compute(&self, request: &Request) -> Option<Bytes>;

    /// Whether it must be computed anew each time (`volatile`).
    fn volatile(&self) -> bool {
        false
    }
}

/// What a variable's number stands for in one configuration.
#[derive(Clone, Debug)]
pub enum Definition {
    /// A module's row, what follows the prefix of a family, and how `set` writes it.
    Builtin(Builtin, Bytes, Option<Set>),
    /// A slot of the request (`set`, named captures), and whether reading it too early is worth a warning.
    Slot(u16, bool),
    /// A computed value, cached in a slot.
    Computed(u16, std::sync::Arc<dyn Computed>),
}

/// The one upward question: what is known at this place of the configuration?
pub trait Scope {
    /// The settings of the core module.
    fn core(&self) -> &Core;
    /// What a variable's number stands for.
    fn definition(&self, id: VarId) -> Option<&Definition>;
    /// The name of a variable, for log lines.
    fn name(&self, id: VarId) -> &str;
    /// Appends the value of a module's variable.
    fn builtin(&self, builtin: Builtin, request: &Request, suffix: &[u8], out: &mut Vec<u8>) -> bool;
}

//! The modules' rows gathered for the compiler, which looks directives and variables up by name.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::{Conf, Main, Module, Setter};
use crate::conf::{Args, Contexts, Directive, Problem, Shape};
use crate::http::Builtin;
use crate::http::variable::Set;
use crate::upstream;

/// What a row sets.
pub enum Sets {
    /// The settings of the scope around.
    Scope(Setter<Conf>),
    /// What is declared once.
    Main(Setter<Main>),
    /// The upstream group around.
    Upstream(fn(&mut upstream::conf::Group, &mut Args<'_>) -> Result<(), Problem>),
}

/// A directive of some module.
pub struct Row {
    /// The module.
    pub module: &'static str,
    /// The directive.
    pub name: Cow<'static, str>,
    /// Where it may stand.
    pub contexts: Contexts,
    /// How many arguments it takes.
    pub args: RangeInclusive<u8>,
    /// How often it may stand there.
    pub shape: Shape,
    /// What it sets.
    pub set: Sets,
}

/// A variable of some module.
pub struct VariableRow {
    /// The module.
    pub module: &'static str,
    /// Where it is found.
    pub builtin: Builtin,
    /// Its name; a family's ends in `_`.
    pub name: &'static str,
    /// How `set` writes it.
    pub set: Option<Set>,
}

impl Row {
    fn of<C>(module: &'static str, name: Cow<'static, str>, row: &Directive<C>, set: Sets) -> Self {
        Self { module, name, contexts: row.contexts, args: row.args.clone(), shape: row.shape, set }
    }
}

/// Adds the rows of module `M`.
pub fn collect<M: Module>(
    rows: &mut Vec<Row>,
    module: &'static str,
    conf: fn(&mut Conf) -> &mut M::Conf,
    main: fn(&mut Main) -> &mut M::Main,
) {
    for row in M::DIRECTIVES {
        let set = Sets::Scope(Box::new(move |c, args| (row.set)(conf(c), args)));
        rows.push(Row::of(module, row.name.into(), row, set));
    }
    for row in M::MAIN_DIRECTIVES {
        let set = Sets::Main(Box::new(move |m, args| (row.set)(main(m), args)));
        rows.push(Row::of(module, row.name.into(), row, set));
    }
    if let Some((prefix, shared, mount)) = M::UPSTREAM {
        for row in shared.iter().copied().flatten() {
            let set = Sets::Scope(Box::new(move |c, args| (row.set)(mount(conf(c)), args)));
            rows.push(Row::of(module, format!("{prefix}{}", row.name).into(), row, set));
        }
    }
}

/// The rows of `upstream { }` blocks.
pub fn upstream_rows() -> impl Iterator<Item = Row> {
    let plain = upstream::conf::GROUP.iter().map(|row| ("upstream", row));
    let methods = upstream::method::ROWS.iter().map(|(module, row)| (*module, row));
    plain.chain(methods).map(|(module, row)| Row::of(module, row.name.into(), row, Sets::Upstream(row.set)))
}

/// Adds the variables of module `M`, whose number `next` is.
pub fn collect_variables<M: Module>(rows: &mut Vec<VariableRow>, module: &'static str, next: &mut u8) {
    let number = *next;
    rows.extend(M::VARIABLES.iter().zip(0..).map(|(row, at)| VariableRow {
        module,
        builtin: Builtin { module: number, row: at },
        name: row.name,
        set: row.set,
    }));
    *next += 1;
}

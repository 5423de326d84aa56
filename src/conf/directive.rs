//! A directive's row: where it may stand, what it takes, and what it sets.

use std::ops::{BitOr, RangeInclusive};

use super::args::Args;
use super::diag::Problem;

/// The blocks a directive may stand in, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts(pub u16);

impl Contexts {
    /// Outside of any block.
    pub const MAIN: Self = Self(1);
    /// `events { }`.
    pub const EVENTS: Self = Self(1 << 1);
    /// `http { }`.
    pub const HTTP: Self = Self(1 << 2);
    /// `server { }`.
    pub const SERVER: Self = Self(1 << 3);
    /// `location { }`.
    pub const LOCATION: Self = Self(1 << 4);
    /// `if` in a server.
    pub const SERVER_IF: Self = Self(1 << 5);
    /// `if` in a location.
    pub const LOCATION_IF: Self = Self(1 << 6);
    /// `limit_except { }`.
    pub const LIMIT_EXCEPT: Self = Self(1 << 7);
    /// `upstream { }`.
    pub const UPSTREAM: Self = Self(1 << 8);
    /// Any block of a subsystem that is not here (`stream`, `mail`).
    pub const ELSEWHERE: Self = Self(1 << 9);
    /// `http`, `server` and `location`.
    pub const SCOPES: Self = Self(1 << 2 | 1 << 3 | 1 << 4);
    /// The same and `if` in a location.
    pub const SCOPES_IF: Self = Self(1 << 2 | 1 << 3 | 1 << 4 | 1 << 6);
    /// `http` and `server`.
    pub const SERVERS: Self = Self(1 << 2 | 1 << 3);

    /// Whether the two share a block.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The contexts in nginx's words, for messages and documents.
    pub fn words(self) -> Vec<&'static str> {
        const WORDS: [&str; 10] = [
            "main",
            "events",
            "http",
            "server",
            "location",
            "if in server",
            "if in location",
            "limit_except",
            "upstream",
            "stream, mail",
        ];
        WORDS.into_iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, word)| word).collect()
    }
}

impl BitOr for Contexts {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A location as its directives see it while it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its prefix, pattern or name; empty outside of locations.
    pub name: bytes::Bytes,
    /// Whether the name is a pattern.
    pub is_regex: bool,
    /// Whether this is an `if` or `limit_except` inside it.
    pub unnamed: bool,
}

/// How often a directive may stand in one block, and whether it opens one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Once; a second one `is duplicate`.
    Once,
    /// As often as wanted.
    Many,
    /// With a block that its own setter reads (`types`, `map`).
    Block,
}

/// Reads a directive's arguments into the settings `C`.
pub type Set<C> = fn(&mut C, &mut Args<'_>) -> Result<(), Problem>;

/// A row of a module's table.
pub struct Directive<C: 'static> {
    /// Its name, or what follows the prefix for shared rows (`_pass_header` is not: `pass_header` under `proxy_`).
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: Contexts,
    /// How many arguments it takes.
    pub args: RangeInclusive<u8>,
    /// How often.
    pub shape: Shape,
    /// What it does.
    pub set: Set<C>,
}

/// A row that may stand once in a block.
pub const fn on<C>(name: &'static str, contexts: Contexts, args: RangeInclusive<u8>, set: Set<C>) -> Directive<C> {
    Directive { name, contexts, args, shape: Shape::Once, set }
}

/// A row whose setter reads a block.
pub const fn block<C>(name: &'static str, contexts: Contexts, args: RangeInclusive<u8>, set: Set<C>) -> Directive<C> {
    Directive { name, contexts, args, shape: Shape::Block, set }
}

/// A row that may stand any number of times.
pub const fn many<C>(name: &'static str, contexts: Contexts, args: RangeInclusive<u8>, set: Set<C>) -> Directive<C> {
    Directive { name, contexts, args, shape: Shape::Many, set }
}

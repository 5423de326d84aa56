//! The language of directives: rows, arguments, inheritance, and the loading of files.

pub mod args;
pub mod diag;
pub mod directive;
pub mod field;
pub mod files;
pub mod hash;
pub mod inherit;
pub mod load;
pub mod names;
pub mod read;
pub mod units;
pub mod zones;

pub use args::{Args, Env};
pub use diag::{Diag, Level, Problem};
pub use directive::{Contexts, Directive, Place, Shape, block, many, on};
pub use field::Field;
pub use inherit::{Bits, List, Local};

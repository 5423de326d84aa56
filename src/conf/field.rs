//! The types of settings: a field's type decides how its argument is read.
//!
//! Sizes, times and flags as <https://nginx.org/en/docs/syntax.html> has them.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::args::{Args, text};
use super::diag::Problem;
use super::units;

/// A type that an argument can be read as.
pub trait Field: Sized {
    /// Reads `word`.
    fn read(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem>;
}

impl Field for bool {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        if word.eq_ignore_ascii_case(b"on") {
            Ok(true)
        } else if word.eq_ignore_ascii_case(b"off") {
            Ok(false)
        } else {
            Err(Problem::new(format!(
                "invalid value \"{}\" in \"%DIRECTIVE%\" directive, it must be \"on\" or \"off\"",
                text(word)
            )))
        }
    }
}

impl Field for u64 {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        units::number(word).ok_or_else(|| Problem::tail("invalid number"))
    }
}

impl Field for Bytes {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        Ok(Bytes::copy_from_slice(word))
    }
}

/// A path below the prefix.
impl Field for PathBuf {
    fn read(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem> {
        Ok(args.env.full_name(word))
    }
}

/// A directory for temporary files, and how many characters of their names, from the end, name directories inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TempPath {
    /// The directory.
    pub path: PathBuf,
    /// One number a level.
    pub levels: Vec<usize>,
}

impl Field for TempPath {
    fn read(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem> {
        let (path, mut levels) = (PathBuf::read(word, args)?, Vec::new());
        while let Some(level) = args.take() {
            let level = units::number(level).filter(|level| (1..=10).contains(level));
            levels.push(
                level.and_then(|level| usize::try_from(level).ok()).ok_or_else(|| Problem::tail("invalid value"))?,
            );
        }
        if levels.iter().sum::<usize>() > 10 {
            return Err(Problem::tail("invalid value"));
        }
        Ok(Self { path, levels })
    }
}

/// Bytes, written with `k` or `m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Field for Size {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        units::size(word).map(Size).ok_or_else(|| Problem::tail("invalid value"))
    }
}

/// Bytes of a file, written with `k`, `m` or `g`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub u64);

impl Field for Offset {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        units::offset(word).map(Offset).ok_or_else(|| Problem::tail("invalid value"))
    }
}

/// Milliseconds resolution, written with `ms` … `y`.
impl Field for Duration {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        units::msec(word).map(Duration::from_millis).ok_or_else(|| Problem::tail("invalid value"))
    }
}

/// Whole seconds, written with `s` … `y`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

impl Field for Seconds {
    fn read(word: &[u8], _: &mut Args<'_>) -> Result<Self, Problem> {
        units::sec(word).map(Seconds).ok_or_else(|| Problem::tail("invalid value"))
    }
}

/// A number and a size, as in `8 4k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// How many.
    pub number: u64,
    /// Bytes each.
    pub size: u64,
}

impl Buffers {
    /// Bytes of all of them.
    pub fn total(self) -> u64 {
        self.number.saturating_mul(self.size)
    }
}

impl Field for Buffers {
    fn read(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem> {
        let invalid = || Problem::tail("invalid value");
        let number = units::number(word).filter(|&n| n > 0).ok_or_else(invalid)?;
        let size = args.take().and_then(units::size).filter(|&n| n > 0).ok_or_else(invalid)?;
        Ok(Self { number, size })
    }
}

impl<T: Field> Field for Option<T> {
    fn read(word: &[u8], args: &mut Args<'_>) -> Result<Self, Problem> {
        T::read(word, args).map(Some)
    }
}

/// Looks `word` up among the values an enumerated directive takes.
pub fn one_of<T: Copy>(word: &[u8], values: &[(&str, T)]) -> Result<T, Problem> {
    values
        .iter()
        .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
        .map(|&(_, value)| value)
        .ok_or_else(|| Problem::new(format!("invalid value \"{}\"", text(word))))
}

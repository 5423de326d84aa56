//! Zones: state that all threads share by name and that outlives a reload (`limit_req_zone` and the like).
//!
//! <https://nginx.org/en/docs/http/ngx_http_limit_req_module.html#limit_req_zone>. A directive declares a zone or mentions one;
//! sealing takes its state, which is the one before where name, use, size and type are the same.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::args::{Args, text};
use super::diag::Problem;
use super::units;

/// nginx's page, which the smallest zone has eight of, in bytes.
pub const PAGE: u64 = 4096;

/// The zones of a configuration and of the one before it.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    here: Vec<(Bytes, Zone)>,
    before: Vec<(Bytes, Zone)>,
}

#[derive(Clone, Debug)]
struct Zone {
    /// The module that uses it.
    module: &'static str,
    /// Bytes; 0 while it was only mentioned.
    size: u64,
    state: Option<Arc<dyn Any + Send + Sync>>,
}

impl Zones {
    /// What a configuration that follows this one starts with.
    pub fn next(&self) -> Self {
        Self { here: Vec::new(), before: self.here.clone() }
    }

    /// Declares a zone of `size` bytes, or mentions one with a size of 0.
    pub fn declare(&mut self, module: &'static str, name: &[u8], size: u64) -> Result<(), Problem> {
        let Some(zone) = find(&mut self.here, name) else {
            self.here.push((Bytes::copy_from_slice(name), Zone { module, size, state: None }));
            return Ok(());
        };
        let name = text(name);
        if zone.module != module {
            let problem = format!("the shared memory zone \"{name}\" is already declared for a different use");
            return Err(Problem::new(problem));
        }
        if zone.size == 0 {
            zone.size = size;
        }
        if size != 0 && size != zone.size {
            let has = zone.size;
            return Err(Problem::new(format!(
                "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {has}"
            )));
        }
        Ok(())
    }

    /// Names that were mentioned and never declared with a size.
    pub fn missing(&self) -> impl Iterator<Item = &Bytes> {
        self.here.iter().filter(|(_, zone)| zone.size == 0).map(|(name, _)| name)
    }

    /// The state of a declared zone: what is there, or what `make` makes for its size in bytes.
    pub fn state<T: Any + Send + Sync>(&mut self, name: &[u8], make: impl FnOnce(u64) -> T) -> Option<Arc<T>> {
        let zone = find(&mut self.here, name)?;
        let before = find(&mut self.before, name).filter(|old| old.module == zone.module && old.size == zone.size);
        let kept = zone.state.clone().or_else(|| before?.state.clone());
        let state = match kept.map(Arc::downcast::<T>) {
            Some(Ok(state)) => state,
            _ => Arc::new(make(zone.size)),
        };
        zone.state = Some(Arc::clone(&state) as Arc<dyn Any + Send + Sync>);
        Some(state)
    }
}

fn find<'a>(zones: &'a mut [(Bytes, Zone)], name: &[u8]) -> Option<&'a mut Zone> {
    zones.iter_mut().find(|(other, _)| other == name).map(|(_, zone)| zone)
}

/// Reads `name:size` of a `zone=` parameter; `word` is the whole parameter, argument `at`.
pub fn sized<'a>(value: &'a [u8], word: &[u8], at: usize) -> Result<(&'a [u8], u64), Problem> {
    let problem = |what: String| Problem::new(what).at(at);
    let invalid = || problem(format!("invalid zone size \"{}\"", text(word)));
    let colon = value.iter().position(|&b| b == b':').ok_or_else(invalid)?;
    let (name, size) = value.split_at_checked(colon).ok_or_else(invalid)?;
    let size = size.get(1..).and_then(units::size).ok_or_else(invalid)?;
    if size < 8 * PAGE {
        return Err(problem(format!("zone \"{}\" is too small", text(word))));
    }
    Ok((name, size))
}

impl Args<'_> {
    /// Declares or mentions (`size` 0) a zone of `module`.
    pub fn zone(&mut self, module: &'static str, name: &[u8], size: u64) -> Result<(), Problem> {
        self.env.zones.declare(module, name, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_outlives_what_it_must() {
        let mut first = Zones::default();
        first.declare("a", b"one", 1 << 20).unwrap();
        let state = first.state(b"one", |size| size).unwrap();
        assert_eq!(*state, 1 << 20);
        assert!(Arc::ptr_eq(&state, &first.state(b"one", |_| 0u64).unwrap()));
        let mut same = first.next();
        same.declare("a", b"one", 0).unwrap();
        assert_eq!(same.missing().count(), 1);
        same.declare("a", b"one", 1 << 20).unwrap();
        assert!(Arc::ptr_eq(&state, &same.state(b"one", |_| 0u64).unwrap()));
        let mut grown = first.next();
        grown.declare("a", b"one", 2 << 20).unwrap();
        assert_eq!(*grown.state(b"one", |size| size).unwrap(), 2 << 20);
        let mut other = first.next();
        other.declare("b", b"one", 1 << 20).unwrap();
        assert_eq!(*other.state(b"one", |_| 7u64).unwrap(), 7);
        assert!(other.declare("a", b"one", 0).is_err());
        assert!(other.declare("b", b"one", 5).is_err());
        assert!(other.state(b"none", |_| 0u64).is_none());
    }
}

//! What happens to a setting when a block opens inside another: `Clone` is inheritance.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A list that is inherited whole; the first mention in a scope starts it afresh (`add_header`, `proxy_set_header`).
#[derive(Debug)]
pub struct List<T> {
    items: Arc<Vec<T>>,
    own: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Arc::default(), own: false }
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self { items: Arc::clone(&self.items), own: false }
    }
}

impl<T: Clone> List<T> {
    /// Adds an entry, dropping what an outer scope said.
    pub fn push(&mut self, item: T) {
        if !self.own {
            self.clear();
        }
        Arc::make_mut(&mut self.items).push(item);
    }

    /// Makes the list this scope's own and empty.
    pub fn clear(&mut self) {
        self.items = Arc::default();
        self.own = true;
    }
}

impl<T> List<T> {
    /// Whether this scope itself mentioned the list.
    pub fn is_own(&self) -> bool {
        self.own
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items
    }
}

/// Flags that are inherited whole; every mention in a scope adds to those before it there.
#[derive(Debug)]
pub struct Bits {
    bits: u32,
    own: bool,
}

impl Clone for Bits {
    fn clone(&self) -> Self {
        Self::new(self.bits)
    }
}

impl Bits {
    /// These flags, of an outer scope.
    pub const fn new(bits: u32) -> Self {
        Self { bits, own: false }
    }

    /// The flags.
    pub const fn get(&self) -> u32 {
        self.bits
    }

    /// Adds some, dropping what an outer scope said; false if they are there already.
    pub fn add(&mut self, bits: u32) -> bool {
        let before = if std::mem::replace(&mut self.own, true) { self.bits } else { 0 };
        self.bits = before | bits;
        before & bits == 0
    }
}

/// A setting that never crosses into an inner scope.
#[derive(Debug, Default)]
pub struct Local<T>(pub T);

impl<T: Default> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> Deref for Local<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Local<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

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

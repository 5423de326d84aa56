//! Types by file extension (<https://nginx.org/en/docs/http/ngx_http_core_module.html#types>).

use std::collections::HashMap;

use bytes::Bytes;

/// Extensions in lower case and their types.
#[derive(Clone, Debug, Default)]
pub struct Types {
    map: HashMap<Vec<u8>, Bytes>,
    /// Whether mime_guess is asked for what the map does not know.
    guess: bool,
}

impl Types {
    /// nginx's types where a configuration names none.
    pub fn builtin() -> Self {
        let mut types = Self::default();
        for (extension, kind) in [("html", "text/html"), ("gif", "image/gif"), ("jpg", "image/jpeg")] {
            types.map.insert(extension.into(), Bytes::from_static(kind.as_bytes()));
        }
        types
    }

    /// All that mime_guess knows: for a bare site file, which has no `mime.types` around it.
    pub fn guessed() -> Self {
        Self { map: HashMap::new(), guess: true }
    }

    /// Adds an extension; true if it replaced one.
    pub fn insert(&mut self, extension: &[u8], kind: Bytes) -> bool {
        self.map.insert(extension.to_ascii_lowercase(), kind).is_some()
    }

    /// The type of an extension.
    pub fn get(&self, extension: &[u8]) -> Option<Bytes> {
        if extension.is_empty() {
            return None;
        }
        let mut lower = [0u8; 64];
        let lower = lower.get_mut(..extension.len())?;
        lower.copy_from_slice(extension);
        lower.make_ascii_lowercase();
        if let Some(kind) = self.map.get(&*lower) {
            return Some(kind.clone());
        }
        if !self.guess {
            return None;
        }
        let guess = mime_guess::from_ext(std::str::from_utf8(lower).ok()?).first_raw()?;
        Some(Bytes::from_static(guess.as_bytes()))
    }
}

//! Types by file extension (<https://nginx.org/en/docs/http/ngx_http_core_module.html#types>).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::conf::args::text;
use crate::conf::hash::Hash;
use crate::conf::{Args, Diag, Local};

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

    /// Adds an extension; the type it had before.
    pub fn insert(&mut self, extension: &[u8], kind: Bytes) -> Option<Bytes> {
        self.map.insert(extension.to_ascii_lowercase(), kind)
    }

    /// The lengths of the extensions in bytes.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.map.keys().map(Vec::len)
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

/// The media types that a scope names for a filter (`gzip_types`, `charset_types`): several lines add up.
#[derive(Clone, Debug, Default)]
pub struct NamedTypes {
    set: Option<Arc<TypeSet>>,
    own: Local<bool>,
}

impl NamedTypes {
    /// Adds a directive's types; `text/html` is always among them.
    pub fn add(&mut self, args: &mut Args<'_>) {
        let before = self.set.take().filter(|_| self.own.0);
        let mut set = before.map_or_else(|| TypeSet::new(&["text/html"]), Arc::unwrap_or_clone);
        let lengths = args.words().map(<[u8]>::len);
        if let Err(problem) = Hash::new(2048).hold("test_types_hash", lengths) {
            let at = args.directive().name.span;
            args.env.warnings.push(Diag::general(problem, Some(at)));
        }
        for word in args.words() {
            if word == b"*" {
                set.types = None;
            } else if set.types.as_mut().is_some_and(|types| !types.insert(word.to_ascii_lowercase())) {
                args.warn(format!("duplicate MIME type \"{}\"", text(word)));
            }
        }
        (self.set, self.own.0) = (Some(Arc::new(set)), true);
    }

    /// The types, or those that hold where no directive names others.
    pub fn or(&self, types: &[&str]) -> Arc<TypeSet> {
        self.set.clone().unwrap_or_else(|| Arc::new(TypeSet::new(types)))
    }
}

/// A set of media types.
#[derive(Clone, Debug)]
pub struct TypeSet {
    /// In lower case; none stands for all.
    types: Option<std::collections::HashSet<Vec<u8>>>,
}

impl TypeSet {
    /// The types that hold where no directive names others.
    pub fn new(types: &[&str]) -> Self {
        Self { types: Some(types.iter().map(|kind| kind.as_bytes().to_vec()).collect()) }
    }

    /// Whether the type, which has no parameters, is one of them.
    pub fn has(&self, kind: &[u8]) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&kind.to_ascii_lowercase()))
    }
}

/// A `Content-Type` without its parameters, and the charset that one of them names.
pub fn split(value: &[u8]) -> (&[u8], Option<Bytes>) {
    let mut parts = value.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let kind = parts.next().unwrap_or_default();
    let own = parts.find_map(|part| {
        let (name, charset) = part.split_at_checked(8)?;
        let charset = charset.strip_prefix(b"\"").map_or(charset, |inner| inner.strip_suffix(b"\"").unwrap_or(inner));
        name.eq_ignore_ascii_case(b"charset=").then(|| Bytes::copy_from_slice(charset))
    });
    (kind, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_types() {
        let table = [
            ("text/html", "text/html", None),
            ("text/html; charset=UTF-8", "text/html", Some("UTF-8")),
            ("text/html;q=1 ; Charset=\"x\"", "text/html", Some("x")),
            ("text/html; boundary=charset", "text/html", None),
        ];
        for (value, kind, own) in table {
            assert_eq!(split(value.as_bytes()), (kind.as_bytes(), own.map(Bytes::from)), "{value}");
        }
    }
}

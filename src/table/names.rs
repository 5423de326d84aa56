//! Which server a host name belongs to (<https://nginx.org/en/docs/http/server_names.html>).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::tree::Groups;
use crate::http::host::Name;
use crate::http::pattern::Pattern;

/// The servers of one address by name: exact, `*.x`, `x.*`, regular expressions, in that order.
pub struct ServerNames<T> {
    exact: Map<T>,
    /// Keys without `*`: `.example.com`.
    leading: Map<T>,
    /// Keys without `*`: `www.example.`.
    trailing: Map<T>,
    regexes: Vec<(Arc<Pattern>, T)>,
}

/// Clients ask but never add, so the keys need no secret hash.
type Map<T> = HashMap<Vec<u8>, T, BuildHasherDefault<Fnv>>;

/// FNV-1a.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The regular expression that found a server, and its groups.
pub type Match<'a> = (&'a Arc<Pattern>, Groups);

impl<T> Default for ServerNames<T> {
    fn default() -> Self {
        Self { exact: Map::default(), leading: Map::default(), trailing: Map::default(), regexes: Vec::new() }
    }
}

impl<T: Clone> ServerNames<T> {
    /// Adds a name; false if another server has it already.
    pub fn insert(&mut self, name: &Name, server: T) -> bool {
        let text = match name {
            Name::Text(text) => text.as_slice(),
            Name::Regex(pattern) => {
                self.regexes.push((Arc::clone(pattern), server));
                return true;
            }
        };
        if let Some(rest) = text.strip_prefix(b"*").filter(|rest| rest.first() == Some(&b'.')) {
            return add(&mut self.leading, rest, server);
        }
        if let Some(rest) = text.strip_suffix(b"*").filter(|rest| rest.last() == Some(&b'.')) {
            return add(&mut self.trailing, rest, server);
        }
        if let Some(bare) = text.strip_prefix(b".") {
            let both = !self.exact.contains_key(bare) && !self.leading.contains_key(text);
            return both && add(&mut self.exact, bare, server.clone()) && add(&mut self.leading, text, server);
        }
        add(&mut self.exact, text, server)
    }

    /// The server of `host`, which is in lower case, with the groups of its regular expression.
    pub fn find(&self, host: &[u8]) -> Option<(&T, Option<Match<'_>>)> {
        if let Some(server) = self.exact.get(host) {
            return Some((server, None));
        }
        let dots = || host.iter().enumerate().filter(|(_, b)| **b == b'.').map(|(at, _)| at);
        if !self.leading.is_empty() {
            let found = dots().filter(|at| *at > 0).find_map(|at| self.leading.get(host.get(at..)?));
            if let Some(server) = found {
                return Some((server, None));
            }
        }
        if !self.trailing.is_empty() {
            let ends: Vec<usize> = dots().collect();
            let found = ends.into_iter().rev().find_map(|at| self.trailing.get(host.get(..=at)?));
            if let Some(server) = found {
                return Some((server, None));
            }
        }
        self.regexes.iter().find_map(|(pattern, server)| Some((server, Some((pattern, pattern.captures(host)?)))))
    }
}

fn add<T>(map: &mut Map<T>, name: &[u8], server: T) -> bool {
    let free = !map.contains_key(name);
    if free {
        map.insert(name.to_vec(), server);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_in_nginx_order() {
        let mut names = ServerNames::default();
        for text in ["example.com", "*.example.com", ".both.org", "www.example.*", "*.www.example.com", ""] {
            assert!(names.insert(&Name::Text(text.into()), text));
        }
        assert!(!names.insert(&Name::Text("example.com".into()), "twice"));
        names.insert(&Name::Regex(Arc::new(Pattern::new(b"^(?<n>.+)[.]net$", false).unwrap())), "~net");
        let cases = [
            ("example.com", Some("example.com")),
            ("a.b.example.com", Some("*.example.com")),
            ("x.www.example.com", Some("*.www.example.com")),
            ("both.org", Some(".both.org")),
            ("a.both.org", Some(".both.org")),
            ("www.example.de", Some("www.example.*")),
            ("www.example.co.uk", Some("www.example.*")),
            ("a.net", Some("~net")),
            ("", Some("")),
            ("other", None),
        ];
        for (host, want) in cases {
            assert_eq!(names.find(host.as_bytes()).map(|(server, _)| *server), want, "{host}");
        }
    }
}

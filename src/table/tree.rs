//! Which location a path belongs to (<https://nginx.org/en/docs/http/ngx_http_core_module.html#location>).
//!
//! Prefixes are kept sorted, each with the number of the longest other prefix that it begins with: a lookup is one
//! binary search and a walk along those numbers.

use std::sync::Arc;

use crate::http::pattern::Pattern;

/// What a location matches.
#[derive(Clone, Debug)]
pub enum Match {
    /// The whole path.
    Exact,
    /// A prefix.
    Prefix,
    /// A prefix behind which no regular expression is tried.
    Final,
    /// A regular expression.
    Regex(Arc<Pattern>),
}

/// A location to put into the table.
pub struct Entry<T> {
    /// What it matches.
    pub kind: Match,
    /// Its path or pattern.
    pub name: Vec<u8>,
    /// Whether the path without its last slash is redirected here.
    pub auto_redirect: bool,
    /// What is found.
    pub payload: T,
    /// Locations inside it.
    pub nested: Locations<T>,
}

/// The locations of one level.
pub struct Locations<T> {
    prefixes: Vec<Node<T>>,
    exact: Vec<Node<T>>,
    regexes: Vec<(Arc<Pattern>, T, Locations<T>)>,
}

struct Node<T> {
    name: Vec<u8>,
    parent: Option<usize>,
    is_final: bool,
    auto_redirect: bool,
    payload: T,
    nested: Locations<T>,
}

/// Groups of a match, as offsets into the path.
pub type Groups = Vec<Option<(u32, u32)>>;

/// What a lookup finds.
#[derive(Debug)]
pub enum Found<'a, T> {
    /// A location, with the groups of its regular expression.
    Location(&'a T, Option<(Arc<Pattern>, Groups)>),
    /// The path lacks the slash that this location's name has.
    Redirect(&'a T),
    /// Nothing.
    Nothing,
}

impl<T> Default for Locations<T> {
    fn default() -> Self {
        Self { prefixes: Vec::new(), exact: Vec::new(), regexes: Vec::new() }
    }
}

impl<T> Locations<T> {
    /// The table of these locations, which are in source order.
    pub fn new(entries: Vec<Entry<T>>) -> Self {
        let mut table = Self::default();
        for Entry { kind, name, auto_redirect, payload, nested } in entries {
            let is_final = matches!(kind, Match::Final);
            let level = match kind {
                Match::Exact => &mut table.exact,
                Match::Prefix | Match::Final => &mut table.prefixes,
                Match::Regex(pattern) => {
                    table.regexes.push((pattern, payload, nested));
                    continue;
                }
            };
            level.push(Node { name, parent: None, is_final, auto_redirect, payload, nested });
        }
        table.prefixes.sort_by(|a, b| a.name.cmp(&b.name));
        table.exact.sort_by(|a, b| a.name.cmp(&b.name));
        let mut open: Vec<usize> = Vec::new();
        for index in 0..table.prefixes.len() {
            let begins = |&outer: &usize| match (table.prefixes.get(index), table.prefixes.get(outer)) {
                (Some(node), Some(outer)) => node.name.starts_with(&outer.name),
                _ => false,
            };
            while open.last().is_some_and(|outer| !begins(outer)) {
                open.pop();
            }
            let parent = open.last().copied();
            if let Some(node) = table.prefixes.get_mut(index) {
                node.parent = parent;
            }
            open.push(index);
        }
        table
    }

    /// The location of `path`.
    pub fn find(&self, path: &[u8]) -> Found<'_, T> {
        match self.step(path) {
            Step::Settled(payload, groups) => Found::Location(payload, groups),
            Step::Prefix(payload) => Found::Location(payload, None),
            Step::Redirect(payload) => Found::Redirect(payload),
            Step::Nothing => Found::Nothing,
        }
    }

    fn step(&self, path: &[u8]) -> Step<'_, T> {
        if self.prefixes.is_empty() && self.exact.is_empty() && self.regexes.is_empty() {
            return Step::Nothing;
        }
        if let Ok(index) = self.exact.binary_search_by(|node| node.name.as_slice().cmp(path))
            && let Some(node) = self.exact.get(index)
        {
            return Step::Settled(&node.payload, None);
        }
        let node = self.longest(path);
        if node.is_none_or(|node| node.name != path)
            && let Some(node) = slash(&self.prefixes, path).or_else(|| slash(&self.exact, path))
        {
            return Step::Redirect(&node.payload);
        }
        let prefix = match node.map(|node| node.nested.step(path)) {
            Some(settled @ (Step::Settled(..) | Step::Redirect(_))) => return settled,
            Some(Step::Prefix(payload)) => Step::Prefix(payload),
            _ => node.map_or(Step::Nothing, |node| Step::Prefix(&node.payload)),
        };
        if node.is_some_and(|node| node.is_final) {
            return prefix;
        }
        for (pattern, payload, inside) in &self.regexes {
            if let Some(groups) = pattern.captures(path) {
                return match inside.step(path) {
                    Step::Nothing => Step::Settled(payload, Some((Arc::clone(pattern), groups))),
                    Step::Prefix(payload) => Step::Settled(payload, Some((Arc::clone(pattern), groups))),
                    found => found,
                };
            }
        }
        prefix
    }

    /// The longest prefix of `path`.
    fn longest(&self, path: &[u8]) -> Option<&Node<T>> {
        let behind = self.prefixes.partition_point(|node| node.name.as_slice() <= path);
        let mut node = self.prefixes.get(behind.checked_sub(1)?)?;
        while !path.starts_with(&node.name) {
            node = self.prefixes.get(node.parent?)?;
        }
        Some(node)
    }
}

/// A lookup within one level: whether the levels around may still overrule it with their regular expressions.
enum Step<'a, T> {
    Settled(&'a T, Option<(Arc<Pattern>, Groups)>),
    Prefix(&'a T),
    Redirect(&'a T),
    Nothing,
}

/// The location whose name is `path` and a slash, where it redirects.
fn slash<'a, T>(nodes: &'a [Node<T>], path: &[u8]) -> Option<&'a Node<T>> {
    let name = |node: &Node<T>| node.name.iter().cmp(path.iter().chain(b"/"));
    let index = nodes.binary_search_by(name).ok()?;
    nodes.get(index).filter(|node| node.auto_redirect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Match, name: &str, nested: Vec<Entry<String>>) -> Entry<String> {
        let payload = format!("{}{name}", if matches!(kind, Match::Exact) { "=" } else { "" });
        let nested = Locations::new(nested);
        Entry { kind, name: name.into(), auto_redirect: name.ends_with("/r/"), payload, nested }
    }

    fn regex(pattern: &str) -> Entry<String> {
        entry(Match::Regex(Arc::new(Pattern::new(pattern.as_bytes(), false).unwrap())), pattern, Vec::new())
    }

    #[test]
    fn prefers_as_nginx_does() {
        let nested = vec![entry(Match::Prefix, "/a/b/", Vec::new()), regex("inner$")];
        let table = Locations::new(vec![
            entry(Match::Prefix, "/", Vec::new()),
            entry(Match::Prefix, "/a/", nested),
            entry(Match::Exact, "/a/exact", Vec::new()),
            entry(Match::Final, "/static/", Vec::new()),
            entry(Match::Prefix, "/static/r/", Vec::new()),
            regex("[.]php$"),
        ]);
        let cases = [
            ("/", "/"),
            ("/ab", "/"),
            ("/a/", "/a/"),
            ("/a/x", "/a/"),
            ("/a/b/x", "/a/b/"),
            ("/a/exact", "=/a/exact"),
            ("/a/exactly", "/a/"),
            ("/a/b/x.php", "[.]php$"),
            ("/a/b/inner", "inner$"),
            ("/static/x.php", "/static/"),
            ("/static/r", "redirect /static/r/"),
            ("/static/r/", "/static/r/"),
        ];
        for (path, want) in cases {
            let got = match table.find(path.as_bytes()) {
                Found::Location(payload, _) => payload.clone(),
                Found::Redirect(payload) => format!("redirect {payload}"),
                Found::Nothing => String::new(),
            };
            assert_eq!(got, want, "{path}");
        }
    }

    #[test]
    fn agrees_with_a_naive_search() {
        let mut state = 7u32;
        let mut word = |max: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let len = (state >> 16) % max;
            let letters = (0..len).map(|i| if state >> (i % 24) & 1 == 0 { 'a' } else { '/' });
            format!("/{}", letters.collect::<String>())
        };
        let mut names: Vec<String> = (0..300).map(|_| word(9)).collect();
        names.sort();
        names.dedup();
        let table = Locations::new(names.iter().map(|name| entry(Match::Prefix, name, Vec::new())).collect());
        for _ in 0..2000 {
            let path = word(14);
            let naive = names.iter().filter(|name| path.starts_with(*name)).max_by_key(|name| name.len());
            let (naive, found) = match (naive, table.find(path.as_bytes())) {
                (_, Found::Redirect(_)) => continue,
                (naive, Found::Location(payload, _)) => (naive, Some(payload)),
                (naive, Found::Nothing) => (naive, None),
            };
            assert_eq!(found, naive, "{path}");
        }
    }
}

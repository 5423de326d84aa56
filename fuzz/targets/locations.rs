//! Location lookup equals a model that tries everything
//! (<https://nginx.org/en/docs/http/ngx_http_core_module.html#location>).
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::pattern::Pattern;
use nginx_rs::table::Locations;
use nginx_rs::table::tree::{Entry, Found, Match};

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|&b| b == b'\n');
    let path = lines.next().unwrap_or_default();
    let mut list: Vec<(Match, Vec<u8>)> = Vec::new();
    for line in lines.take(32) {
        let Some((&first, name)) = line.split_first() else { continue };
        let kind = match first % 4 {
            0 => Match::Exact,
            1 => Match::Prefix,
            2 => Match::Final,
            // Literal patterns are enough: the engines have a test of their own.
            _ if name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'/') => match Pattern::new(name, false) {
                Ok(pattern) => Match::Regex(Arc::new(pattern)),
                Err(_) => continue,
            },
            _ => continue,
        };
        let exact = matches!(kind, Match::Exact);
        let twin = list.iter().any(|(other, text)| {
            text == name && !matches!(other, Match::Regex(_)) && matches!(other, Match::Exact) == exact
        });
        if !twin || matches!(kind, Match::Regex(_)) {
            list.push((kind, name.to_vec()));
        }
    }
    let entry = |(number, (kind, name)): (usize, &(Match, Vec<u8>))| Entry {
        kind: kind.clone(),
        name: name.clone(),
        auto_redirect: false,
        payload: number,
        nested: Locations::default(),
    };
    let table = Locations::new(list.iter().enumerate().map(entry).collect());
    let found = match table.find(path) {
        Found::Location(number, _) => Some(*number),
        Found::Redirect(_) => panic!("nobody asked for a redirect"),
        Found::Nothing => None,
    };
    assert_eq!(found, model(&list, path));
});

fn model(list: &[(Match, Vec<u8>)], path: &[u8]) -> Option<usize> {
    let all = || list.iter().enumerate();
    if let Some((number, _)) = all().find(|(_, (kind, name))| matches!(kind, Match::Exact) && name == path) {
        return Some(number);
    }
    let begins = |kind: &Match, name: &[u8]| matches!(kind, Match::Prefix | Match::Final) && path.starts_with(name);
    let longest = all().filter(|(_, (kind, name))| begins(kind, name)).max_by_key(|(_, (_, name))| name.len());
    if let Some((number, (Match::Final, _))) = longest {
        return Some(number);
    }
    let regex = all().find(|(_, (kind, _))| matches!(kind, Match::Regex(pattern) if pattern.matches(path)));
    regex.or(longest).map(|(number, _)| number)
}

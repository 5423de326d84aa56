//! The house rules that a program can check: docs/STYLE.md, and the layers of docs/ARCHITECTURE.md.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nginx_rs::conf::Contexts;
use parser::ast::{Directive, FileId};

/// Lines of a file and of a function.
const FILE: usize = 500;
const FUNCTION: usize = 80;

/// The layers, from the bottom. Those of one row may use one another, but `conf` and `net` do not.
const LAYERS: [&[&str]; 8] = [
    &["conf", "net"],
    &["http"],
    &["upstream"],
    &["modules"],
    &["table"],
    &["compile"],
    &["serve", "process", "tools", "cli"],
    &["main"],
];

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE {
            found.push(format!("{path}: {lines} lines, {FILE} at most"));
        }
        if !text.starts_with("//!") && !text.starts_with("#![no_main]") {
            found.push(format!("{path}: the first line is no //! purpose line"));
        }
    }
    none(&found);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let indent = line.len() - line.trim_start().len();
            let close = |end: &&str| end.len() > indent && end.trim_end() == format!("{}}}", " ".repeat(indent));
            let length = lines[at..].iter().position(close).map_or(0, |end| end + 1);
            if length > FUNCTION {
                found.push(format!("{path}:{}: a function of {length} lines, {FUNCTION} at most", at + 1));
            }
        }
    }
    none(&found);
}

#[test]
fn layers_are_used_downwards_only() {
    let height = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut found = Vec::new();
    for (path, text) in sources() {
        let Some(inside) = path.strip_prefix("src/") else { continue };
        let own = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(from) = height(own) else {
            assert_eq!(own, "lib", "{path} belongs to no layer");
            continue;
        };
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for other in used(code) {
            let Some(to) = height(&other) else { continue };
            if to > from || (to == from && from == 0 && other != own) {
                found.push(format!("{path} uses crate::{other}"));
            }
        }
    }
    none(&found);
}

#[test]
fn modules_say_which_phases_they_take_part_in() {
    const PHASES: [&str; 7] = ["rewrite", "preaccess", "access", "precontent", "content", "filter", "log"];
    let mut found = Vec::new();
    for (path, text) in sources() {
        let Some(module) = text.split("impl super::Module for Module {").nth(1) else { continue };
        let module = module.split("\n}\n").next().unwrap_or_default();
        let said: Vec<&str> = module.split("const PHASES").nth(1).unwrap_or_default().split(';').take(1).collect();
        for phase in PHASES {
            let says = said.concat().contains(&format!("Phases::{}", phase.to_uppercase()));
            if module.contains(&format!("fn {phase}(")) != says {
                found.push(format!("{path}: its PHASES and its hook `{phase}` disagree"));
            }
        }
    }
    none(&found);
}

#[test]
fn every_directive_has_a_fixture() {
    let mut used = BTreeSet::new();
    for kind in ["check", "route", "serve", "site", "django"] {
        for path in files(&root().join("fixtures").join(kind)) {
            let text = fs::read(&path).unwrap_or_default();
            let conf = path.extension().is_some_and(|extension| extension == "conf");
            let end = text.windows(5).position(|line| line == b"\n----").unwrap_or(text.len());
            names(&parser::parse(FileId(0), if conf { &text[..end] } else { b"" }).items, &mut used);
        }
    }
    let missing: BTreeSet<String> = nginx_rs::modules::rows()
        .into_iter()
        .filter(|row| !used.contains(row.name.as_bytes()))
        .map(|row| format!("no fixture uses {} of the module {}", row.name, row.module))
        .collect();
    none(&missing.into_iter().collect::<Vec<_>>());
}

#[test]
fn what_is_supported_is_not_promised_for_later() {
    let mut rows: BTreeMap<String, Vec<Contexts>> = BTreeMap::new();
    for row in nginx_rs::modules::rows() {
        rows.entry(row.name.into_owned()).or_default().push(row.contexts);
    }
    let twice = nginx_rs::compile::later::list()
        .filter(|later| rows.get(later.name).is_some_and(|all| all.iter().any(|has| has.meets(later.contexts))))
        .map(|later| format!("{} is in a module and in src/compile/later.tsv", later.name));
    none(&twice.collect::<Vec<_>>());
}

fn begins_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let qualifier = |word: &&&str| matches!(**word, "async" | "const" | "unsafe") || word.starts_with("pub");
    let rest = words.iter().find(|word| !qualifier(word));
    rest == Some(&"fn") && line.ends_with('{') || rest == Some(&"fn") && line.ends_with('(')
}

/// The first names behind `crate::`, also those in braces.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        let first = |name: &str| name.trim().split("::").next().unwrap_or_default().to_owned();
        found.extend(list.split(',').map(first));
    }
    found
}

fn names(items: &[Directive], used: &mut BTreeSet<Vec<u8>>) {
    for item in items {
        used.insert(item.name.text.clone());
        names(item.block.as_ref().map_or(&[], |block| &block.items), used);
    }
}

/// Every Rust file by its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for dir in ["src", "parser", "tests", "benches"] {
        for path in files(&root().join(dir)) {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                all.push((name, fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    assert!(all.len() > 50, "{} files", all.len());
    all
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        match path.is_dir() {
            true if name == "target" || name == ".venv" => {}
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

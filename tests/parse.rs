//! `fixtures/parse`: syntax of <https://nginx.org/en/docs/beginners_guide.html#conf_structure>.
//!
//! A fixture is a configuration with its errors drawn in (see `kit/carets.rs`), then `----` and the tree as it is
//! printed. `UPDATE=1` writes both anew.

use std::fs;
use std::path::Path;

use parser::ast::FileId;
use parser::parse;
use parser::print::{print, same};

#[path = "kit/carets.rs"]
mod carets;

const TREE: &[u8] = b"----\n";

#[test]
fn fixtures_hold() -> std::io::Result<()> {
    let update = std::env::var_os("UPDATE").is_some();
    let mut failed = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parse"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let before = fs::read(&path)?;
        let after = redraw(&before);
        if update && before != after {
            fs::write(&path, after)?;
        } else if before != after {
            let shown = String::from_utf8_lossy(&after).into_owned();
            failed.push(format!("{} should be\n{shown}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// The fixture as it would have to be.
fn redraw(fixture: &[u8]) -> Vec<u8> {
    let lines: Vec<_> = fixture.split_inclusive(|byte| *byte == b'\n').collect();
    let text = carets::strip(&lines.split(|line| *line == TREE).next().unwrap_or_default().concat());
    let parsed = parse(FileId(0), &text);
    let errors: Vec<_> = parsed
        .errors
        .into_iter()
        .map(|error| (error.span.start, error.span.end, format!("error: {}", error.problem)))
        .collect();
    let tree = print(&parsed.items);
    assert!(same(&parse(FileId(0), &tree).items, &parsed.items), "{}", String::from_utf8_lossy(&tree));
    [&carets::draw(&text, &errors), TREE, &tree].concat()
}

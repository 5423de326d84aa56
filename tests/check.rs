//! `fixtures/check`: what the compiler finds wrong, held against <https://nginx.org/en/docs/dirindex.html>.
//!
//! A fixture is a configuration, whole or bare, with its findings drawn in (see `kit/carets.rs`); one without any compiles
//! clean. `UPDATE=1` draws them anew. The same files go through `nginx -t` (`NGINX=path` for another than the reference): it
//! must accept the same ones and print the same sentence for each error, except where a line begins with `# differs: ` and
//! a reason, or where it was built without a directive.
#![cfg(test)]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nginx_rs::compile::{Input, Output, compile};
use nginx_rs::conf::Level;
use nginx_rs::conf::files::{Disk, Files};
use nginx_rs::modules::seal::LogFiles;
use parser::ast::{FileId, Span};
use parser::source::line;

#[path = "kit/carets.rs"]
mod carets;
mod kit;

#[test]
fn fixtures_hold() {
    let update = std::env::var_os("UPDATE").is_some();
    let scratch = scratch("check");
    let mut failed = Vec::new();
    for path in fixtures() {
        let before = std::fs::read(&path).expect("a readable fixture");
        let text = carets::strip(&before);
        let after = draw(&text, &compiled(&path, &text, &scratch));
        if update && before != after {
            std::fs::write(&path, after).expect("a writable fixture");
        } else if before != after {
            failed.push(format!("{} should be\n{}", path.display(), String::from_utf8_lossy(&after)));
        }
    }
    let _ = std::fs::remove_dir_all(scratch);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn nginx_finds_the_same() {
    let Some(nginx) = kit::reference::nginx() else { return };
    let scratch = scratch("check-nginx");
    let mut failed = Vec::new();
    for path in fixtures() {
        let fixture = std::fs::read(&path).expect("a readable fixture");
        let text = carets::strip(&fixture);
        if text.split(|b| *b == b'\n').any(|line| line.starts_with(b"# differs: ")) {
            continue;
        }
        for text in variants(&text, &compiled(&path, &text, &scratch)) {
            let ours = first_error(&compiled(&path, &text, &scratch), &path);
            let theirs = nginx_error(&nginx, &path, &text, &scratch);
            // It may be built without a directive, and without root it may not try a low port.
            let lacks =
                |error: &String| error.contains("unknown directive") || error.contains("(13: Permission denied)");
            if ours != theirs && theirs.as_ref().is_some_and(lacks) {
                continue;
            }
            // Both of PCRE's versions have words of their own.
            let pattern =
                |error: &Option<String>| error.as_ref().is_some_and(|error| error.contains("_compile() failed"));
            if ours != theirs
                && !(pattern(&ours) && pattern(&theirs))
                && !ours.as_ref().is_some_and(|error| error.contains("not supported yet"))
            {
                failed.push(format!("{}:\n  nginx:    {theirs:?}\n  nginx-rs: {ours:?}", path.display()));
            }
        }
    }
    failed.dedup();
    let _ = std::fs::remove_dir_all(scratch);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The fixture's own file from memory, whatever it includes from the disk.
struct Fixture {
    path: PathBuf,
    text: Arc<[u8]>,
    disk: Disk,
}

impl Files for Fixture {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path == self.path { Ok(Arc::clone(&self.text)) } else { self.disk.read(path) }
    }

    fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        self.disk.glob(pattern)
    }

    fn lookup(&self, name: &str) -> Option<Vec<std::net::IpAddr>> {
        self.disk.lookup(name)
    }
}

fn compiled(path: &Path, text: &[u8], prefix: &Path) -> Output {
    compile(&Input {
        file: path.to_owned(),
        prefix: prefix.join(""),
        globals: String::new(),
        files: Arc::new(Fixture { path: path.to_owned(), text: text.into(), disk: Disk::default() }),
        tls: Default::default(),
        logs: LogFiles::default(),
        zones: Default::default(),
        upstreams: Default::default(),
        error_log: None,
        access_log: None,
        temp: None,
    })
}

/// The text with the findings drawn in; those without a place stand behind the end, those of an included file at its
/// `include`.
fn draw(text: &[u8], output: &Output) -> Vec<u8> {
    let end = u32::try_from(text.len()).expect("a short fixture");
    let here = directory().display().to_string() + "/";
    let mut findings = Vec::new();
    for diag in &output.diags {
        let what = if diag.level == Level::Warn { "warning" } else { "error" };
        let notes: String = diag.notes.iter().map(|note| format!(" ({note})")).collect();
        let (mut span, mut place) = (diag.caret.unwrap_or(Span::new(FileId(0), end, end)), String::new());
        while let Some(parent) = output.sources.get(span.file).and_then(|source| source.parent) {
            place = format!(" in {}", output.sources.place(span));
            span = parent;
        }
        findings.push((span.start, span.end, format!("{what}: {}{place}{notes}", diag.problem).replace(&here, "")));
    }
    assert_eq!(output.table.is_none(), output.diags.iter().any(|diag| diag.is_error()));
    findings.sort_by_key(|(_, end, _)| line(text, *end));
    carets::draw(text, &findings)
}

/// The text as it is, and for each error without the lines of all others, since nginx stops at the first.
fn variants(text: &[u8], output: &Output) -> Vec<Vec<u8>> {
    let errors = output.diags.iter().filter(|diag| diag.is_error());
    let lines: BTreeSet<u32> = errors.filter_map(|diag| Some(line(text, diag.caret?.end))).collect();
    let without = |kept: &u32| {
        let number_and_line = (1u32..).zip(text.split_inclusive(|b| *b == b'\n'));
        let blank = |(number, line)| if number != *kept && lines.contains(&number) { &b"\n"[..] } else { line };
        number_and_line.flat_map(blank).copied().collect()
    };
    std::iter::once(text.to_vec()).chain(lines.iter().map(without)).collect()
}

fn first_error(output: &Output, path: &Path) -> Option<String> {
    let diag = output.diags.iter().find(|diag| diag.is_error())?;
    let here = directory().display().to_string() + "/";
    Some(diag.sentence(&output.sources).replace(&path.display().to_string(), "FILE").replace(&here, ""))
}

fn nginx_error(nginx: &Path, path: &Path, text: &[u8], prefix: &Path) -> Option<String> {
    let whole = text.split(|b| *b == b'\n').any(|line| line.starts_with(b"http {") || line.starts_with(b"events {"));
    let text = if whole { text.to_vec() } else { [b"events {} http { ", text, b"\n}"].concat() };
    // Beside it lies what lies beside the fixture.
    let dir = prefix.join("check");
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text).expect("a file for nginx");
    for (to, from) in [("check/inc", path.with_file_name("inc")), ("certs", kit::root().join("fixtures/certs"))] {
        let _ = std::os::unix::fs::symlink(from, prefix.join(to));
    }
    let mut command = Command::new(nginx);
    // nginx takes a variable of this name for sockets it inherits.
    command.env_remove("NGINX");
    let command = command.arg("-t").arg("-e").arg("stderr").arg("-p").arg(prefix).arg("-c").arg(&file);
    let output = command.output().expect("nginx");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // A process's and a thread's number stand before the sentence.
    let level = |line: &str| line.contains("[emerg] ") || line.contains("[crit] ");
    let sentence = |line: &str| {
        Some(line.split_once("] ").filter(|_| level(line))?.1.split_once("#")?.1.split_once(": ")?.1.to_owned())
    };
    let error = said.lines().find_map(sentence);
    assert_eq!(output.status.success(), error.is_none(), "{said}");
    error.map(|error| {
        error
            .replace(&file.display().to_string(), "FILE")
            .replace(&format!("{}/", dir.display()), "")
            .replace(&format!("{}/", prefix.display()), "")
    })
}

fn fixtures() -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory()).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/check")
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("nginx-rs-{name}-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("logs")).expect("a directory");
    dir
}

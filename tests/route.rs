//! `fixtures/route`: which server and which location a request finds.
//! <https://nginx.org/en/docs/http/request_processing.html>
//!
//! A fixture is a bare configuration, `----`, and lines `host path -> server | location`, where a host may be followed by
//! `@` and the address the request came to. `UPDATE=1` writes the answers anew.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nginx_rs::compile::{Input, compile};
use nginx_rs::conf::files::Disk;
use nginx_rs::modules::seal::LogFiles;
use nginx_rs::table::Table;
use nginx_rs::table::tree::Found;

const ANSWERS: &str = "----\n";

#[test]
fn fixtures_hold() {
    let update = std::env::var_os("UPDATE").is_some();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/route");
    let mut failed = Vec::new();
    for entry in fs::read_dir(dir).expect("fixtures") {
        let path = entry.expect("an entry").path();
        let before = fs::read_to_string(&path).expect("a readable fixture");
        let (text, questions) = before.split_once(ANSWERS).expect("a line of dashes");
        let table = table(&path);
        let answers: String = questions.lines().map(|line| answer(line, &table)).collect();
        let after = format!("{text}{ANSWERS}{answers}");
        if update && before != after {
            fs::write(&path, after).expect("a writable fixture");
        } else if before != after {
            failed.push(format!("{} should be\n{after}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The table of what stands above the dashes.
fn table(path: &Path) -> Table {
    let scratch = std::env::temp_dir().join(format!("nginx-rs-route-{}", std::process::id()));
    fs::create_dir_all(&scratch).expect("a directory");
    let text = fs::read_to_string(path).expect("a readable fixture");
    let file = scratch.join("site.conf");
    fs::write(&file, text.split(ANSWERS).next().unwrap_or_default()).expect("a writable file");
    let output = compile(&Input {
        file,
        prefix: scratch.join(""),
        globals: String::new(),
        files: Arc::new(Disk::default()),
        tls: Default::default(),
        logs: LogFiles::default(),
        zones: Default::default(),
        upstreams: Default::default(),
        error_log: None,
        access_log: None,
        temp: None,
    });
    let _ = fs::remove_dir_all(scratch);
    let findings: Vec<_> = output.diags.iter().map(|diag| diag.render(&output.sources)).collect();
    output.table.unwrap_or_else(|| panic!("{}:\n{}", path.display(), findings.join("\n")))
}

fn answer(line: &str, table: &Table) -> String {
    let Some(question) = line.split("->").next().map(str::trim).filter(|question| !question.is_empty()) else {
        return format!("{line}\n");
    };
    let (host, path) = question.split_once(' ').unwrap_or((question, "/"));
    let (host, address) = host.split_once('@').unwrap_or((host, ""));
    let wanted = |listen: &&Arc<nginx_rs::table::Listen>| address.is_empty() || listen.addr.to_string() == address;
    let listen = table.listens.iter().find(wanted).unwrap_or_else(|| panic!("nobody listens on {address}"));
    let server = match listen.servers.find(host.as_bytes()) {
        Some((server, _)) => server,
        None => &listen.default,
    };
    let location = match server.locations.find(path.trim().as_bytes()) {
        Found::Location(location, _) => location.name.clone(),
        Found::Redirect(location) => format!("redirect to {}", location.name),
        Found::Nothing => "none".to_owned(),
    };
    let name = String::from_utf8_lossy(&server.root.loc.core.server.name);
    format!("{question:32} -> {name} | {location}\n")
}

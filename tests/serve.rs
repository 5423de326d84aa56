//! `fixtures/serve/MODULE`: requests to a real server and what it answers (RFC 9110).
//!
//! A fixture is a bare configuration that listens on port 80, which becomes a free one, and parts behind lines of dashes:
//!
//! ```text
//! server { listen 80; root html; }
//! ---- html/a.txt
//! the file's text
//! ----
//! > GET /a.txt HTTP/1.1
//! > Host: a
//! < 200
//! < content-type: text/plain
//! < !etag
//! <
//! < the file's *
//! ---- logs/access.log
//! what a file holds when the server has ended
//! ```
//! A bare `>` ends a request's head, a bare `<` a response's. Only what is written is compared; `*` stands for anything.
//! Exchanges that follow one another without an empty line share a connection. `%%PORT%%` and `%%DIR%%` are filled in.
//! `UPDATE=1` writes the answers anew. nginx (`NGINX=path` for another than the reference) must answer the same, except where
//! a line begins with `# differs: ` and a reason.
#![cfg(test)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod kit;

use kit::http::{Connection, Response};
use kit::process::{TempDir, free_port};
use kit::server::{self, Server};

#[test]
fn fixtures_hold() {
    let update = std::env::var_os("UPDATE").is_some();
    let failed = run(&server::nginx_rs(), |path, _, after| {
        if update {
            fs::write(path, after).expect("a writable fixture");
        }
        !update
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn nginx_answers_the_same() {
    let Some(nginx) = kit::reference::nginx() else { return };
    let failed = run(&nginx, |_, text, _| !text.lines().any(|line| line.starts_with("# differs: ")));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs every fixture; those that do not hold and `counts` says matter are returned.
fn run(program: &Path, counts: impl Fn(&Path, &str, &str) -> bool) -> Vec<String> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut failed = Vec::new();
    let mut paths = fixtures(&kit::root().join("fixtures/serve"));
    paths.retain(|path| path.to_string_lossy().contains(&only));
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).expect("a readable fixture");
        let after = replay(program, &text);
        if after != text && counts(&path, &text, &after) {
            failed.push(format!("{} should be\n{after}", path.display()));
        }
    }
    failed
}

/// A part of a fixture: what follows the dashes, and the lines below.
struct Part<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

/// The fixture as it would have to be for `program`.
fn replay(program: &Path, text: &str) -> String {
    let mut parts = vec![Part { name: "", lines: Vec::new() }];
    for line in text.lines() {
        match line.strip_prefix("----") {
            Some(name) => parts.push(Part { name: name.trim(), lines: Vec::new() }),
            None => parts.last_mut().expect("a part").lines.push(line),
        }
    }
    let talk = 1 + parts.iter().skip(1).position(|part| part.name.is_empty()).expect("exchanges behind ----");
    let (dir, port) = (TempDir::new("serve"), free_port());
    for name in ["logs", "html"] {
        dir.dir(name);
    }
    let fill = |lines: &[&str]| lines.join("\n").replace("%%PORT%%", &port.to_string()).replace("%%DIR%%", &show(&dir));
    for part in &parts[1..talk] {
        let path = dir.path().join(part.name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, fill(&part.lines)).expect("a writable file");
    }
    let site = dir.path().join("site.conf");
    let conf = fill(&parts[0].lines).replace("listen 80", &format!("listen {port}"));
    fs::write(&site, conf).expect("a writable file");
    if let Some(said) = server::lacks(program, &site, dir.path()) {
        kit::say(&format!("SKIPPED a fixture: {said}"));
        return text.to_owned();
    }
    let server = Server::start(program, &site, dir.path(), port);
    let said = exchange(&parts[talk].lines, port, &fill);
    server.quit();
    let mut out: Vec<String> = text.lines().take_while(|line| line.trim() != "----").map(str::to_owned).collect();
    out.push("----".to_owned());
    let unfill = |text: &str| text.replace(&show(&dir), "%%DIR%%").replace(&port.to_string(), "%%PORT%%");
    out.extend(said.iter().map(|line| unfill(line)));
    for part in &parts[talk + 1..] {
        let found = fs::read_to_string(dir.path().join(part.name)).unwrap_or_else(|error| error.to_string());
        let held = like(&fill(&part.lines), found.trim_end());
        out.push(format!("---- {}", part.name));
        out.extend(if held { part.lines.join("\n") } else { unfill(found.trim_end()) }.lines().map(str::to_owned));
    }
    out.join("\n") + "\n"
}

fn show(dir: &TempDir) -> String {
    dir.path().display().to_string()
}

/// Sends the requests; returns all lines, those of answers as they would have to be.
fn exchange(lines: &[&str], port: u16, fill: &impl Fn(&[&str]) -> String) -> Vec<String> {
    let (mut out, mut connection, mut at) = (Vec::new(), None, 0);
    while let Some(line) = lines.get(at) {
        if !line.starts_with('>') {
            (out, connection) = (pushed(out, line), None);
            at += 1;
            continue;
        }
        let mut take = |mark| {
            let count = lines[at..].iter().take_while(|line| line.starts_with(mark)).count();
            at += count;
            &lines[at - count..at]
        };
        let (asked, expected) = (take('>'), take('<'));
        out.extend(asked.iter().map(|line| (*line).to_owned()));
        let request: Vec<&str> = asked.iter().map(|line| bare(line)).collect();
        let expected: Vec<String> = expected.iter().map(|line| fill(&[bare(line)])).collect();
        let answer = answer(&mut connection, port, &fill(&request));
        let lines =
            answer.map_or_else(|error| vec![format!("no answer: {error}")], |answer| compare(&expected, &answer));
        out.extend(lines.iter().map(|line| format!("< {line}").trim_end().to_owned()));
    }
    out
}

fn pushed(mut out: Vec<String>, line: &str) -> Vec<String> {
    out.push(line.to_owned());
    out
}

/// A line without its `> ` or `< `.
fn bare(line: &str) -> &str {
    line.get(2..).unwrap_or_default()
}

fn answer(connection: &mut Option<Connection>, port: u16, request: &str) -> io::Result<Response> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request.trim_end_matches('\n'), ""));
    let bytes = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(port)?,
    };
    open.send(bytes.as_bytes())?;
    let response = open.read_response(request.starts_with("HEAD "))?;
    *connection = Some(open).filter(|_| response.header("Connection") != Some("close"));
    Ok(response)
}

/// The lines that were expected, those that do not hold replaced by what came.
fn compare(expected: &[String], came: &Response) -> Vec<String> {
    let end = expected.iter().position(String::is_empty).unwrap_or(expected.len());
    let mut out = vec![came.status.to_string()];
    out.extend(expected[..end].iter().skip(1).map(|line| header(line, came)));
    if end < expected.len() {
        let (body, wanted) = (came.text().replace('\r', ""), expected[end + 1..].join("\n"));
        let body = body.strip_suffix('\n').unwrap_or(&body);
        out.push(String::new());
        out.extend(if like(&wanted, body) { &wanted } else { body }.split('\n').map(str::to_owned));
    }
    out
}

fn header(line: &str, came: &Response) -> String {
    let (name, value) = line.split_once(':').unwrap_or((line, "*"));
    let absent = name.starts_with('!');
    let (name, value) = (name.trim_start_matches('!'), value.trim());
    let mut found = came.all(name).peekable();
    match found.peek().copied() {
        None => format!("!{name}"),
        Some(_) if !absent && found.any(|found| like(value, found)) => line.to_owned(),
        Some(first) => format!("{name}: {first}"),
    }
}

/// Whether `text` is what `pattern` says, in which `*` stands for anything.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn fixtures(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("fixtures") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(fixtures(&path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

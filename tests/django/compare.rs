//! Runs the tables against a server and reports where two servers differ.
//! https://nginx.org/en/docs/http/ngx_http_log_module.html for the log lines compared.

use super::cases::{Case, Jar};
use super::demo::{Demo, Way};
use super::{masks, requests};
use crate::kit::http::{Connection, Response};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::time::Duration;

/// What one server did: an outcome for each request, its log lines (sorted), and whether it ended when told to.
pub(crate) struct Run {
    outcomes: Vec<(&'static str, String)>,
    access: Vec<String>,
    errors: BTreeSet<String>,
    quit: bool,
}

/// Sends all tables to `program` serving the freshly reset demo.
pub(crate) fn run(demo: &Demo, program: &Path, name: &str, way: Way) -> Run {
    demo.reset();
    let name = &format!("{name}-{}", way.socket);
    let server = demo.serve(program, name, way);
    let (port, mut jar) = (server.port, Jar::default());
    let tables = [requests::PAGES, requests::FILES, requests::SEEN, requests::ANSWERS];
    // nginx joins what stands repeatedly in a request since version 1.23, for all but HTTP; Debian's is older.
    let joins = |case: &&Case| way.directives == "http" || !matches!(case.name, "repeated headers" | "cookies");
    let cases = tables.into_iter().flatten().filter(joins);
    let outcomes: Vec<_> = cases.map(|case| (case.name, outcome(case, port, &mut jar))).collect();
    let quit = server.quit();
    let logs = demo.logs(name);
    write_down(&outcomes, &logs.join("outcomes.txt"));
    let mut access: Vec<String> = log_lines(&logs, "access.log", port).collect();
    access.sort();
    Run { outcomes, access, errors: log_lines(&logs, "error.log", port).collect(), quit }
}

impl Run {
    /// How many requests were sent.
    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// The differences, each as a paragraph; `self` is the reference.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = self.outcomes.iter().zip(&other.outcomes).filter(|(a, b)| a != b);
        let mut found: Vec<String> =
            pairs.map(|((name, a), (_, b))| format!("== {name}\n{}", line_diff(a, b))).collect();
        let text = |lines: &[String]| lines.join("\n");
        if self.access != other.access {
            found.push(format!("== access log\n{}", line_diff(&text(&self.access), &text(&other.access))));
        }
        if self.errors != other.errors {
            let lines = |set: &BTreeSet<String>| text(&set.iter().cloned().collect::<Vec<_>>());
            found.push(format!("== error log\n{}", line_diff(&lines(&self.errors), &lines(&other.errors))));
        }
        if self.quit != other.quit {
            found.push(format!("== ended on SIGQUIT: - {} + {}", self.quit, other.quit));
        }
        found
    }
}

/// What the client got for `case`, as masked text.
fn outcome(case: &Case, port: u16, jar: &mut Jar) -> String {
    let mut connection = match Connection::open(port) {
        Ok(connection) => connection,
        Err(why) => return format!("cannot connect: {why}"),
    };
    // A server may answer and close before it has read everything; what counts is the answer.
    let _ = connection.send(&case.encode(jar));
    let mut text = String::new();
    for _ in 0..case.answers {
        match connection.read_response(case.is_head()) {
            Ok(response) => {
                if case.jar {
                    response.all("Set-Cookie").for_each(|line| jar.store(line));
                }
                text += &describe(&response, port, case.fresh);
                let closes = response.all("Connection").any(|value| value == "close");
                if closes && !connection.closed_within(Duration::from_secs(1)) {
                    text += "(left open)\n";
                }
            }
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => text += "(closed)\n",
            Err(why) => writeln!(text, "({:?})", why.kind()).expect("a string"),
        }
    }
    text
}

/// For a reader who kept the directory with `KEEP=1`.
fn write_down(outcomes: &[(&str, String)], to: &Path) {
    let text: String = outcomes.iter().map(|(name, outcome)| format!("== {name}\n{outcome}\n")).collect();
    std::fs::write(to, text).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
}

fn describe(response: &Response, port: u16, fresh: bool) -> String {
    let head = masks::response(&response.to_string(), port, fresh);
    let body = match std::str::from_utf8(&response.body) {
        Ok(body) if body.len() < 20_000 => masks::response(body, port, fresh),
        _ => {
            let mut hasher = DefaultHasher::new();
            response.body.hash(&mut hasher);
            format!("({} bytes, hash {:x})", response.body.len(), hasher.finish())
        }
    };
    format!("{head}{body}\n")
}

fn log_lines(logs: &Path, name: &str, port: u16) -> impl Iterator<Item = String> {
    let text = std::fs::read(logs.join(name)).unwrap_or_default();
    let prefix = logs.parent().unwrap_or(logs).display().to_string();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<String> = text.lines().map(|line| masks::log_line(line, port, &prefix)).collect();
    lines.into_iter()
}

/// The lines only `a` has (-) and those only `b` has (+); if both have the same lines, both orders.
fn line_diff(a: &str, b: &str) -> String {
    let only = |these: &str, those: &str, sign| {
        let those: Vec<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let diff = only(a, b, '-') + &only(b, a, '+');
    let first: String = a.lines().take(1).map(|line| format!("  {line}\n")).collect();
    if diff.is_empty() {
        format!("order or number of lines differs:\n{a}\n---- instead of the above:\n{b}\n")
    } else {
        first + &diff
    }
}

//! What the integration tests share: processes that end with the test, a byte-exact HTTP client, servers by site file.
//! No page of nginx's manual; the wire formats name theirs in `http` (RFC 9112), `tls` (RFC 8446), `ws` and `autobahn` (RFC 6455), `webdriver` (W3C).
#![allow(dead_code, reason = "each test binary uses a part of the kit")]
#![allow(unreachable_pub, reason = "the kit is compiled into test binaries, which export nothing")]

pub mod autobahn;
pub mod dns;
pub mod h2;
pub mod http;
pub mod process;
pub mod reference;
pub mod server;
pub mod tls;
pub mod upstream;
pub mod webdriver;
pub mod ws;

use std::io::Write;
use std::path::{Path, PathBuf};

/// The first `name` in `PATH` or the directories of administration programs.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Like [`program`]; says on standard error (past the capture of the test runner) what is left out without it.
pub fn program_or_skip(name: &str, debian_package: &str, part: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        say(&format!("SKIPPED {part}: no {name}; install the Debian package {debian_package}"));
    }
    found
}

/// Writes a line to standard error even when the test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads the file `from`, replaces every `%%NAME%%` by its value and writes the result to `to`.
pub fn fill(from: &Path, to: &Path, values: &[(&str, &str)]) {
    let text = std::fs::read_to_string(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    let filled = values.iter().fold(text, |text, (name, value)| text.replace(&format!("%%{name}%%"), value));
    std::fs::write(to, filled).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
}

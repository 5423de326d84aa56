//! What testssl.sh thinks of the demo over TLS: protocols, ciphers, defaults and vulnerabilities (https://testssl.sh/).

use crate::kit::process::{Running, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Findings that are about the certificate, which is made for the test; about the order of ciphers, which certbot leaves to clients;
/// and two that are about testssl.sh: what its openssl cannot do, and whether that waited for a ticket.
const OF_THE_TEST: [&str; 5] = ["cert_", "DNS_CAArecord", "cipher_order", "engine_problem", "sessionresumption_ticket"];

/// A run of testssl.sh.
pub(crate) struct Look {
    running: Running,
    found: PathBuf,
}

/// Starts to look at `port`; the findings are written to `dir`.
pub(crate) fn start(port: u16, testssl: &Path, dir: &Path) -> Look {
    let found = dir.join("testssl.json");
    let mut command = Command::new(testssl);
    command.args(["--quiet", "--warnings", "off", "--color", "0", "--ip", "127.0.0.1"]);
    command.args(["--protocols", "--std", "--server-preference", "--server-defaults", "--vulnerable", "--jsonfile"]);
    command.arg(&found).arg(format!("localhost:{port}")).stdin(Stdio::null()).stdout(Stdio::null());
    Look { running: Running::start(&mut command), found }
}

impl Look {
    /// Waits for its end; what it holds against the server, a line each.
    pub(crate) fn complaints(mut self) -> Vec<String> {
        let ended = until(Duration::from_secs(300), || (!self.running.alive()).then_some(()));
        assert!(ended.is_some(), "testssl.sh does not end");
        let text = std::fs::read_to_string(&self.found).expect("findings");
        let findings: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let seen = |id| findings.iter().any(|finding| word(finding, "id") == id);
        assert!(seen("TLS1_3") && seen("heartbleed") && seen("RC4"), "a whole run: {text}");
        let bad = findings.iter().filter(|finding| !matches!(word(finding, "severity").as_str(), "OK" | "INFO"));
        let bad = bad.filter(|finding| !OF_THE_TEST.iter().any(|id| word(finding, "id").starts_with(id)));
        bad.map(|finding| ["severity", "id", "finding"].map(|name| word(finding, name)).join(" ")).collect()
    }
}

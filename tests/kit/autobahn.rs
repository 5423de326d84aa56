//! Autobahn's test suite of WebSockets (RFC 6455), out of PyPI into a virtual environment of its own; see `wstest.py`.

use super::process::{Running, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Makes the environment `$1` by the directory `$2` once. The packages are old, hence the old setuptools; to pip the suite
/// itself is one of Python 2.
const MAKE: &str = "set -e
    exec 9>\"$1.lock\"; flock 9; [ ! -e \"$1/.complete\" ] || exit 0
    python3 -m venv --clear \"$1\"
    export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1
    \"$1/bin/pip\" install setuptools==80.9.0
    \"$1/bin/pip\" install --no-build-isolation --use-pep517 -r \"$2/wstest.txt\"
    \"$1/bin/pip\" install --target \"$1/suite\" --no-deps --no-compile --only-binary :all: --implementation py --abi none \\
        --python-version 2.7 autobahntestsuite==25.10.1
    \"$1/bin/python\" \"$2/wstest.py\" prepare \"$1/suite\"
    touch \"$1/.complete\"";

/// Longest time of a run.
const LIMIT: Duration = Duration::from_secs(300);

/// The suite, ready to run.
pub struct Suite(PathBuf);

/// The suite at work on one server.
pub struct Run {
    client: Running,
    report: PathBuf,
    agent: &'static str,
}

impl Suite {
    /// Installs the suite once for each version of `wstest.py` and `wstest.txt`; says so and gives nothing where it cannot.
    pub fn install() -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        (MAKE, include_str!("wstest.py"), include_str!("wstest.txt")).hash(&mut hasher);
        let name = format!("venv-autobahn-{:x}", hasher.finish());
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
        let made = Command::new("sh").args(["-c", MAKE, "sh"]).arg(&venv).arg(kit()).output().expect("a shell");
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            super::say(&format!("SKIPPED Autobahn's test suite: it needs python3-venv and PyPI: {why}"));
            return None;
        }
        Some(Self(venv))
    }

    /// Runs the `cases` against `port`, in a directory of its own.
    pub fn start(&self, agent: &'static str, port: u16, cases: &[&str], dir: &Path) -> Run {
        let spec = serde_json::json!({
            "outdir": dir,
            "servers": [{"agent": agent, "url": format!("ws://127.0.0.1:{port}")}],
            "cases": cases,
        });
        let file = dir.join("spec.json");
        fs::write(&file, spec.to_string()).expect("a file");
        let mut command = Command::new(self.0.join("bin/python"));
        // The suite asks for what setuptools says is going away.
        command.args(["-W", "ignore"]).arg(kit().join("wstest.py")).arg("run").arg(self.0.join("suite")).arg(file);
        let client = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        Run { client, report: dir.join("index.json"), agent }
    }
}

impl Run {
    /// How every case ended: `behavior`, `behaviorClose` and `remoteCloseCode`, as JSON.
    pub fn results(mut self) -> BTreeMap<String, [String; 3]> {
        let end = until(LIMIT, || self.client.child().try_wait().expect("a child"));
        assert!(end.is_some_and(|status| status.success()), "{}: {end:?}", self.agent);
        let text = fs::read_to_string(&self.report).expect("a report");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let cases = report[self.agent].as_object().expect("results");
        let what = ["behavior", "behaviorClose", "remoteCloseCode"];
        cases.iter().map(|(case, result)| (case.clone(), what.map(|what| result[what].to_string()))).collect()
    }
}

fn kit() -> PathBuf {
    super::root().join("tests/kit")
}

//! The demo behind its two sockets, and the site file served by one server after the other.
//! https://nginx.org/en/docs/http/ngx_http_upstream_module.html

use crate::kit::process::{Running, TempDir, free_port};
use crate::kit::server::Server;
use crate::kit::{fill, root, tls};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The servers of Django, and the directory they work in.
pub(crate) struct Demo {
    // Declared first: the processes end before the directory goes.
    _up: Running,
    home: TempDir,
}

/// How Django is reached.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// `http` or `uwsgi`.
    pub(crate) directives: &'static str,
    /// Who listens.
    pub(crate) socket: &'static str,
    /// Who listens for WebSockets.
    pub(crate) channels: &'static str,
}

impl Demo {
    /// Starts all once the virtual environment, the database and the static files are there; nothing without Python.
    pub(crate) fn start() -> Option<Self> {
        let python = Command::new("python3").args(["-c", "import ensurepip, venv"]).stderr(Stdio::null()).status();
        if !python.is_ok_and(|status| status.success()) {
            return None;
        }
        let home = TempDir::new("django");
        let mut up = Running::start(up(&home.dir("state")).stdin(Stdio::piped()).stdout(Stdio::piped()));
        let out = up.child().stdout.take().expect("a pipe");
        let ready = BufReader::new(out).lines().map_while(Result::ok).any(|line| line == "ready");
        assert!(ready, "the demo did not come up; see above");
        Some(Self { _up: up, home })
    }

    /// Empties and seeds the database and the media.
    pub(crate) fn reset(&self) {
        let status = up(&self.state()).arg("demo").status().expect("manage.py");
        assert!(status.success(), "manage.py demo: {status}");
    }

    /// The ways to reach Django: of `proxy_pass`, and of `uwsgi_pass` to whoever speaks it here.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let wsgi = [("http", "gunicorn"), ("uwsgi", "gunicorn-uwsgi"), ("uwsgi", "uwsgi")];
        let asgi =
            ["uvicorn", "daphne", "hypercorn"].map(|socket| Way { directives: "http", socket, channels: socket });
        let ways = wsgi.map(|(directives, socket)| Way { directives, socket, channels: "daphne" });
        let is_up = |way: &Way| self.state().join(format!("{}.sock", way.socket)).exists();
        ways.into_iter().chain(asgi).filter(is_up).collect()
    }

    /// Serves the site file; logs go to [`Demo::logs`] of `name`.
    pub(crate) fn serve(&self, program: &Path, name: &str, way: Way) -> Server {
        let (port, logs) = (free_port(), self.logs(name));
        let site = self.site(&port.to_string(), &logs, way);
        Server::start(program, &site, &logs, port)
    }

    /// Serves the site file over TLS, with what certbot writes beside a certificate.
    pub(crate) fn serve_securely(&self, program: &Path, name: &str, way: Way) -> Server {
        let (port, logs) = (free_port(), self.logs(name));
        tls::certificate(&logs, "localhost");
        let (site, secure) = (self.site(&format!("{port} ssl"), &logs, way), logs.join("tls.conf"));
        let (here, site) = (logs.display().to_string(), site.display().to_string());
        fill(&root().join("fixtures/django/tls.conf"), &secure, &[("LOGS", &here), ("SITE", &site)]);
        Server::start(program, &secure, &logs, port)
    }

    /// The site file, listening to `listen` and logging to `logs`.
    fn site(&self, listen: &str, logs: &Path, way: Way) -> PathBuf {
        let project = root().join("fixtures/django");
        let site = logs.join("site.conf");
        let values = [
            ("PORT", listen.to_owned()),
            ("PROJECT", project.display().to_string()),
            ("STATE", self.state().display().to_string()),
            ("LOGS", logs.display().to_string()),
            ("WAY", way.directives.to_owned()),
            ("SOCKET", way.socket.to_owned()),
            ("CHANNELS", way.channels.to_owned()),
        ];
        fill(&project.join("site.conf"), &site, &values.each_ref().map(|(name, value)| (*name, value.as_str())));
        site
    }

    /// Where the server called `name` writes.
    pub(crate) fn logs(&self, name: &str) -> PathBuf {
        self.home.dir(name)
    }

    fn state(&self) -> PathBuf {
        self.home.dir("state")
    }
}

fn up(state: &Path) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let mut command = Command::new(root().join("fixtures/django/up.sh"));
    command.arg(state).env("CARGO_TARGET_DIR", target);
    command
}

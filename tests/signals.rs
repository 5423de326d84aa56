//! The running process: pid file, signals, reload, background (<https://nginx.org/en/docs/control.html>).
#![cfg(test)]

mod kit;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kit::http::{Connection, get};
use kit::process::{Running, TempDir, free_port, until, wait_for_port};
use kit::server::nginx_rs;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(10);

struct Instance {
    dir: TempDir,
    port: u16,
    running: Running,
}

impl Instance {
    /// Serves `site`, in which `%%PORT%%` and `%%DIR%%` are filled in.
    fn start(name: &str, site: &str) -> Self {
        let (dir, port) = (TempDir::new(name), free_port());
        write(&dir, port, site);
        let mut running = Running::start(&mut command(&dir, "daemon off;"));
        assert!(wait_for_port(port, &mut running), "it listens");
        Self { dir, port, running }
    }

    fn text(&self, path: &str) -> String {
        get(self.port, path).map(|response| response.text()).unwrap_or_default()
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

fn write(dir: &TempDir, port: u16, site: &str) {
    let path = dir.path().display().to_string();
    let text = site.replace("%%PORT%%", &port.to_string()).replace("%%DIR%%", &path);
    std::fs::write(dir.path().join("site.conf"), text).expect("a writable prefix");
}

fn command(dir: &TempDir, globals: &str) -> Command {
    let mut command = Command::new(nginx_rs());
    command.arg("-p").arg(dir.path()).args(["-c", "site.conf", "-e", "error.log", "-g"]);
    command.arg(format!("{globals} pid {}/nginx.pid; error_log {0}/error.log notice;", dir.path().display()));
    command
}

fn site(answer: &str) -> String {
    format!(
        "server {{ listen 127.0.0.1:%%PORT%%; access_log %%DIR%%/access.log; location / {{ return 200 \"{answer}\"; }} }}"
    )
}

#[test]
fn hup_serves_the_new_configuration_and_keeps_connections() {
    let server = Instance::start("hup", &site("old"));
    let mut kept = Connection::open(server.port).expect("a connection");
    kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    assert_eq!(kept.read_response(false).expect("a response").text(), "old");
    write(&server.dir, server.port, &site("new"));
    server.running.signal(Signal::SIGHUP);
    assert!(until(SOON, || (server.text("/") == "new").then_some(())).is_some(), "the new text is served");
    kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    assert_eq!(kept.read_response(false).expect("a response").text(), "new");
}

#[test]
fn hup_with_a_broken_configuration_changes_nothing_and_says_why() {
    let server = Instance::start("hup-broken", &site("old"));
    write(&server.dir, server.port, "server { lisen 80; }");
    server.running.signal(Signal::SIGHUP);
    let said = until(SOON, || server.log("error.log").contains("unknown directive \"lisen\"").then_some(()));
    assert!(said.is_some(), "{}", server.log("error.log"));
    assert_eq!(server.text("/"), "old");
}

#[test]
fn hup_opens_and_closes_addresses() {
    let server = Instance::start("hup-listen", &site("one"));
    let other = free_port();
    write(&server.dir, other, &site("two"));
    server.running.signal(Signal::SIGHUP);
    let text = || get(other, "/").ok().map(|response| response.text());
    assert_eq!(until(SOON, text).as_deref(), Some("two"));
    assert!(until(SOON, || get(server.port, "/").is_err().then_some(())).is_some(), "the old address is closed");
}

#[test]
fn hup_keeps_the_counts_of_limits() {
    let site = |key: &str, answer: &str| {
        format!(
            "limit_req_zone {key} zone=a:1m rate=1r/m;\nserver {{ listen 127.0.0.1:%%PORT%%; access_log off; \
             location / {{ return 200 {answer}; }} location /slow {{ limit_req zone=a burst=2 nodelay; try_files /x =204; }} }}"
        )
    };
    let server = Instance::start("zones", &site("$arg_k", "one"));
    let ask = |path: &str| get(server.port, path).expect("an answer").status;
    let statuses: Vec<u16> = (0..5).map(|_| ask("/slow?k=a")).collect();
    assert_eq!(statuses, [204, 204, 204, 503, 503]);
    write(&server.dir, server.port, &site("$arg_k", "two"));
    server.running.signal(Signal::SIGHUP);
    assert!(until(SOON, || (server.text("/") == "two").then_some(())).is_some(), "{}", server.log("error.log"));
    assert_eq!([ask("/slow?k=a"), ask("/slow?k=b")], [503, 204]);
    write(&server.dir, server.port, &site("$arg_other", "three"));
    server.running.signal(Signal::SIGHUP);
    let problem = "limit_req \"a\" uses the \"$arg_other\" key while previously it used the \"$arg_k\" key";
    assert!(until(SOON, || server.log("error.log").contains(problem).then_some(())).is_some());
    assert_eq!((server.text("/").as_str(), ask("/slow?k=a")), ("two", 503));
}

#[test]
fn quit_finishes_what_it_has_begun() {
    let slow = "server { listen 127.0.0.1:%%PORT%%; access_log off; root %%DIR%%; limit_rate 40k; }";
    let mut server = Instance::start("quit", slow);
    std::fs::write(server.dir.path().join("page"), vec![b'x'; 120_000]).expect("a file");
    let mut idle = Connection::open(server.port).expect("a connection");
    idle.send(b"HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    idle.read_response(true).expect("a response");
    let mut busy = Connection::open(server.port).expect("a connection");
    busy.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    busy.read_head().expect("a head");
    server.running.signal(Signal::SIGQUIT);
    assert!(idle.closed_within(SOON), "an idle connection is closed at once");
    assert_eq!(busy.take(120_000).expect("the whole body").len(), 120_000);
    assert_eq!(server.running.wait_end().and_then(|status| status.code()), Some(0));
    assert!(!server.dir.path().join("nginx.pid").exists(), "the pid file is gone");
}

#[test]
fn term_ends_at_once() {
    let mut server = Instance::start("term", &site("x"));
    server.running.signal(Signal::SIGTERM);
    assert_eq!(server.running.wait_end().and_then(|status| status.code()), Some(0));
}

#[test]
fn usr1_opens_the_logs_again() {
    let server = Instance::start("usr1", &site("x"));
    server.text("/first");
    let logged = |name: &str, path: &str| until(SOON, || server.log(name).contains(path).then_some(())).is_some();
    assert!(logged("access.log", "GET /first "));
    let log = server.dir.path().join("access.log");
    std::fs::rename(&log, server.dir.path().join("access.log.1")).expect("a rename");
    server.running.signal(Signal::SIGUSR1);
    assert!(until(SOON, || log.exists().then_some(())).is_some(), "the log is there again");
    server.text("/second");
    assert!(logged("access.log", "GET /second "));
}

#[test]
fn it_goes_into_the_background_and_takes_signals_by_its_pid_file() {
    let (dir, port) = (TempDir::new("daemon"), free_port());
    write(&dir, port, &site("behind"));
    let started = command(&dir, "").status().expect("the program runs");
    assert!(started.success());
    let pid: PathBuf = dir.path().join("nginx.pid");
    assert!(until(SOON, || pid.exists().then_some(())).is_some(), "the pid file is written");
    let text = until(SOON, || get(port, "/").ok().map(|response| response.text()));
    assert_eq!(text.as_deref(), Some("behind"));
    let quit = command(&dir, "").args(["-s", "quit"]).status().expect("the program runs");
    assert!(quit.success());
    assert!(until(SOON, || (!pid.exists()).then_some(())).is_some(), "it ends");
    let again = command(&dir, "").args(["-s", "stop"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("nginx.pid\" failed (2: No such file or directory)"), "{said}");
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn an_address_in_use_is_an_error() {
    let server = Instance::start("in-use", &site("x"));
    let dir = TempDir::new("in-use-2");
    write(&dir, server.port, &site("y"));
    let second = command(&dir, "daemon off;").output().expect("the program runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    let bind = format!("nginx: [emerg] bind() to 127.0.0.1:{} failed (98: Address already in use)\n", server.port);
    assert!(said.starts_with(&bind) && said.ends_with("nginx: [emerg] still could not bind()\n"), "{said}");
    assert_eq!((second.status.code(), server.text("/").as_str()), (Some(1), "x"));
}

//! What runs out while a server runs: descriptors, connections, room on the disk; and what a crash leaves behind.
//! No page of nginx's manual; <https://nginx.org/en/docs/ngx_core_module.html#worker_connections> comes close.
#![cfg(test)]

mod kit;

use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use kit::http::{Connection, get};
use kit::process::{Running, TempDir, free_port, until, wait_for_port};
use kit::server::nginx_rs;

const SOON: Duration = Duration::from_secs(10);

fn start(dir: &TempDir, port: u16, conf: &str) -> Running {
    let path = dir.path().display().to_string();
    let text = conf.replace("%%PORT%%", &port.to_string()).replace("%%DIR%%", &path);
    std::fs::write(dir.path().join("nginx.conf"), text).expect("a writable prefix");
    let mut command = Command::new(nginx_rs());
    command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
    let mut running = Running::start(command.args(["-g", &format!("daemon off; pid {path}/pid;")]));
    assert!(wait_for_port(port, &mut running), "it listens: {}", log(dir));
    running
}

fn log(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default()
}

fn serves(port: u16) -> bool {
    get(port, "/").is_ok_and(|response| response.status == 200)
}

#[test]
fn descriptors_that_ran_out_are_waited_for() {
    let (dir, port) = (TempDir::new("descriptors"), free_port());
    let conf = "worker_rlimit_nofile 48; error_log %%DIR%%/error.log; events {} http { access_log off; \
                server { listen 127.0.0.1:%%PORT%%; location / { return 200 x; } } }";
    let _running = start(&dir, port, conf);
    assert!(serves(port));
    let crowd: Vec<_> = (0..80).map(|_| Connection::open(port).expect("a connection")).collect();
    let complaint = || log(&dir).contains("accept4() failed (24: Too many open files)").then_some(());
    assert!(until(SOON, complaint).is_some(), "{}", log(&dir));
    let lines = log(&dir).lines().count();
    assert!(lines < 20, "accepting pauses instead of filling the log: {lines} lines");
    drop(crowd);
    assert!(until(SOON, || serves(port).then_some(())).is_some(), "it recovers");
}

#[test]
fn connections_that_ran_out_push_idle_ones_away() {
    let (dir, port) = (TempDir::new("connections"), free_port());
    let conf = "error_log %%DIR%%/error.log; events { worker_connections 8; } http { access_log off; \
                server { listen 127.0.0.1:%%PORT%%; location / { return 200 x; } \
                location /loop { proxy_pass http://127.0.0.1:%%PORT%%; } } }";
    let _running = start(&dir, port, conf);
    let mut idle: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = Connection::open(port).expect("a connection");
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
            connection.read_response(false).expect("an answer");
            connection
        })
        .collect();
    assert!(until(SOON, || serves(port).then_some(())).is_some(), "{}", log(&dir));
    assert!(
        log(&dir).contains("[alert]") && log(&dir).contains("8 worker_connections are not enough"),
        "{}",
        log(&dir)
    );
    assert!(idle.iter_mut().any(|connection| connection.closed_within(SOON)), "idle connections make room");
    drop(idle);
    let answer = get(port, "/loop").expect("an answer");
    assert!(answer.status >= 500, "a proxy that asks itself ends: {answer}");
}

#[test]
fn a_full_disk_loses_log_lines_and_nothing_else() {
    let (dir, port) = (TempDir::new("full"), free_port());
    let conf = "error_log %%DIR%%/error.log; events {} http { access_log /dev/full; \
                server { listen 127.0.0.1:%%PORT%%; location / { return 200 x; } } }";
    let _running = start(&dir, port, conf);
    assert!((0..50).all(|_| serves(port)), "{}", log(&dir));
}

#[test]
fn a_socket_file_that_a_crash_left_is_no_obstacle() {
    let (dir, port) = (TempDir::new("stale"), free_port());
    let path = dir.path().join("socket");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists() && UnixStream::connect(&path).is_err(), "nobody listens");
    let conf = "error_log %%DIR%%/error.log; events {} http { access_log off; \
                server { listen 127.0.0.1:%%PORT%%; listen unix:%%DIR%%/socket; location / { return 200 x; } } }";
    let running = start(&dir, port, conf);
    assert!(UnixStream::connect(&path).is_ok(), "{}", log(&dir));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(until(SOON, || (!path.exists()).then_some(())).is_some(), "the file goes with the server");
}

//! Ten reloads a second under load, each with other upstreams, names, locations, addresses and certificates: nothing is lost.
//!
//! <https://nginx.org/en/docs/control.html#reconfiguration>. `RELOAD_SECONDS` says how long; a minute unless said.
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::http::{Connection, get};
use kit::process::{Running, TempDir, free_port, until, wait_for_port};
use kit::server::nginx_rs;
use kit::tls::Secure;
use nix::sys::signal::Signal;

const PAUSE: Duration = Duration::from_millis(100);

/// The ports of a run: the one that stays, the one that comes and goes, the one with TLS.
#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    other: u16,
    secure: u16,
}

/// A configuration that differs in every round but serves the same pages.
fn configuration(dir: &TempDir, round: usize, ports: Ports, upstreams: &[u16; 2]) -> String {
    let (even, path) = (round.is_multiple_of(2), dir.path().display());
    let Ports { plain: port, other, secure } = ports;
    let second = if even { format!("listen 127.0.0.1:{other};") } else { String::new() };
    let order = if even { [upstreams[0], upstreams[1]] } else { [upstreams[1], upstreams[0]] };
    let extra = if round.is_multiple_of(3) { format!("server 127.0.0.1:{};", order[1]) } else { String::new() };
    let locations: String = (0..round % 7).map(|n| format!("location /{n} {{ return 404; }} ")).collect();
    format!(
        "worker_processes {threads}; events {{}} http {{ access_log {path}/access.log;
        limit_rate 0;
        upstream app {{ server 127.0.0.1:{}; {extra} keepalive {}; }}
        server {{ listen 127.0.0.1:{port}; {second} server_name name{round}.test;
            listen 127.0.0.1:{secure} ssl; ssl_certificate {path}/site.pem; ssl_certificate_key {path}/site.pem;
            {locations}
            location / {{ proxy_pass http://app; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $up; }}
            location /static {{ return 200 \"page of round {round}\"; }}
        }}
        map $http_upgrade $up {{ '' ''; default upgrade; }}
        }}",
        order[0],
        8 + round % 3,
        threads = 1 + round % 2,
    )
}

/// Certificates that take turns, each with its key.
fn certificates() -> [Vec<u8>; 2] {
    let read = |name: &str| std::fs::read(kit::root().join("fixtures/certs").join(name)).expect("a certificate");
    [[read("localhost.crt"), read("localhost.key")].concat(), read("renewed.pem")]
}

/// Puts the certificate of a round where the configuration looks for it; only who writes it may read it.
fn renew(dir: &TempDir, pem: &[u8]) {
    let new = dir.path().join("new.pem");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&new);
    file.and_then(|mut file| file.write_all(pem)).expect("a writable prefix");
    std::fs::rename(&new, dir.path().join("site.pem")).expect("a rename");
}

/// The certificate of a file, as the wire has it.
fn own(pem: &[u8]) -> Vec<u8> {
    let certificates = nginx_rs::net::tls::key::certificates(pem).expect("certificates");
    certificates.first().expect("a certificate").to_vec()
}

/// Answers `GET /stream` with an event a tick and never ends, an upgrade with frames echoed, all else with a page.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            bytes.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        bytes.clear();
        if head.starts_with("get /stream") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\n\r\n").ok()?;
            loop {
                stream.write_all(b"data: tick\n\n").ok()?;
                thread::sleep(PAUSE);
            }
        }
        if head.contains("upgrade: websocket") {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            stream.write_all(switch.as_bytes()).ok()?;
            let mut piece = [0; 4096];
            loop {
                let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
                stream.write_all(&piece[..n]).ok()?;
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").ok()?;
    }
}

/// Counts of what clients saw.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    answers: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn check(&self, who: &str, result: Result<String, String>, fits: impl Fn(&str) -> bool) {
        match result {
            Ok(text) if fits(&text) => drop(self.answers.fetch_add(1, Ordering::SeqCst)),
            Ok(text) => self.fail(format!("{who}: {text}")),
            Err(error) => self.fail(format!("{who}: {error}")),
        }
    }

    fn fail(&self, what: String) {
        self.failures.lock().expect("no client panics").push(what);
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }
}

/// A request on a connection of its own each time.
fn fresh(seen: &Seen, port: u16, path: &str, page: &str) {
    while seen.goes_on() {
        let answer = get(port, path).map_err(|error| error.to_string());
        seen.check("fresh", answer.map(|answer| answer.text()), |text| text.starts_with(page));
    }
}

/// Requests one after the other on one connection.
fn kept(seen: &Seen, port: u16, path: &str, page: &str) {
    let mut connection = Connection::open(port).expect("a connection");
    while seen.goes_on() {
        let sent = connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answer = sent.and_then(|()| connection.read_response(false));
        let lasts = answer.as_ref().is_ok_and(|answer| answer.header("Connection") == Some("keep-alive"));
        seen.check("kept", answer.map(|answer| answer.text()).map_err(|e| e.to_string()), |text| {
            text.starts_with(page)
        });
        if !lasts {
            // Its thousand requests are over, which is no failure.
            connection = Connection::open(port).expect("a connection");
        }
    }
}

/// A handshake each time, with either certificate and its own key.
fn handshakes(seen: &Seen, port: u16, certificates: &[Vec<u8>]) {
    while seen.goes_on() {
        let answer = Secure::open(port, "localhost").and_then(|mut client| {
            let known = certificates.contains(&client.certificate());
            Ok(if known { client.get("a", "/")?.text() } else { "a strange certificate".to_owned() })
        });
        seen.check("handshake", answer.map_err(|error| error.to_string()), |text| text == "hello");
    }
}

/// Requests on one connection with TLS, a few a second.
fn kept_secure(seen: &Seen, port: u16) {
    let mut client = Secure::open(port, "localhost").expect("a connection");
    while seen.goes_on() {
        let answer = client.get("a", "/static").map_err(|error| error.to_string());
        let over = answer.as_ref().is_ok_and(|answer| answer.header("Connection") == Some("close"));
        seen.check("kept TLS", answer.map(|answer| answer.text()), |text| text.starts_with("page of round"));
        if over {
            client = Secure::open(port, "localhost").expect("a connection");
        }
        thread::sleep(PAUSE);
    }
}

fn echoes(seen: &Seen, port: u16) {
    let mut socket = Connection::open(port).expect("a connection");
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    socket.send(upgrade).expect("a request");
    assert_eq!(socket.read_head().expect("a head").status, 101);
    while seen.goes_on() {
        let echo = socket.send(b"ping").and_then(|()| socket.take(4));
        let echo = echo.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        seen.check("websocket", echo.map_err(|error| error.to_string()), |text| text == "ping");
        thread::sleep(Duration::from_millis(20));
    }
}

fn events(seen: &Seen, port: u16) {
    let mut connection = Connection::open(port).expect("a connection");
    connection.send(b"GET /stream HTTP/1.0\r\nHost: a\r\n\r\n").expect("a request");
    connection.read_head().expect("a head");
    while seen.goes_on() {
        let event = connection.take(12).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        seen.check("events", event.map_err(|error| error.to_string()), |text| text == "data: tick\n\n");
    }
}

/// What the worker holds in memory, in kilobytes.
fn memory(master: u32) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
    let worker = children.split_whitespace().next().unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[test]
fn nothing_is_lost_over_hundreds_of_reloads() {
    let limit = std::env::var("RELOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let limit = Duration::from_secs(limit);
    let (dir, port, secure) = (TempDir::new("reload"), free_port(), free_port());
    let ports = Ports { plain: port, other: free_port(), secure };
    let (upstreams, pems) = ([upstream(), upstream()], certificates());
    let own = pems.each_ref().map(|pem| own(pem));
    let write = |round: usize| {
        renew(&dir, &pems[round % 2]);
        let (new, conf) = (dir.path().join("new.conf"), dir.path().join("nginx.conf"));
        std::fs::write(&new, configuration(&dir, round, ports, &upstreams)).expect("a writable prefix");
        std::fs::rename(&new, &conf).expect("a rename");
    };
    write(0);
    let mut command = std::process::Command::new(nginx_rs());
    command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
    command.args(["-g", &format!("daemon off; user nobody nogroup; pid {}/nginx.pid;", dir.path().display())]);
    let mut running = Running::start(&mut command);
    assert!(wait_for_port(port, &mut running), "it listens");
    let master = running.pid().as_raw().unsigned_abs();
    let seen = Seen::default();
    let (mut rounds, mut memories) = (0, Vec::new());
    let log = || std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default();
    thread::scope(|scope| {
        scope.spawn(|| fresh(&seen, port, "/", "hello"));
        scope.spawn(|| fresh(&seen, port, "/static", "page of round"));
        scope.spawn(|| kept(&seen, port, "/", "hello"));
        scope.spawn(|| kept(&seen, port, "/static", "page of round"));
        scope.spawn(|| handshakes(&seen, secure, &own));
        scope.spawn(|| kept_secure(&seen, secure));
        scope.spawn(|| echoes(&seen, port));
        scope.spawn(|| events(&seen, port));
        let begun = Instant::now();
        while begun.elapsed() < limit && seen.failures.lock().expect("no client panics").is_empty() {
            rounds += 1;
            write(rounds);
            running.signal(Signal::SIGHUP);
            thread::sleep(PAUSE);
            memories.push(memory(master));
        }
        seen.over.store(true, Ordering::SeqCst);
    });
    let failures = seen.failures.lock().expect("no client panics");
    assert!(failures.is_empty(), "{failures:#?}\nafter {rounds} reloads\n{}", log());
    let want = format!("page of round {rounds}");
    let last = until(Duration::from_secs(10), || (get(port, "/static").ok()?.text() == want).then_some(()));
    assert!(last.is_some(), "the last configuration is served: {}", log());
    let shown = Secure::open(secure, "localhost").expect("a handshake").certificate();
    assert!(shown == own[rounds % 2], "the last certificate is shown: {}", log());
    let answers = seen.answers.load(Ordering::SeqCst);
    // What a run settles at is reached after a quarter of it.
    let middle = |part: &[usize]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or_default()
    };
    let (early, late) = (middle(&memories[rounds / 4..rounds / 2]), middle(&memories[rounds * 3 / 4..]));
    kit::say(&format!("{answers} answers over {rounds} reloads, memory {early} kB, then {late} kB"));
    assert!(late < early + early / 5, "memory grows: {memories:?}");
    assert!(answers > rounds * 10, "{answers} answers over {rounds} reloads");
}

//! Connections that switched protocols: how long they last, and what the logs say when they end.
//!
//! <https://nginx.org/en/docs/http/websocket.html>
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, say};

/// What one side does.
type Act = fn(&mut TcpStream);

/// What server and client do, what the client hears before the end, and what the logs say of it.
type Case = (&'static str, Act, Act, Option<&'static str>, &'static str, &'static str);

const TABLE: [Case; 5] = [
    ("silence", listen, |_| {}, Some(""), "101 OK 0", UPSTREAM),
    ("the server speaks", |s| (drip(s), listen(s)).1, |_| {}, Some("......"), "101 OK 6", UPSTREAM),
    ("the client speaks", |s| (hear(s), say(s, "all")).1, drip, Some("all"), "101 OK 3", ""),
    ("the client is deaf", |s| while s.write_all(&[0; 65536]).is_ok() {}, |_| sleep(20), None, "101  ", CLIENT),
    ("the server leaves", |s| say(s, "bye"), |_| {}, Some("bye"), "101 OK 3", ""),
];
const UPSTREAM: &str = "upstream timed out (110: Connection timed out) while proxying upgraded connection";
const CLIENT: &str = "client timed out (110: Connection timed out) while proxying upgraded connection";

/// Waits for some tenths of a second.
fn sleep(tenths: u64) {
    thread::sleep(Duration::from_millis(100 * tenths));
}

/// Takes everything, says nothing.
fn listen(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// Says six bytes, each within the time limit of the one before, all of them beyond it.
fn drip(stream: &mut TcpStream) {
    for _ in 0..6 {
        sleep(2);
        let _ = stream.write_all(b".");
    }
}

/// Waits for these six.
fn hear(stream: &mut TcpStream) {
    let _ = stream.read_exact(&mut [0; 6]);
}

#[test]
fn a_conversation_ends_when_nothing_passes() {
    holds(&nginx_rs());
}

#[test]
fn nginx_ends_it_too() {
    if let Some(nginx) = kit::reference::nginx() {
        holds(&nginx);
    }
}

fn holds(program: &Path) {
    let (dir, port) = (TempDir::new("upgraded"), free_port());
    let upstreams = TABLE.map(|(_, act, ..)| {
        Upstream::start(move |stream| {
            say(stream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
            act(stream);
        })
    });
    let location = |(number, upstream): (usize, &Upstream)| {
        format!("location /{number} {{ proxy_pass http://127.0.0.1:{}; }}\n", upstream.port)
    };
    let text = format!(
        "log_format seen '$uri $status $request_completion $bytes_sent';\n\
         server {{ listen 127.0.0.1:{port}; error_log {0}/error.log info; access_log {0}/access.log seen;\n\
         proxy_read_timeout 700ms; send_timeout 700ms; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; {1} }}\n",
        dir.path().display(),
        upstreams.iter().enumerate().map(location).collect::<String>()
    );
    let site = dir.path().join("site.conf");
    std::fs::write(&site, text).expect("a writable prefix");
    let _server = Server::start(program, &site, dir.path(), port);
    let log = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    for (number, (name, _, act, heard, access, error)) in TABLE.iter().enumerate() {
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        say(&mut client, &format!("GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        act(&mut client);
        if let Some(heard) = heard {
            let mut text = String::new();
            client.read_to_string(&mut text).expect("an end");
            assert_eq!(text, *heard, "{name}");
        }
        let lines =
            || log("access.log").lines().find(|line| line.starts_with(&format!("/{number} "))).map(str::to_owned);
        let line = until(Duration::from_secs(10), lines).expect("a line of the access log");
        let (start, bytes) = line.rsplit_once(' ').expect("bytes");
        let body = bytes.parse::<usize>().expect("a number") - head.len();
        let seen = if heard.is_some() { format!("{start} {body}") } else { format!("{start} ") };
        assert_eq!(seen, format!("/{number} {access}"), "{name}");
        let complaint =
            log("error.log").lines().find(|line| line.contains(&format!("GET /{number} "))).map(str::to_owned);
        assert_eq!(complaint.is_some(), !error.is_empty(), "{name}: {complaint:?}");
        // The C library of nginx's package has words of its own.
        let complaint = complaint.unwrap_or_default().replace("Operation timed out", "Connection timed out");
        assert!(complaint.contains(error), "{name}: {complaint}");
    }
}

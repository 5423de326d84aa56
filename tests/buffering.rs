//! Slow clients and the upstream servers behind them: who waits for whom, and what that costs in memory.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use kit::h2::{self, Connection, frame};
use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, say};

const MIB: usize = 1 << 20;

/// An upstream that answers every request with `size` bytes and tells when it is rid of them.
fn upstream(size: usize, head: &'static str) -> (u16, Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (done, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let done = done.clone();
            thread::spawn(move || send(stream, size, head, &done));
        }
    });
    (port, told)
}

fn send(mut stream: TcpStream, size: usize, head: &str, done: &Sender<Instant>) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        request.extend(byte);
    }
    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {size}\r\n\r\n").as_bytes()).ok()?;
    let (block, mut sent) = (block(), 0);
    while sent < size {
        let piece = &block[..block.len().min(size - sent)];
        stream.write_all(piece).ok()?;
        sent += piece.len();
    }
    done.send(Instant::now()).ok()
}

/// What bodies repeat; its length is a prime, so that no buffer's size divides it.
fn block() -> Vec<u8> {
    (0..65521usize).map(|at| u8::try_from((at ^ (at >> 8)) & 0xff).unwrap_or_default()).collect()
}

/// Whether `bytes` are what stands behind the first `start` bytes of a body.
fn is_right(block: &[u8], start: usize, mut bytes: &[u8]) -> bool {
    let mut at = start % block.len();
    while !bytes.is_empty() {
        let len = bytes.len().min(block.len() - at);
        if bytes[..len] != block[at..at + len] {
            return false;
        }
        (bytes, at) = (&bytes[len..], 0);
    }
    true
}

fn front(name: &str, port: u16, location: &str) -> (TempDir, Server) {
    let (dir, listen) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "server {{ http2 on; listen 127.0.0.1:{listen} sndbuf=64k; access_log off; error_log {0}/error.log info;\n\
         client_body_temp_path {0}/body; client_max_body_size 0; send_timeout 30s;\n\
         location / {{ proxy_pass http://127.0.0.1:{port}; proxy_temp_path {0}/temp 1 2; {location} }} }}\n",
        dir.path().display()
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), listen);
    (dir, server)
}

fn error_log(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default()
}

/// A client that has asked and read nothing yet.
fn ask(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("a request");
    stream
}

/// Reads the rest of a response and holds its body against the pattern; returns its length.
fn check(mut stream: TcpStream) -> usize {
    let (block, mut piece, mut bytes, mut at) = (block(), vec![0; 256 * 1024], Vec::new(), None);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return at.unwrap_or_default(),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) => panic!("after {at:?} bytes: {error}"),
        }
        if at.is_none() {
            let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
            bytes.drain(..end + 4);
            at = Some(0);
        }
        let start = at.unwrap_or_default();
        assert!(is_right(&block, start, &bytes), "wrong behind {start}");
        at = Some(start + bytes.len());
        bytes.clear();
    }
}

#[test]
fn a_slow_client_holds_no_upstream_and_little_memory() {
    let (port, told) = upstream(200 * MIB, "");
    let (dir, server) = front("slow-client", port, "");
    let before = server.memory();
    let client = ask(&server);
    told.recv_timeout(Duration::from_secs(30)).expect("the upstream is free although the client reads nothing");
    let grown = server.memory().saturating_sub(before);
    // A fraction of a MiB, but the kernel may count some of it in huge pages of 2 MiB.
    assert!(grown < 16 * MIB, "{grown} bytes more in memory");
    assert_eq!(check(client), 200 * MIB);
    let log = error_log(&dir);
    assert!(log.contains("[warn]") && log.contains("an upstream response is buffered to a temporary file "), "{log}");
    assert!(log.contains(&format!("while reading upstream, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:{port}/\"")), "{log}");
}

/// A client that has asked over HTTP/2 and makes no room beyond the first 64 KB.
fn ask_http2(server: &Server) -> Connection {
    let mut client = Connection::open(server.port, &[]);
    assert!(client.send(&frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &h2::GET)));
    client
}

/// The next piece of a body.
fn data(client: &mut Connection) -> h2::Frame {
    let data = client.find(|frame| matches!(frame.kind, h2::DATA | h2::RST_STREAM | h2::GOAWAY)).expect("more");
    assert_eq!(data.kind, h2::DATA, "{data:?}");
    data
}

/// Reads the rest of a response and holds its body against the pattern; returns its length.
fn check_http2(mut client: Connection) -> usize {
    let (block, mut at) = (block(), 0);
    loop {
        let data = data(&mut client);
        assert!(is_right(&block, at, &data.payload), "wrong behind {at}");
        at += data.payload.len();
        if data.flags & h2::END_STREAM > 0 {
            return at;
        }
        let more = u32::try_from(data.payload.len()).expect("a frame").to_be_bytes();
        let updates = [0, 1].map(|stream| frame(h2::WINDOW_UPDATE, 0, stream, &more));
        assert!(data.payload.is_empty() || client.send(&updates.concat()));
    }
}

#[test]
fn a_slow_client_of_http2_holds_no_upstream_and_little_memory() {
    for (name, location) in [("slow-h2", ""), ("slow-h2-rate", "limit_rate 4m;")] {
        let (port, told) = upstream(32 * MIB, "");
        let (dir, server) = front(name, port, location);
        let before = server.memory();
        let client = ask_http2(&server);
        told.recv_timeout(Duration::from_secs(30)).expect("the upstream is free although the client makes no room");
        let grown = server.memory().saturating_sub(before);
        assert!(grown < 16 * MIB, "{grown} bytes more in memory");
        if location.is_empty() {
            assert_eq!(check_http2(client), 32 * MIB);
        }
        assert!(
            error_log(&dir).contains("an upstream response is buffered to a temporary file ") || !location.is_empty()
        );
    }
    let (port, told) = upstream(32 * MIB, "");
    let (_dir, server) = front("unbuffered-h2", port, "proxy_buffering off;");
    let client = ask_http2(&server);
    assert!(told.recv_timeout(Duration::from_millis(700)).is_err(), "the upstream waits for the client");
    assert_eq!(check_http2(client), 32 * MIB);
}

#[test]
fn a_slow_client_holds_no_upstream_that_speaks_http2() {
    let (port, told) = upstream(32 * MIB, "");
    let (_back, speaker) = front("h2-back", port, "proxy_buffering off;");
    let (dir, server) = front("h2-upstream", speaker.port, "proxy_http_version 2;");
    let before = server.memory();
    let client = ask(&server);
    told.recv_timeout(Duration::from_secs(30)).expect("the upstream is free although the client reads nothing");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more in memory");
    assert_eq!(check(client), 32 * MIB);
    assert!(error_log(&dir).contains("an upstream response is buffered to a temporary file "));
}

#[test]
fn early_hints_pass_from_http1_to_http2_and_back() {
    let upstream = Upstream::start(|stream| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Accel-Limit-Rate: 1\r\n\r\n";
        say(stream, &hints.repeat(2));
        thread::sleep(Duration::from_millis(50));
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    });
    let (_back, speaker) = front("hints-back", upstream.port, "early_hints 1;");
    let (_dir, server) = front("hints", speaker.port, "early_hints 1; proxy_http_version 2;");
    let mut heard = String::new();
    ask(&server).read_to_string(&mut heard).expect("an answer");
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    assert!(heard.starts_with(&format!("{}HTTP/1.1 200 OK\r\n", hints.repeat(2))), "{heard}");
    assert!(heard.ends_with("\r\n\r\nhi"), "{heard}");
}

#[test]
fn a_limited_rate_holds_no_upstream() {
    let (port, told) = upstream(8 * MIB, "");
    let (_dir, server) = front("limited", port, "limit_rate 4m;");
    let client = ask(&server);
    let reader = thread::spawn(move || check(client));
    told.recv_timeout(Duration::from_millis(1500)).expect("the upstream is free at once");
    assert_eq!(reader.join().expect("a reader"), 8 * MIB);
}

#[test]
fn compressed_responses_are_read_ahead_too() {
    let (port, told) = upstream(32 * MIB, "Content-Type: text/html\r\n");
    let (_dir, server) = front("compressed", port, "gzip on; gzip_comp_level 1;");
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").expect("a request");
    told.recv_timeout(Duration::from_secs(30)).expect("the upstream is free although the client reads nothing");
}

#[test]
fn the_file_has_an_end() {
    for (name, location) in [
        ("no-file", "proxy_max_temp_file_size 0;"),
        ("small-file", "proxy_max_temp_file_size 1m;"),
        ("unbuffered", "proxy_buffering off;"),
    ] {
        let (port, told) = upstream(32 * MIB, "");
        let (dir, server) = front(name, port, location);
        let client = ask(&server);
        assert!(told.recv_timeout(Duration::from_millis(700)).is_err(), "{name}: the upstream waits for the client");
        assert_eq!(check(client), 32 * MIB, "{name}");
        assert_eq!(error_log(&dir).contains("temporary file"), name == "small-file");
    }
}

#[test]
fn the_upstream_may_ask_not_to_be_buffered() {
    let (port, told) = upstream(32 * MIB, "X-Accel-Buffering: no\r\n");
    let (_dir, server) = front("accel-buffering", port, "");
    let client = ask(&server);
    assert!(told.recv_timeout(Duration::from_millis(700)).is_err(), "the upstream waits for the client");
    assert_eq!(check(client), 32 * MIB);
}

#[test]
fn a_client_that_leaves_holds_no_upstream() {
    for (name, location, closed) in [
        ("left", "", true),
        ("left-unbuffered", "proxy_buffering off;", true),
        ("left-gzip", "gzip on;", true),
        ("left-ignored", "proxy_ignore_client_abort on;", false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (dir, server) = front(name, listener.local_addr().expect("an address").port(), location);
        let client = ask(&server);
        let (mut upstream, _) = listener.accept().expect("the request");
        upstream.set_read_timeout(Some(Duration::from_millis(700))).expect("a timeout");
        let _ = upstream.read(&mut [0; 4096]).expect("the request");
        write!(upstream, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nsome")
            .expect("a head");
        thread::sleep(Duration::from_millis(100));
        drop(client);
        assert_eq!(upstream.read(&mut [0; 16]).ok(), closed.then_some(0), "{name}");
        let left = "client prematurely closed connection, so upstream connection is closed too";
        let logged = || error_log(&dir).contains(left).then_some(());
        let limit = Duration::from_millis(if closed { 5000 } else { 100 });
        assert_eq!(until(limit, logged).is_some(), closed, "{name}: {}", error_log(&dir));
    }
}

#[test]
fn a_slow_upload_holds_no_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (dir, server) = front("slow-upload", port, "");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    let size = 2 * MIB;
    write!(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").expect("a head");
    for at in 0..8 {
        assert!(listener.accept().is_err(), "the upstream is asked after {at} eighths of the body");
        client.write_all(&vec![b'x'; size / 8]).expect("a piece");
        thread::sleep(Duration::from_millis(50));
    }
    listener.set_nonblocking(false).expect("a listener that waits");
    let (mut upstream, _) = listener.accept().expect("the request");
    let (mut received, mut piece) = (0, vec![0; MIB]);
    while received < size {
        let n = upstream.read(&mut piece).expect("the body");
        received += piece[..n].iter().filter(|b| **b == b'x').count();
    }
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("an answer");
    let n = client.read(&mut piece).expect("an answer");
    assert!(piece[..n].starts_with(b"HTTP/1.1 204"));
    assert!(
        error_log(&dir).contains("[warn]")
            && error_log(&dir).contains("a client request body is buffered to a temporary file ")
    );
}

/// How long the clients below are slow; `SLOW` sets the seconds, and with it the size is 1 GiB and the rate 1 MiB a second.
fn slowness() -> (usize, usize, u32) {
    match std::env::var("SLOW").ok().and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => (1024 * MIB, MIB, seconds),
        None => (100 * MIB, 4 * MIB, 2),
    }
}

/// Does `step` with a twentieth of the rate twenty times a second, until the client may be fast.
fn slowly(mut step: impl FnMut(usize)) {
    let (_, rate, seconds) = slowness();
    for _ in 0..20 * seconds {
        step(rate / 20);
        thread::sleep(Duration::from_millis(50));
    }
}

fn read_head(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
}

/// Reads a response at a fixed rate, then fast.
fn read_slowly(mut client: TcpStream) -> usize {
    let (mut bytes, mut piece) = (0, vec![0; MIB]);
    read_head(&mut client);
    slowly(|most| bytes += client.read(&mut piece[..most]).expect("more"));
    loop {
        match client.read(&mut piece).expect("more") {
            0 => return bytes,
            n => bytes += n,
        }
    }
}

/// The same over HTTP/2.
fn make_room_slowly(mut client: Connection) -> usize {
    let room = |most: usize| {
        let more = u32::try_from(most).expect("a window").to_be_bytes();
        [0, 1].map(|stream| frame(h2::WINDOW_UPDATE, 0, stream, &more)).concat()
    };
    let (mut bytes, mut granted) = (0, 0);
    slowly(|most| {
        assert!(client.send(&room(most)));
        granted += most;
        while bytes < granted {
            bytes += data(&mut client).payload.len();
        }
    });
    assert!(client.send(&room(1 << 30)));
    loop {
        let data = data(&mut client);
        bytes += data.payload.len();
        if data.flags & h2::END_STREAM > 0 {
            return bytes;
        }
    }
}

/// Sends a body at a fixed rate, then fast, and returns what comes back.
fn upload_slowly(port: u16, size: usize) -> String {
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n")
        .expect("a head");
    let (piece, mut left) = (vec![b'x'; MIB], size);
    slowly(|most| {
        client.write_all(&piece[..most.min(left)]).expect("a piece");
        left -= most.min(left);
    });
    while left > 0 {
        client.write_all(&piece[..MIB.min(left)]).expect("a piece");
        left -= MIB.min(left);
    }
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("an answer");
    heard
}

/// A server of uploads; tells how long each held it.
fn taker(size: usize) -> (u16, Receiver<Duration>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (done, told) = channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the request");
        let (began, mut received, mut piece) = (Instant::now(), 0, vec![0; MIB]);
        read_head(&mut stream);
        while received < size {
            received += stream.read(&mut piece).expect("the body");
        }
        say(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n");
        done.send(began.elapsed())
    });
    (port, told)
}

#[test]
fn clients_at_a_fixed_rate_hold_no_application() {
    let (size, ..) = slowness();
    let ((port, told), (up, took)) = (upstream(size, ""), taker(size));
    let (_dir, server) = front("fixed-rate", port, "");
    let (_up, uploads) = front("fixed-rate-up", up, "");
    let before = server.memory() + uploads.memory();
    let began = Instant::now();
    let (plain, http2) = (ask(&server), ask_http2(&server));
    let readers = [thread::spawn(move || read_slowly(plain)), thread::spawn(move || make_room_slowly(http2))];
    let to = uploads.port;
    let uploader = thread::spawn(move || upload_slowly(to, size));
    let held =
        [(); 2].map(|()| told.recv_timeout(Duration::from_secs(60)).expect("free at once").duration_since(began));
    let mut most = 0;
    while !uploader.is_finished() || !readers.iter().all(thread::JoinHandle::is_finished) {
        most = most.max(server.memory() + uploads.memory());
        thread::sleep(Duration::from_millis(20));
    }
    for reader in readers {
        assert_eq!(reader.join().expect("a reader"), size);
    }
    assert!(uploader.join().expect("an uploader").starts_with("HTTP/1.1 204 "));
    let took = took.recv().expect("an upload");
    let (slow, grown) = (began.elapsed(), most.saturating_sub(before));
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(grown < 32 * MIB, "{grown} bytes more in memory");
    let (size, grown) = (size / MIB, grown / 1024);
    kit::say(&format!("{size} MiB each in {slow:?}: held for {held:?} and {took:?}, {grown} KiB more in memory"));
}

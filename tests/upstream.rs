//! Upstream servers that misbehave, die or are slow, and what the client and the other servers then see.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html>
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kit::http::{Connection, exchange, get};
use kit::process::TempDir;
use kit::process::free_port;
use kit::server::{Server, nginx_rs};

/// An upstream that does the same with every connection and counts them and the requests on them.
struct Upstream {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// Those that have not ended.
    open: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    /// Answers every request with what `answer` makes of it; an empty answer closes the connection.
    fn start(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let count = || Arc::new(AtomicUsize::new(0));
        let (connections, open, requests, answer) = (count(), count(), count(), Arc::new(answer));
        let (counted, alive, heard) = (Arc::clone(&connections), Arc::clone(&open), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                alive.fetch_add(1, Ordering::SeqCst);
                let (alive, heard, answer) = (Arc::clone(&alive), Arc::clone(&heard), Arc::clone(&answer));
                thread::spawn(move || {
                    converse(stream, &heard, &*answer);
                    alive.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, connections, open, requests }
    }

    fn named(name: &'static str) -> Self {
        Self::start(move |_| reply(name.as_bytes()))
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn converse(mut stream: TcpStream, heard: &AtomicUsize, answer: &dyn Fn(&[u8]) -> Vec<u8>) {
    while let Some(request) = read_request(&mut stream) {
        heard.fetch_add(1, Ordering::SeqCst);
        let answer = answer(&request);
        if answer.is_empty()
            || stream.write_all(&answer).is_err()
            || !answer.windows(11).any(|part| part == b"\r\nContent-L")
        {
            return;
        }
    }
}

/// A head and the body its Content-Length announces.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 65536]);
    loop {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0usize) {
                return Some(bytes);
            }
        }
        match stream.read(&mut piece) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
}

fn reply(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// nginx-rs in front of `servers`, the lines of an `upstream` block.
fn front(name: &str, servers: &str, location: &str) -> (TempDir, Server) {
    let (dir, port) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "upstream app {{ {servers} }}\nserver {{ listen 127.0.0.1:{port}; access_log off; client_max_body_size 0;\n\
         client_body_temp_path {}/body; error_log {0}/error.log info;\n\
         location / {{ proxy_pass http://app; {location} }} }}\n",
        dir.path().display()
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    (dir, server)
}

fn at(upstream: &Upstream) -> String {
    format!("server 127.0.0.1:{}", upstream.port)
}

fn error_log(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default()
}

#[test]
fn weights_are_smoothed_as_nginx_smooths_them() {
    let (a, b, c) = (Upstream::named("a"), Upstream::named("b"), Upstream::named("c"));
    let servers = format!("{} weight=5; {}; {};", at(&a), at(&b), at(&c));
    let (_dir, server) = front("weights", &servers, "");
    let sequence: String = (0..14).map(|_| get(server.port, "/").expect("a response").text()).collect();
    assert_eq!(sequence, "aabacaaaabacaa");
}

#[test]
fn a_dead_server_is_passed_over_and_then_left_alone() {
    let (alive, dead) = (Upstream::named("alive"), free_port());
    let servers = format!("server 127.0.0.1:{dead}; {};", at(&alive));
    let (dir, server) = front("dead", &servers, "");
    for _ in 0..4 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "alive");
    }
    let log = error_log(&dir);
    assert_eq!(
        log.matches("connect() failed (111: Connection refused) while connecting to upstream").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("upstream server temporarily disabled while connecting to upstream").count(), 1, "{log}");
}

#[test]
fn backups_serve_when_nobody_else_does_and_down_never() {
    let (backup, down) = (Upstream::named("backup"), Upstream::named("down"));
    let servers = format!("server 127.0.0.1:{}; {} down; {} backup;", free_port(), at(&down), at(&backup));
    let (_dir, server) = front("backup", &servers, "");
    for _ in 0..3 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "backup");
    }
    assert_eq!(down.requests(), 0);
}

#[test]
fn what_may_not_be_repeated_is_sent_once() {
    let (closes, other) = (Upstream::start(|_| Vec::new()), Upstream::named("other"));
    let servers = format!("{} max_fails=0; {} backup;", at(&closes), at(&other));
    let (_dir, server) = front("once", &servers, "");
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert_eq!(exchange(server.port, post).expect("a response").status, 502);
    assert_eq!((closes.requests(), other.requests()), (1, 0));
    assert_eq!(get(server.port, "/").expect("a response").text(), "other");
}

#[test]
fn broken_heads_are_bad_gateways_with_nginx_words() {
    let table: [(&'static [u8], &str); 4] = [
        (b"", "upstream prematurely closed connection while reading response header from upstream"),
        (
            b"HTTP/1.1 200 OK\r\nContent-",
            "upstream prematurely closed connection while reading response header from upstream",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "upstream sent invalid \"Content-Length\" header"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        ),
    ];
    for (answer, want) in table {
        let upstream = Upstream::start(move |_| answer.to_vec());
        let (dir, server) = front("broken", &format!("{};", at(&upstream)), "");
        assert_eq!(get(server.port, "/").expect("a response").status, 502, "{want}");
        let log = error_log(&dir);
        assert!(log.contains(want) && log.contains(", upstream: \"http://127.0.0.1:"), "{want}\n{log}");
    }
}

#[test]
fn what_has_no_head_is_passed_on_as_it_is() {
    let upstream = Upstream::start(|_| b"plain 9\r\n\r\nmore".to_vec());
    let (dir, server) = front("headless", &format!("{};", at(&upstream)), "");
    let response = get(server.port, "/").expect("a response");
    assert_eq!((response.status, response.text().as_str()), (9, "more"));
    assert!(
        error_log(&dir).contains("upstream sent no valid HTTP/1.0 header while reading response header from upstream")
    );
}

#[test]
fn an_upgrade_nobody_asked_for_ends_the_connection() {
    let upstream = Upstream::start(|_| b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nbehind".to_vec());
    for buffering in ["on", "off"] {
        let location = format!("proxy_buffering {buffering};");
        let (_dir, server) = front("unasked", &format!("{};", at(&upstream)), &location);
        let mut client = Connection::open(server.port).expect("a connection");
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
        let head = client.read_head().expect("a head");
        assert_eq!((head.status, head.header("Connection"), head.header("Upgrade")), (101, Some("upgrade"), Some("x")));
        assert!(client.take(1).is_err(), "nothing behind it, buffering {buffering}");
        assert!(client.closed_within(Duration::from_secs(5)));
    }
}

#[test]
fn a_head_larger_than_its_buffer_is_refused() {
    let upstream = Upstream::start(|_| [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 9000], b"\r\n\r\n"].concat());
    let (dir, server) = front("large-head", &format!("{};", at(&upstream)), "proxy_buffer_size 8k;");
    assert_eq!(get(server.port, "/").expect("a response").status, 502);
    assert!(error_log(&dir).contains("upstream sent too big header while reading response header from upstream"));
}

#[test]
fn a_silent_server_is_a_gateway_timeout() {
    let upstream = Upstream::start(|_| {
        thread::sleep(Duration::from_secs(20));
        Vec::new()
    });
    let (dir, server) = front("silent", &format!("{};", at(&upstream)), "proxy_read_timeout 300ms;");
    assert_eq!(get(server.port, "/").expect("a response").status, 504);
    let want = "upstream timed out (110: Connection timed out) while reading response header from upstream";
    assert!(error_log(&dir).contains(want), "{}", error_log(&dir));
}

#[test]
fn a_body_that_ends_too_early_ends_the_connection() {
    let upstream = Upstream::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec());
    let (dir, server) = front("short", &format!("{};", at(&upstream)), "");
    let mut client = Connection::open(server.port).expect("a connection");
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    assert_eq!(client.read_head().expect("a head").header("content-length"), Some("100"));
    assert_eq!(client.take(5).expect("what came"), b"short");
    assert!(client.closed_within(Duration::from_secs(5)), "the client must not take it for whole");
    assert!(error_log(&dir).contains("upstream prematurely closed connection while reading upstream"));
}

#[test]
fn connections_are_kept_and_replaced_when_they_die() {
    let kept = Upstream::named("kept");
    let (_dir, server) = front("kept", &format!("{};", at(&kept)), "");
    for _ in 0..5 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "kept");
    }
    assert_eq!(kept.connections.load(Ordering::SeqCst), 1);
    // Answers, then closes without saying so: the next request needs a new connection and must not notice.
    let closes = Upstream::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let (_dir, server) = front("closes", &format!("{};", at(&closes)), "");
    for _ in 0..5 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "ok");
    }
    assert_eq!(closes.connections.load(Ordering::SeqCst), 5);
}

#[test]
fn connections_are_kept_where_the_next_server_answers_for_one_that_has_nothing() {
    let (lacks, has) =
        (Upstream::start(|_| b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n".to_vec()), Upstream::named("has"));
    let servers = format!("{}; {} backup;", at(&lacks), at(&has));
    let (_dir, server) = front("lacks", &servers, "proxy_next_upstream http_404;");
    for _ in 0..3 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "has");
    }
    assert_eq!((lacks.requests(), lacks.connections.load(Ordering::SeqCst)), (3, 1));
}

#[test]
fn servers_at_one_address_share_their_connections() {
    let twice = Upstream::named("twice");
    let (_dir, server) = front("twice", &format!("{0}; {0} weight=2;", at(&twice)), "");
    for _ in 0..6 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "twice");
    }
    assert_eq!(twice.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_reply_is_no_more_under_way_when_its_head_came_where_heads_are_compared() {
    let quick = || Upstream::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegins".to_vec());
    let (strong, weak) = (quick(), quick());
    let servers = format!("least_time header inflight; {} weight=20; {};", at(&strong), at(&weak));
    let (_dir, server) = front("inflight", &servers, "proxy_buffering off;");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Connection::open(server.port).expect("a connection");
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
        client.take(1).expect("a head");
        clients.push(client);
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!((strong.requests(), weak.requests()), (3, 0));
}

#[test]
fn servers_that_are_equally_quick_take_turns_as_nginx_has_it() {
    let slow = |name: &'static str| {
        Upstream::start(move |_| {
            thread::sleep(Duration::from_millis(1500));
            reply(name.as_bytes())
        })
    };
    let (a, b, c) = (slow("a"), slow("b"), slow("c"));
    let servers = format!("least_time header; {}; {} weight=2; {} weight=4;", at(&a), at(&b), at(&c));
    let (_dir, server) = front("quick", &servers, "");
    let port = server.port;
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let asked = thread::spawn(move || get(port, "/").expect("a response").text());
            thread::sleep(Duration::from_millis(100));
            asked
        })
        .collect();
    let got: Vec<_> = asked.into_iter().map(|asked| asked.join().expect("an answer")).collect();
    assert_eq!(got.concat(), "ccbcba");
}

#[test]
fn connections_above_the_limit_are_kept_only_while_others_are_busy() {
    let slow = || {
        Upstream::start(|_| {
            thread::sleep(Duration::from_millis(2));
            reply(b"slow")
        })
    };
    let upstream = slow();
    let (_dir, server) = front("surplus", &format!("{}; keepalive 1;", at(&upstream)), "");
    let ask = |times: usize| {
        let mut connection = Connection::open(server.port).expect("a connection");
        for _ in 0..times {
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request sent");
            assert_eq!(connection.read_response(false).expect("a response").text(), "slow");
        }
    };
    let count = || {
        let before = upstream.connections.load(Ordering::SeqCst);
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(|| ask(50)))));
        upstream.connections.load(Ordering::SeqCst) - before
    };
    // A machine that is busy itself may let a pause grow too long.
    assert!((0..5).any(|_| count() < 100), "400 requests take hundreds of connections");
    let few = || upstream.open.load(Ordering::SeqCst) <= 1;
    assert!((0..100).any(|_| few() || (thread::sleep(Duration::from_millis(50)), false).1), "connections stay");
    // Where nothing is under way the limit is kept at once.
    let (a, b) = (slow(), slow());
    let (_dir, server) = front("limit", &format!("{}; {}; keepalive 1;", at(&a), at(&b)), "");
    for _ in 0..6 {
        assert_eq!(get(server.port, "/").expect("a response").text(), "slow");
    }
    assert_eq!([&a, &b].map(|upstream| upstream.connections.load(Ordering::SeqCst)), [3, 3]);
}

#[test]
fn bodies_that_do_not_fit_memory_pass_both_ways() {
    const SIZE: usize = 96 << 20;
    let upstream = Upstream::start(|request| {
        let body = request.windows(4).position(|part| part == b"\r\n\r\n").map_or(0, |end| request.len() - end - 4);
        let mut answer = format!("HTTP/1.1 200 OK\r\nX-Got: {body}\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + SIZE, b'd');
        answer
    });
    let (_dir, mut server) = front("large", &format!("{};", at(&upstream)), "");
    let mut client = Connection::open(server.port).expect("a connection");
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    client.send(head.as_bytes()).expect("a head");
    let piece = vec![b'u'; 1 << 20];
    for _ in 0..SIZE / piece.len() {
        client.send(&piece).expect("a piece of the body");
    }
    let response = client.read_head().expect("a response");
    assert_eq!(response.header("x-got"), Some(SIZE.to_string().as_str()));
    for _ in 0..SIZE / piece.len() {
        assert!(client.take(piece.len()).expect("a piece of the body").iter().all(|&byte| byte == b'd'));
    }
    let pid = server.process().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 64 << 10, "{peak} kB for bodies of {SIZE} bytes");
}

#[test]
fn what_the_socket_does_not_take_at_once_follows() {
    const SIZE: usize = 200_000;
    let upstream = Upstream::start(|request| {
        let body = request.windows(4).position(|part| part == b"\r\n\r\n").map_or(&[][..], |end| &request[end + 4..]);
        let wrong = body.iter().enumerate().filter(|(at, byte)| usize::from(**byte) != at % 251).count();
        reply(format!("{} bytes, {wrong} wrong", body.len()).as_bytes())
    });
    let settings = "client_body_buffer_size 256k; proxy_socket_sndbuf 2k;";
    let (_dir, server) = front("pieces", &format!("{};", at(&upstream)), settings);
    let body: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
    // The first goes out together with its connection, the second on that connection.
    for _ in 0..2 {
        let mut client = Connection::open(server.port).expect("a connection");
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
            .expect("a head");
        client.send(&body).expect("a body");
        let length = client.read_head().expect("a response").header("content-length").map(str::parse);
        let text = client.take(length.expect("a length").expect("a number")).expect("a body");
        assert_eq!(String::from_utf8_lossy(&text), format!("{SIZE} bytes, 0 wrong"));
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
}

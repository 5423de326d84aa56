//! Upstream servers that fail at every stage of an exchange: what the client sees is what nginx shows.
//!
//! nginx differs in one row: it does not show the last piece of a reply that stalls.
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_next_upstream>
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, say};

/// What an upstream does with a connection once the request's head is there.
type Act = fn(&mut TcpStream);

fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn stall(stream: &mut TcpStream) {
    // Whoever gives up first ends it.
    let _ = stream.read(&mut [0; 16]);
}

/// The status and the bytes behind the head, for as long as the connection lasts; `None` is no answer at all.
fn seen(port: u16, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // nginx's own pages are long; that they are there is enough.
    Some((status, if body.starts_with("<html>") { "page".to_owned() } else { body.to_owned() }))
}

fn front(name: &str, http: &str, locations: &str) -> (TempDir, Server) {
    front_of(&nginx_rs(), name, http, locations)
}

fn front_of(program: &Path, name: &str, http: &str, locations: &str) -> (TempDir, Server) {
    let (dir, port) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "{http} server {{ listen 127.0.0.1:{port}; access_log off; error_log {0}/error.log info;\n\
         proxy_read_timeout 1500ms; proxy_send_timeout 1500ms; proxy_connect_timeout 2s; {locations} }}\n",
        dir.path().display()
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(program, &site, dir.path(), port);
    (dir, server)
}

/// What upstreams do, and what the client sees: status (0 is no answer) and body.
const TABLE: &[(&str, Act, u16, &str)] = &[
    ("closes before the head", |_| {}, 502, "page"),
    ("resets before the head", |s| reset(s), 502, "page"),
    ("closes inside the status line", |s| say(s, "HTTP/1.1 2"), 502, "page"),
    ("closes inside a field", |s| say(s, "HTTP/1.1 200 OK\r\nX-A: b"), 502, "page"),
    (
        "resets inside the head",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\nX-A: b\r\n");
            reset(s);
        },
        502,
        "page",
    ),
    ("closes behind the head", |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), 200, ""),
    ("closes before the first chunk", |s| say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 200, ""),
    (
        "stalls behind the head",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
            stall(s);
        },
        200,
        "",
    ),
    ("closes inside the body", |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), 200, "abc"),
    ("sends more than it said", |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef"), 200, "abc"),
    ("sends a body with 204", |s| say(s, "HTTP/1.1 204 No Content\r\n\r\nabc"), 204, ""),
    (
        "closes inside a chunk",
        |s| say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
        200,
        "3\r\nabc\r\n",
    ),
    (
        "closes between chunks",
        |s| say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        200,
        "3\r\nabc\r\n",
    ),
    ("sends no chunk", |s| say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz"), 0, ""),
    ("ends with the connection", |s| say(s, "HTTP/1.1 200 OK\r\n\r\nabc"), 200, "3\r\nabc\r\n0\r\n\r\n"),
    // It is passed on without a head.
    ("sends garbage", |s| say(s, "garbage 9\r\n\r\nmore"), 9, "more"),
    ("sends an invalid field", |s| say(s, "HTTP/1.1 200 OK\r\nX\0Y: z\r\n\r\nabc"), 502, "page"),
    ("lies about its length", |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc"), 502, "page"),
    (
        "says its length twice",
        |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        502,
        "page",
    ),
    (
        "says both length and chunks",
        |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        502,
        "page",
    ),
    (
        "sends endless fields",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\n");
            while s.write_all(b"X-More: and more and more and more\r\n").is_ok() {}
        },
        502,
        "page",
    ),
    (
        "sends an endless field",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\nX: ");
            while s.write_all(&[b'x'; 4096]).is_ok() {}
        },
        502,
        "page",
    ),
    ("stalls before the head", stall, 504, "page"),
    (
        "stalls inside the head",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\nX-A");
            stall(s);
        },
        504,
        "page",
    ),
    (
        "stalls inside the body",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            stall(s);
        },
        200,
        "abc",
    ),
    (
        "answers twice",
        |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"),
        200,
        "a",
    ),
    (
        "closes its side only",
        |s| {
            say(s, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
            let _ = s.shutdown(Shutdown::Write);
            stall(s);
        },
        200,
        "abc",
    ),
];

#[test]
fn the_client_sees_what_nginx_shows() {
    shows_the_table(&nginx_rs(), "");
}

#[test]
fn nginx_shows_it() {
    if let Some(nginx) = kit::reference::nginx() {
        shows_the_table(&nginx, "stalls inside the body");
    }
}

/// Runs the table, but for the row that differs.
fn shows_the_table(program: &Path, differs: &str) {
    let upstreams: Vec<Upstream> = TABLE.iter().map(|(_, act, ..)| Upstream::start(*act)).collect();
    let location = |(number, upstream): (usize, &Upstream)| {
        format!("location /{number}/ {{ proxy_pass http://127.0.0.1:{}; }}\n", upstream.port)
    };
    let mut locations: String = upstreams.iter().enumerate().map(location).collect();
    locations.push_str("location /refused/ { proxy_pass http://127.0.0.1:1; }");
    let (_dir, server) = front_of(program, "table", "", &locations);
    let mut wrong = Vec::new();
    for (number, ((name, _, status, body), upstream)) in TABLE.iter().zip(&upstreams).enumerate() {
        let request = format!("GET /{number}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let seen = seen(server.port, &request);
        let wanted = (*status > 0).then(|| (*status, (*body).to_owned()));
        if seen != wanted && *name != differs {
            wrong.push(format!("{name}: {seen:?}, not {status} {body:?}"));
        }
        assert_eq!(upstream.asked(), 1, "{name}: asked once");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let refused = seen(server.port, "GET /refused/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(refused, Some((502, "page".to_owned())));
}

#[test]
fn the_log_tells_what_came_with_the_head_from_what_came_later() {
    const LONGER: &str = "upstream sent more data than specified in \"Content-Length\" header";
    let at_once: Act = |s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef");
    let later: Act = |s| {
        say(s, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na");
        thread::sleep(Duration::from_millis(200));
        say(s, "bcdef");
    };
    let chunked: Act = |s| {
        say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        thread::sleep(Duration::from_millis(200));
        say(s, "3\r\nabc\r\n0\r\n\r\ndef");
    };
    const AFTER: &str = "upstream sent data after final chunk";
    let (head, body) = ("reading response header from upstream", "reading upstream");
    let rows = [
        (at_once, "on", LONGER, body),
        (at_once, "off", LONGER, head),
        (later, "on", LONGER, body),
        (later, "off", LONGER, body),
        (chunked, "on", AFTER, body),
        (chunked, "off", AFTER, body),
    ];
    for program in [Some(nginx_rs()), kit::reference::nginx()].into_iter().flatten() {
        for (row, (act, buffering, what, doing)) in rows.iter().enumerate() {
            let upstream = Upstream::start(*act);
            let location =
                format!("location / {{ proxy_pass http://127.0.0.1:{}; proxy_buffering {buffering}; }}", upstream.port);
            let (dir, server) = front_of(&program, "longer", "", &location);
            seen(server.port, "GET / HTTP/1.0\r\n\r\n");
            server.quit();
            let log = std::fs::read_to_string(dir.path().join("error.log")).expect("a log");
            assert!(log.contains(&format!("{what} while {doing}, client")), "{} row {row}\n{log}", program.display());
        }
    }
}

#[test]
fn a_reply_before_the_end_of_its_request_ends_the_connection() {
    for program in [Some(nginx_rs()), kit::reference::nginx()].into_iter().flatten() {
        let upstream = Upstream::start(|s| {
            say(s, "HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno");
            stall(s);
        });
        let pass = format!("proxy_pass http://127.0.0.1:{};", upstream.port);
        let locations = format!("location / {{ {pass} proxy_request_buffering off; }}");
        let (_dir, server) = front_of(&program, "early", "", &locations);
        let asked = Instant::now();
        let seen = seen(server.port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
        assert_eq!(seen, Some((413, "no".to_owned())), "{}", program.display());
        assert!(asked.elapsed() < Duration::from_secs(4), "{} waits for the rest", program.display());
    }
}

#[test]
fn what_may_be_repeated_goes_to_the_next_server_and_nothing_else_does() {
    let before_any_byte: [(&str, Act); 3] = [("closes", |_| {}), ("resets", |s| reset(s)), ("stalls", stall)];
    for (name, act) in before_any_byte {
        let (bad, good) =
            (Upstream::start(act), Upstream::start(|s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")));
        let http = format!(
            "upstream app {{ server 127.0.0.1:{} max_fails=0; server 127.0.0.1:{} backup; }}",
            bad.port, good.port
        );
        let (_dir, server) = front(name, &http, "location / { proxy_pass http://app; }");
        let get = seen(server.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(get, Some((200, "good".to_owned())), "{name}");
        let post = seen(server.port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        assert!(post.is_some_and(|(status, _)| matches!(status, 502 | 504)), "{name}");
        assert_eq!((bad.asked(), good.asked()), (2, 1), "{name}");
    }
}

#[test]
fn a_server_that_dies_under_many_requests_leaves_each_with_one_answer() {
    const MANY: usize = 200;
    // All of them wait until the last has come, then the server dies.
    let held = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&held);
    let dying = Upstream::start(move |stream| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        until(Duration::from_secs(20), || (counter.load(Ordering::SeqCst) >= MANY).then_some(()));
        if number.is_multiple_of(2) {
            reset(stream);
        }
    });
    let good = Upstream::start(|s| say(s, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"));
    let http = format!(
        "upstream app {{ server 127.0.0.1:{} max_fails=0; server 127.0.0.1:{} backup; }}",
        dying.port, good.port
    );
    let (_dir, server) = front("dying", &http, "location / { proxy_pass http://app; proxy_read_timeout 30s; }");
    let port = server.port;
    let clients: Vec<_> = (0..MANY)
        .map(|number| {
            thread::spawn(move || {
                let method = if number.is_multiple_of(4) { "POST" } else { "GET" };
                let request =
                    format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                (number, seen(port, &request))
            })
        })
        .collect();
    for client in clients {
        let (number, seen) = client.join().expect("a client");
        let want = if number.is_multiple_of(4) { (502, "page") } else { (200, "good") };
        assert_eq!(seen, Some((want.0, want.1.to_owned())), "{number}");
    }
    assert_eq!((dying.asked(), good.asked()), (MANY, MANY * 3 / 4));
}

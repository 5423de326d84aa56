//! What the logs say of exchanges that go wrong: the lines are those that nginx 1.31 writes for the same.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#variables>
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, say};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Front {
    dir: TempDir,
    server: Server,
}

impl Front {
    /// A server with these upstreams as `@0`, `@1`… in its text.
    fn start(name: &str, upstreams: &[&Upstream], http: &str, locations: &str) -> Self {
        let (dir, port) = (TempDir::new(name), free_port());
        let site = dir.path().join("site.conf");
        let mut text = format!(
            "log_format t '$status $body_bytes_sent [$request_completion] us=$upstream_status uct=$upstream_connect_time \
             urt=$upstream_response_time ul=$upstream_response_length';\nlog_format len '$request_length';\n{http}\n\
             server {{ listen 127.0.0.1:{port}; server_name a; access_log PREFIX/access.log t; error_log PREFIX/error.log info;\n\
             root PREFIX; client_body_timeout 300ms; {locations} }}\n"
        );
        for (n, upstream) in upstreams.iter().enumerate() {
            text = text.replace(&format!("@{n}"), &format!("127.0.0.1:{}", upstream.port));
        }
        std::fs::write(&site, text.replace("PREFIX", &dir.path().display().to_string())).expect("a writable prefix");
        let server = Server::start(&nginx_rs(), &site, dir.path(), port);
        Self { dir, server }
    }

    /// Sends a request and reads to the end.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.send(request);
        let mut out = Vec::new();
        let _ = stream.read_to_end(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.server.port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("a request");
        stream
    }

    /// The lines of the access log once there are `count`; times are `T`.
    fn access(&self, count: usize) -> Vec<String> {
        let read = || self.text("access.log").lines().map(timeless).collect::<Vec<_>>();
        wait(|| read().len() >= count);
        read()
    }

    /// The lines of the error log about requests, from the level to the context.
    fn errors(&self) -> Vec<String> {
        let text = self.text("error.log");
        let lines = text.lines().filter(|line| line.contains(", client: ") && !line.contains(" waiting for request"));
        let cut = |line: &str| {
            let level = line.split(' ').nth(2).unwrap_or_default().to_owned();
            let message =
                line.split_once(": *").and_then(|(_, rest)| rest.split_once(' ')).map_or("", |(_, rest)| rest);
            format!("{level} {}", message.split(", client: ").next().unwrap_or_default())
        };
        lines.map(cut).collect()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

fn wait(ready: impl Fn() -> bool) {
    until(Duration::from_secs(20), || ready().then_some(())).expect("what was waited for");
}

fn timeless(line: &str) -> String {
    let word = |word: &str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (name, value) = word.split_once('=').map_or(("", word), |(name, value)| (name, value));
        let (value, comma) = value.strip_suffix(',').map_or((value, ""), |value| (value, ","));
        match value.split_once('.') {
            Some((whole, rest)) if digits(whole) && digits(rest) && name.is_empty() => format!("T{comma}"),
            Some((whole, rest)) if digits(whole) && digits(rest) => format!("{name}=T{comma}"),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_failed_try_has_its_times() {
    let closes = Upstream::start(|_| {});
    let refuses = Upstream::start(|stream| say(stream, "HTTP/1.1 503 X\r\nContent-Length: 3\r\n\r\nbad"));
    let well = Upstream::start(|stream| say(stream, OK));
    let groups = "upstream one { server @0; } upstream two { server @1; server @2 backup; }
        upstream none { server @0 max_fails=1; server @0 max_fails=1; }";
    let locations = "location /one { proxy_pass http://one; }
        location /two { proxy_pass http://two; proxy_next_upstream error http_503; }
        location /none { proxy_pass http://none; }
        location /page { proxy_pass http://@1; proxy_intercept_errors on; error_page 503 @page; }
        location @page { proxy_pass http://@2; }";
    let front = Front::start("times", &[&closes, &refuses, &well], groups, locations);
    for path in ["/one", "/two", "/none", "/none", "/page"] {
        front.ask(&get(path));
    }
    assert_eq!(
        front.access(5),
        [
            "502 157 [OK] us=502 uct=T urt=T ul=0",
            "200 2 [OK] us=503, 200 uct=T, T urt=T, T ul=0, 2",
            "502 157 [OK] us=502, 502 uct=T, T urt=T, T ul=0, 0",
            "502 157 [OK] us=502 uct=- urt=T ul=0",
            "503 2 [OK] us=503 : 200 uct=T : T urt=T : T ul=0 : 2",
        ]
    );
}

#[test]
fn a_client_that_leaves_is_no_failure_of_the_server() {
    let mute = Upstream::start(|stream| drop(stream.read(&mut [0; 1])));
    let group = "upstream group { server @0 max_fails=1; server @0 max_fails=1; }";
    let front = Front::start("leaves", &[&mute], group, "location / { proxy_pass http://group; }");
    for n in 1..=3 {
        let client = front.send(&get("/"));
        wait(|| mute.asked() >= n);
        drop(client);
        front.access(n);
    }
    assert_eq!(front.access(3), ["499 0 [] us=- uct=T urt=T ul=0"; 3]);
    let text = "[info] epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too \
                while sending request to upstream";
    assert_eq!(front.errors(), [text; 3]);
}

#[test]
fn a_client_that_ends_inside_its_body_is_not_answered() {
    let well = Upstream::start(|stream| drop(stream.read(&mut [0; 1])));
    let locations = "location / { proxy_pass http://@0; }
        location /streamed { proxy_pass http://@0; proxy_request_buffering off; }";
    let front = Front::start("inside", &[&well], "", locations);
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello");
    for (n, path) in ["/", "/streamed"].into_iter().enumerate() {
        let mut client = front.send(&post(path));
        if n == 1 {
            wait(|| well.asked() >= 1);
        }
        client.shutdown(Shutdown::Write).expect("an end");
        let mut out = Vec::new();
        let _ = client.read_to_end(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), "", "{path}");
        front.access(n + 1);
    }
    assert_eq!(front.ask(&post("/")), "", "falls silent");
    assert_eq!(
        front.access(3),
        ["400 0 [] us=- uct=- urt=- ul=-", "400 0 [] us=- uct=T urt=T ul=0", "408 0 [] us=- uct=- urt=- ul=-",]
    );
    assert_eq!(
        front.errors(),
        [
            "[info] client prematurely closed connection",
            "[info] client prematurely closed connection while sending request to upstream",
        ]
    );
}

#[test]
fn lines_say_what_was_done_and_what_was_too_much() {
    let says = |text: &'static str| {
        Upstream::start(move |stream| {
            say(stream, text);
            thread::sleep(Duration::from_millis(50));
        })
    };
    let long = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay");
    let tail = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nextra");
    let missing = says("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno");
    let round = says("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /round\r\nContent-Length: 2\r\n\r\nok");
    let reset = Upstream::start(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok");
        thread::sleep(Duration::from_millis(100));
        let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
    });
    let locations = "location /long { proxy_pass http://@0; } location /tail { proxy_pass http://@1; }
        location /guarded { auth_request /ask; } location = /ask { proxy_pass http://@2; }
        location /round { proxy_pass http://@3; }
        location /reset { proxy_pass http://@4; } location /stream { proxy_pass http://@4; proxy_buffering off; }
        location /unix { proxy_pass http://unix:PREFIX/none.sock; }";
    let front = Front::start("lines", &[&long, &tail, &missing, &round, &reset], "", locations);
    let paths = ["/long", "/tail", "/guarded", "/round", "/reset", "/stream", "/unix"];
    for (n, path) in paths.into_iter().enumerate() {
        front.ask(&get(path));
        front.access(n + 1);
    }
    let (lines, unix) = (front.errors(), front.dir.path().join("none.sock").display().to_string());
    assert_eq!(
        lines,
        [
            "[warn] upstream sent more data than specified in \"Content-Length\" header while reading upstream",
            "[warn] upstream sent data after final chunk while reading upstream",
            "[error] auth request unexpected status: 404 while sending to client",
            "[error] rewrite or internal redirection cycle while internally redirecting to \"/round\" \
             while reading response header from upstream",
            "[error] readv() failed (104: Connection reset by peer) while reading upstream",
            "[error] recv() failed (104: Connection reset by peer) while reading upstream",
            &format!(
                "[crit] connect() to unix:{unix} failed (2: No such file or directory) while connecting to upstream"
            ),
        ]
    );
    let url = format!("upstream: \"http://unix:{unix}:/unix\"");
    assert!(front.text("error.log").contains(&url), "{}", front.text("error.log"));
}

#[test]
fn a_server_that_is_too_slow_is_given_up_first() {
    let mute = Upstream::start(|stream| drop(stream.read(&mut [0; 1])));
    let misses = Upstream::start(|stream| say(stream, "END\r\n"));
    let group = "upstream group { server @0 max_fails=1; server @0 max_fails=1; }";
    let locations = "location /slow { proxy_pass http://group; proxy_read_timeout 200ms; }
        location /empty { proxy_pass http://$arg_host; }
        location /key { set $memcached_key k; memcached_pass @1; }";
    let front = Front::start("slow", &[&mute, &misses], group, locations);
    for (n, path) in ["/slow", "/empty", "/key"].into_iter().enumerate() {
        front.ask(&get(path));
        front.access(n + 1);
    }
    let reading = "while reading response header from upstream";
    let slow = format!("[error] upstream timed out (110: Connection timed out) {reading}");
    let over = format!("[warn] upstream server temporarily disabled {reading}");
    let key = format!("[info] key: \"k\" was not found by memcached {reading}");
    assert_eq!(front.errors(), [&over, &slow, &over, &slow, "[error] invalid URL prefix in \"http://\"", &key]);
}

#[test]
fn a_body_that_is_thrown_away_is_not_counted() {
    let front = Front::start("length", &[], "", "location / { access_log PREFIX/access.log len; return 200; }");
    let request =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n\r\n{body}");
    let bodies = [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")];
    for (n, (fields, body)) in bodies.into_iter().enumerate() {
        front.ask(&request(fields, body));
        assert_eq!(front.access(n + 1).last(), Some(&request(fields, "").len().to_string()));
    }
}

#[test]
fn the_log_tells_what_the_client_did_when() {
    let silent = Upstream::start(|_| std::thread::sleep(Duration::from_millis(600)));
    let stalls = Upstream::start(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        thread::sleep(Duration::from_millis(600));
    });
    let locations = "client_header_timeout 300ms; location /passed { proxy_pass http://@1; proxy_buffering off; } \
                     location /silent { proxy_pass http://@0; } location / { return 200 x; }";
    let front = Front::start("stages", &[&silent, &stalls], "", locations);
    let reset = |request: &str| {
        let stream = front.send(request);
        std::thread::sleep(Duration::from_millis(100));
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    };
    let logged = |what: &str| wait(|| front.text("error.log").contains(what));
    reset("");
    logged(
        "recv() failed (104: Connection reset by peer) while waiting for request, client: 127.0.0.1, server: 127.0.0.1:",
    );
    reset("GET / HT");
    logged("recv() failed (104: Connection reset by peer) while reading client request line, client: ");
    reset("GET / HTTP/1.1\r\nHo");
    logged("recv() failed (104: Connection reset by peer) while reading client request headers, client: ");
    reset("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    logged(
        "upstream connection is closed too (104: Connection reset by peer) while sending request to upstream, client: ",
    );
    reset("GET /passed HTTP/1.1\r\nHost: a\r\n\r\n");
    logged("upstream connection is closed too (104: Connection reset by peer) while sending to client, client: ");
    let waits = (front.send(""), front.send("GET / HT"), front.send("GET / HTTP/1.1\r\nHo"));
    for part in ["waiting for request", "reading client request line", "reading client request headers"] {
        logged(&format!("client timed out (110: Connection timed out) while {part}, client: "));
    }
    drop(waits);
    drop(front.send(""));
    logged("client closed connection while waiting for request, client: 127.0.0.1, server: 127.0.0.1:");
    let mut kept = front.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    kept.read_exact(&mut [0; 15]).expect("an answer");
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n\r\nx") {
        let mut byte = [0];
        kept.read_exact(&mut byte).expect("the rest");
        rest.push(byte[0]);
    }
    drop(kept);
    logged("client 127.0.0.1 closed keepalive connection\n");
}

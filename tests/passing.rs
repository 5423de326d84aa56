//! What passes from upstream servers to clients besides heads and bodies: hints, trailers, and files that are kept.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_store>
#![cfg(test)]

mod kit;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use kit::http::{Connection, get};
use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, say};

fn front(name: &str, locations: &str) -> (TempDir, Server) {
    let (dir, port) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let prefix = dir.path().display().to_string();
    let text = format!(
        "log_format trailer '$upstream_trailer_x_sum';\n\
         server {{ listen 127.0.0.1:{port}; access_log {prefix}/access.log trailer; error_log {prefix}/error.log info;\n\
         root {prefix}/root; proxy_temp_path {prefix}/temp; {locations} }}\n"
    )
    .replace("PREFIX", &prefix);
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    (dir, server)
}

#[test]
fn hints_are_passed_where_they_are_wanted() {
    let upstream = Upstream::start(|stream| {
        say(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Accel-Expires: 1\r\n\r\n");
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    });
    let pass = format!("proxy_pass http://127.0.0.1:{};", upstream.port);
    let locations = format!("early_hints $http_x_hints; location / {{ {pass} }}");
    let (_dir, server) = front("hints", &locations);
    for (header, interim) in [("X-Hints: 1\r\n", vec![103]), ("X-Hints: 0\r\n", vec![]), ("", vec![])] {
        let mut client = Connection::open(server.port).expect("a connection");
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n").as_bytes()).expect("a request");
        let response = client.read_response(false).expect("a response");
        assert_eq!((response.interim.clone(), response.text()), (interim, "body".to_owned()), "{header:?}");
    }
    let mut client = Connection::open(server.port).expect("a connection");
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Hints: 1\r\n\r\n").expect("a request");
    let want = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert_eq!(client.take(want.len()).expect("both heads"), want);
}

#[test]
fn status_lines_are_passed_as_they_are() {
    for line in ["200", "200 Fine", "404", "444 Gone Away", "499 Left"] {
        let upstream = Upstream::start(move |stream| {
            say(stream, &format!("HTTP/1.1 {line}\r\nContent-Length: 4\r\n\r\nbody"));
        });
        let (_dir, server) =
            front("lines", &format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", upstream.port));
        let mut client = Connection::open(server.port).expect("a connection");
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
        let want = format!("HTTP/1.1 {line}\r\n");
        assert_eq!(String::from_utf8_lossy(&client.take(want.len()).expect("a line")), want);
    }
}

#[test]
fn trailers_are_passed_where_they_are_wanted() {
    let upstream = Upstream::start(|stream| {
        say(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\nX-Pad: x\r\n\r\n",
        );
    });
    let pass = format!("proxy_pass http://127.0.0.1:{};", upstream.port);
    let locations = format!("location / {{ {pass} }} location /on {{ {pass} proxy_pass_trailers on; }}");
    let (dir, server) = front("trailers", &locations);
    for (path, want) in [("/", "0\r\n\r\n"), ("/on", "0\r\nX-Sum: 7\r\n\r\n")] {
        let mut client = Connection::open(server.port).expect("a connection");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("a request");
        client.read_head().expect("a head");
        let want = format!("4\r\nbody\r\n{want}");
        assert_eq!(String::from_utf8_lossy(&client.take(want.len()).expect("a body")), want, "{path}");
    }
    let log = || std::fs::read_to_string(dir.path().join("access.log")).ok().filter(|log| log == "-\n7\n");
    until(Duration::from_secs(5), log).expect("the variable knows the trailer");
}

#[test]
fn whole_responses_are_kept_as_files() {
    let upstream = Upstream::start(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nLast-Modified: Thu, 01 Jan 1970 00:01:40 GMT\r\nContent-Length: 4\r\n\r\nbody");
    });
    let short = Upstream::start(|stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbody"));
    let missing = Upstream::start(|stream| say(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nbody"));
    let location = |path: &str, upstream: &Upstream, store: &str| {
        format!(
            "location {path} {{ proxy_pass http://127.0.0.1:{}; {store} proxy_store_access user:rw group:r; }}\n",
            upstream.port
        )
    };
    let locations = location("/", &upstream, "proxy_store on;")
        + &location("/path", &upstream, "proxy_store PREFIX/other$uri;")
        + &location("/short", &short, "proxy_store on;")
        + &location("/missing", &missing, "proxy_store on;")
        + &location("/passed", &upstream, "proxy_store on; proxy_buffering off;")
        + &location("/refused/", &upstream, "proxy_store PREFIX/refused/a/b;");
    let (dir, server) = front("store", &locations);
    let file = |path: &str| dir.path().join(path);
    for (path, kept) in [("/a/b/c", "root/a/b/c"), ("/path/x", "other/path/x")] {
        assert_eq!(get(server.port, path).expect("a response").text(), "body");
        let read = until(Duration::from_secs(5), || std::fs::read(file(kept)).ok());
        assert_eq!(read.expect("a file"), b"body");
        let found = std::fs::metadata(file(kept)).expect("a file");
        assert_eq!(found.permissions().mode() & 0o777, 0o640);
        assert_eq!(found.modified().expect("a time"), UNIX_EPOCH + Duration::from_secs(100));
    }
    let _ = get(server.port, "/short");
    assert_eq!(get(server.port, "/missing").expect("a response").status, 404);
    assert_eq!(get(server.port, "/passed").expect("a response").text(), "body");
    std::fs::write(file("refused"), "").expect("a file");
    assert_eq!(get(server.port, "/refused/").expect("a response").text(), "body");
    let log = std::fs::read_to_string(file("error.log")).expect("a log");
    assert!(log.contains("/refused/a/b\" failed (20: Not a directory) while reading upstream"), "{log}");
    assert!(log.contains("[crit]") && log.contains(": *") && log.contains("rename() \""), "{log}");
    for path in ["root/short", "root/missing", "root/passed"] {
        assert!(!file(path).exists(), "{path}");
    }
    let empty = || std::fs::read_dir(file("temp")).ok()?.next().is_none().then_some(());
    until(Duration::from_secs(5), empty).expect("nothing is left over");
}

/// Kernels before 5.19 let a worker that gives up rights move files no more, but copy them.
fn moves_files() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(19))
}

#[test]
fn a_file_that_is_kept_is_moved_to_its_place_and_not_copied() {
    let upstream = Upstream::start(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
        std::thread::sleep(Duration::from_millis(600));
        say(stream, "dy");
    });
    let location = format!("location / {{ proxy_pass http://127.0.0.1:{}; proxy_store on; }}", upstream.port);
    let (dir, server) = front("moved", &location);
    assert_eq!(get(server.port, "/x").expect("a response").text(), "body");
    let kept = dir.path().join("root/x");
    let metadata = until(Duration::from_secs(5), || std::fs::metadata(&kept).ok()).expect("a file");
    let Some(made) = metadata.created().ok().filter(|_| moves_files()) else { return };
    let written = metadata.modified().expect("a time").duration_since(made).unwrap_or_default();
    assert!(written > Duration::from_millis(300), "made when all of it was there: {written:?}");
}

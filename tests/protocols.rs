//! The bytes that uwsgi, SCGI, FastCGI and memcached servers get, and what becomes of theirs.
//!
//! <https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html>, `ngx_http_scgi_module`, `ngx_http_fastcgi_module`,
//! `ngx_http_memcached_module`
#![cfg(test)]

mod kit;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use kit::http::{Response, exchange, get};
use kit::process::{TempDir, free_port};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, keep, say};

fn front(name: &str, locations: &str) -> (TempDir, Server) {
    let (dir, port) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "server {{ listen 127.0.0.1:{port}; access_log off; error_log {0}/error.log info; client_body_temp_path {0}/body;\n\
         {locations} }}\n",
        dir.path().display()
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    (dir, server)
}

fn error_log(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default()
}

/// An upstream that says the same each time, and what it heard last.
fn answering(answer: &'static [u8]) -> (Upstream, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let last = Arc::clone(&heard);
    let upstream = Upstream::hearing(move |request, stream| {
        *last.lock().expect("a lock") = request.to_vec();
        let _ = stream.write_all(answer);
    });
    (upstream, heard)
}

const REQUEST: &[u8] =
    b"POST /a?b=c HTTP/1.1\r\nHost: Example.test:81\r\nX-Two: 1\r\nCookie: a=1\r\nx-two: 2\r\nCookie: b=2\r\n\
    X-Hidden: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

const PARAMS: [(&str, &str); 8] = [
    ("CONTENT_LENGTH", "2"),
    ("HTTP_CONNECTION", "close"),
    ("HTTP_CONTENT_LENGTH", "2"),
    ("HTTP_COOKIE", "a=1; b=2"),
    ("HTTP_HOST", "example.test:81"),
    ("HTTP_X_TWO", "1, 2"),
    ("PATH", "/a"),
    ("QUERY", "b=c"),
];

fn params(protocol: &str) -> String {
    let param = |text: &str| format!("{protocol}_param {text};");
    let all = ["PATH $uri", "QUERY $args", "EMPTY \"\" if_not_empty", "HTTP_X_HIDDEN \"\""];
    all.map(param).concat() + &if protocol == "scgi" { String::new() } else { param("CONTENT_LENGTH $content_length") }
}

fn wanted() -> BTreeMap<String, String> {
    PARAMS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn uwsgi_servers_get_a_packet() {
    let (upstream, heard) = answering(b"HTTP/1.1 201 Made\r\nServer: own\r\nX-A: b\r\nContent-Length: 4\r\n\r\nbody");
    let pass =
        format!("uwsgi_pass 127.0.0.1:{}; {} uwsgi_modifier1 9; uwsgi_modifier2 8;", upstream.port, params("uwsgi"));
    let (_dir, server) = front("uwsgi", &format!("location / {{ {pass} }}"));
    let response = exchange(server.port, REQUEST).expect("a response");
    assert_eq!((response.status_line.as_str(), response.text().as_str()), ("HTTP/1.1 201 Made", "body"));
    assert_eq!((response.header("Server"), response.header("X-A")), (Some("own"), Some("b")));
    let heard = heard.lock().expect("a lock").clone();
    let length = usize::from(u16::from_le_bytes([heard[1], heard[2]]));
    assert_eq!((heard[0], heard[3], &heard[4 + length..]), (9, 8, &b"hi"[..]));
    let (mut rest, mut found) = (&heard[4..4 + length], BTreeMap::new());
    let take = |rest: &mut &[u8]| {
        let length = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
        let value = text(&rest[2..2 + length]);
        *rest = &rest[2 + length..];
        value
    };
    while !rest.is_empty() {
        let name = take(&mut rest);
        found.insert(name, take(&mut rest));
    }
    assert_eq!(found, wanted());
}

#[test]
fn scgi_servers_get_a_netstring() {
    let (upstream, heard) = answering(b"Status: 404 Gone Away\r\nContent-Type: text/x\r\n\r\nbody");
    let pass = format!("scgi_pass 127.0.0.1:{}; {}", upstream.port, params("scgi"));
    let (_dir, server) = front("scgi", &format!("location / {{ {pass} }}"));
    let response = exchange(server.port, REQUEST).expect("a response");
    assert_eq!((response.status_line.as_str(), response.text().as_str()), ("HTTP/1.1 404 Gone Away", "body"));
    assert_eq!((response.header("Status"), response.header("Content-Type")), (None, Some("text/x")));
    let heard = heard.lock().expect("a lock").clone();
    let colon = heard.iter().position(|&b| b == b':').expect("a length");
    let length: usize = text(&heard[..colon]).parse().expect("a number");
    let (params, rest) = heard[colon + 1..].split_at(length);
    assert_eq!(rest, b",hi");
    assert!(params.starts_with(b"CONTENT_LENGTH\x002\0"));
    let words: Vec<String> = params.split(|&b| b == 0).map(text).collect();
    let found: BTreeMap<String, String> =
        words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    assert_eq!(found, wanted());
}

#[test]
fn replies_in_the_way_of_cgi() {
    let table: [(&'static [u8], &str); 5] = [
        (b"Location: /there\r\n\r\n", "HTTP/1.1 302 Moved Temporarily"),
        (b"X: y\r\n\r\nbody", "HTTP/1.1 200 OK"),
        (b"Status: 500\r\n\r\n", "HTTP/1.1 500 Internal Server Error"),
        (b"Status: x\r\n\r\n", "HTTP/1.1 502 Bad Gateway"),
        (b"X y\0\r\n\r\n", "HTTP/1.1 502 Bad Gateway"),
    ];
    for (answer, want) in table {
        let (upstream, _) = answering(answer);
        let (_dir, server) = front("cgi", &format!("location / {{ uwsgi_pass uwsgi://127.0.0.1:{}; }}", upstream.port));
        let response = get(server.port, "/").expect("a response");
        assert_eq!(response.status_line, want, "{}", text(answer));
    }
}

/// A FastCGI record of request 1.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("a short one").to_be_bytes();
    [&[1, kind, 0, 1, high, low, 3, 0], content, &[0; 3]].concat()
}

/// The contents of the records of one kind.
fn contents(mut records: &[u8], kind: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while records.len() >= 8 {
        let length = usize::from(u16::from_be_bytes([records[4], records[5]]));
        if records[1] == kind {
            found.push(records[8..8 + length].to_vec());
        }
        records = &records[8 + length + usize::from(records[6])..];
    }
    found
}

#[test]
fn fastcgi_servers_get_records_and_may_complain() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let last = Arc::clone(&heard);
    let upstream = Upstream::hearing(move |request, stream| {
        *last.lock().expect("a lock") = request.to_vec();
        let (complaint, fatal) = (record(7, b"watch out.\r\n"), text(request).contains("/fatal"));
        let answer = [record(6, b"Status: 202 Taken\r\nX-A"), record(6, b": b\r\n\r\nbo"), record(6, b"dy")].concat();
        let complaint = if fatal { record(7, b"PHP Fatal error: no") } else { complaint };
        let _ = stream.write_all(&[complaint, answer, record(6, b""), record(3, &[0; 8])].concat());
        keep();
    });
    let pass = format!("fastcgi_pass 127.0.0.1:{}; {}", upstream.port, params("fastcgi"));
    let locations = format!(
        "fastcgi_keep_conn on; fastcgi_index index.php; fastcgi_catch_stderr \"PHP Fatal error\";\n\
         location / {{ {pass} fastcgi_param LONG {}; }}\n\
         location /script {{ {pass} fastcgi_split_path_info ^(.+\\.php)(.*)$;\n\
         fastcgi_param S $fastcgi_script_name; fastcgi_param I $fastcgi_path_info; }}",
        "x".repeat(200)
    );
    let (dir, server) = front("fastcgi", &locations);
    let response = exchange(server.port, REQUEST).expect("a response");
    assert_eq!((response.status_line.as_str(), response.text().as_str()), ("HTTP/1.1 202 Taken", "body"));
    assert_eq!(response.header("X-A"), Some("b"));
    let records = heard.lock().expect("a lock").clone();
    assert_eq!(contents(&records, 1), [[0, 1, 1, 0, 0, 0, 0, 0]]);
    assert_eq!(contents(&records, 5), [b"hi".to_vec(), Vec::new()]);
    let params = contents(&records, 4);
    assert_eq!(params[1], b"");
    let long = [b"\x04\x80\0\0\xc8LONG".as_slice(), &[b'x'; 200]].concat();
    for want in [&b"\x0b\x08HTTP_COOKIEa=1; b=2"[..], b"\x04\x02PATH/a", &long] {
        assert!(params[0].windows(want.len()).any(|part| part == want), "{}", text(want));
    }
    let log = error_log(&dir);
    let want = format!(
        "FastCGI sent in stderr: \"watch out\" while reading response header from upstream, client: 127.0.0.1, server: , \
        request: \"POST /a?b=c HTTP/1.1\", upstream: \"fastcgi://127.0.0.1:{}\"",
        upstream.port
    );
    assert!(log.contains(&want), "{log}");
    for (path, want) in
        [("/script/a.php/b", "\x01\x0dS/script/a.php\x01\x02I/b"), ("/script/", "\x01\x11S/script/index.php\x01\0I")]
    {
        get(server.port, path).expect("a response");
        let params = contents(&heard.lock().expect("a lock"), 4).concat();
        assert!(text(&params).contains(want), "{path}: {}", text(&params));
    }
    assert_eq!(get(server.port, "/fatal").expect("a response").status, 502);
}

#[test]
fn large_bodies_travel_in_records() {
    let upstream = Upstream::hearing(|request, stream| {
        let mut all = request.to_vec();
        let mut piece = [0; 65536];
        // The end of the body is an empty record.
        while !all.ends_with(&[1, 5, 0, 1, 0, 0, 0, 0]) {
            let n = stream.read(&mut piece).expect("more");
            all.extend_from_slice(&piece[..n]);
        }
        let answer =
            format!("Content-Type: text/plain\r\n\r\n{}", all.iter().filter(|b| **b == b'z').count() >= 100_000);
        let _ = stream.write_all(&[record(6, answer.as_bytes()), record(6, b""), record(3, &[0; 8])].concat());
    });
    for (name, buffering) in [("file", ""), ("streamed", "fastcgi_request_buffering off;")] {
        let pass = format!("client_body_buffer_size 8k; {buffering} fastcgi_pass 127.0.0.1:{};", upstream.port);
        let (_dir, server) = front(name, &format!("location / {{ {pass} }}"));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n";
        let response = exchange(server.port, &[head.as_bytes(), &[b'z'; 100_000]].concat()).expect("a response");
        assert_eq!(response.text(), "true", "{name}");
    }
}

#[test]
fn memcached_answers_or_does_not() {
    let upstream = Upstream::hearing(|request, stream| {
        match request {
            b"get /a\r\n" => say(stream, "VALUE /a 0 4\r\nbody\r\nEND\r\n"),
            b"get /zipped%20one\r\n" => say(stream, "VALUE /zipped%20one 6 4\r\nbody\r\nEND\r\n"),
            b"get /other\r\n" => say(stream, "VALUE /another 0 1\r\nx\r\nEND\r\n"),
            b"get /trailer\r\n" => say(stream, "VALUE /trailer 0 4\r\nbodyXXXXXXX"),
            _ => say(stream, "END\r\n"),
        }
        keep();
    });
    let pass = format!("set $memcached_key $uri; memcached_pass 127.0.0.1:{}; memcached_gzip_flag 2;", upstream.port);
    let locations =
        format!("location / {{ {pass} }} location = /unset {{ memcached_pass 127.0.0.1:{}; }}", upstream.port);
    let (dir, server) = front("memcached", &locations);
    let ask = |path: &str| -> Response { get(server.port, path).expect("a response") };
    let found = ask("/a");
    assert_eq!((found.status, found.text().as_str(), found.header("Content-Length")), (200, "body", Some("4")));
    let zipped = ask("/zipped%20one");
    assert_eq!((zipped.header("Content-Encoding"), zipped.text().as_str()), (Some("gzip"), "body"));
    assert_eq!((ask("/missing").status, ask("/other").status, ask("/unset").status), (404, 502, 500));
    assert_eq!(ask("/trailer").text(), "body");
    let post = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(server.port, post).expect("a response").status, 405);
    let log = error_log(&dir);
    for want in [
        "key: \"/missing\" was not found by memcached",
        "memcached sent invalid key in response \"VALUE /another 0 1\" for key \"/other\"",
        "memcached sent invalid trailer",
        "the \"$memcached_key\" variable is not set",
    ] {
        assert!(log.contains(want), "{want}\n{log}");
    }
}

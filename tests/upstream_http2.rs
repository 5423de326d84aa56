//! HTTP/2 towards upstream servers, byte for byte: <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_http_version>.
#![cfg(test)]

mod kit;

use std::sync::{Arc, Mutex};

use kit::h2::{self, frame};
use kit::http::Connection;
use kit::process::{TempDir, free_port};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, keep};

/// The answer to settings.
const ACK: [u8; 9] = [0, 0, 0, h2::SETTINGS, 1, 0, 0, 0, 0];

/// What came in each read of each connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that answers what it hears, and a front that passes everything on to it.
fn front(name: &str, answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> (TempDir, Server, Heard) {
    let heard = Heard::default();
    let list = Arc::clone(&heard);
    let upstream = Upstream::hearing(move |bytes, stream| {
        list.lock().expect("a lock").push(bytes.to_vec());
        let _ = std::io::Write::write_all(stream, &answer(bytes));
        keep();
    });
    let (dir, port) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "upstream back {{ server 127.0.0.1:{}; keepalive 1; }}\n\
         server {{ listen 127.0.0.1:{port}; error_log {}/error.log info; proxy_http_version 2;\n\
         location / {{ proxy_pass http://back; }} }}\n",
        upstream.port,
        dir.path().display()
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    (dir, server, heard)
}

fn get(server: &Server, head: &str) -> String {
    let mut client = Connection::open(server.port).expect("a connection");
    client.send(head.as_bytes()).expect("a request");
    let response = client.read_response(false).expect("a response");
    format!("{} {}", response.status, response.text())
}

#[test]
fn connections_begin_as_nginx_has_it_and_are_kept() {
    let (_dir, server, heard) = front("h2-back", |bytes| {
        let request = bytes.strip_prefix(&ACK[..]).unwrap_or(bytes);
        // The stream's number ends the head of a frame.
        let stream = if request.starts_with(b"PRI") { 1 } else { u32::from(*request.get(8).unwrap_or(&0)) };
        let mut out = if stream == 1 { h2::settings(&[]) } else { Vec::new() };
        out.extend(frame(h2::HEADERS, h2::END_HEADERS, stream, &[0x88]));
        out.extend(frame(h2::DATA, h2::END_STREAM, stream, b"body"));
        // The third answer is followed by what nobody asked for.
        if stream == 5 {
            out.extend(frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
            out.push(0);
        }
        if stream % 2 == 1 { out } else { Vec::new() }
    });
    for _ in 0..4 {
        assert_eq!(get(&server, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), "200 body");
    }
    let heard = heard.lock().expect("a lock");
    let requests = heard.iter().map(|bytes| bytes.strip_prefix(&ACK[..]).unwrap_or(bytes));
    let requests: Vec<_> = requests.filter(|bytes| !bytes.is_empty()).collect();
    let start =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0\0\x01\0\0\0\0\0\x02\0\0\0\0\0\x04\x7f\xff\xff\xff\
        \0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";
    // GET, http, /a in Huffman's code or as it is, whichever is shorter, and the name of the group.
    let block = b"\x82\x86\x04\x02/a\x01\x83\x8c\x64\xeb";
    let request = |stream: u32| frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, block);
    let first = [&start[..], &request(1)].concat();
    assert_eq!(
        requests,
        [&first, &request(3), &request(5), &first],
        "a connection with more to say is not taken again"
    );
    assert!(heard.iter().any(|bytes| bytes.starts_with(&ACK)), "its settings are acknowledged");
}

#[test]
fn bodies_go_as_far_as_windows_do() {
    let (_dir, server, heard) = front("h2-windows", |bytes| {
        if bytes.starts_with(b"PRI") {
            return h2::settings(&[(4, 10)]);
        }
        let room = [frame(h2::WINDOW_UPDATE, 0, 1, &[0, 1, 0, 0]), frame(h2::PING, 0, 0, b"12345678")].concat();
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        match (holds(&ACK), holds(b"12345678")) {
            (true, _) => room,
            (_, true) => frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &[0x89]),
            _ => Vec::new(),
        }
    });
    let body = "x".repeat(65_600);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(get(&server, &head), "204 ");
    let heard = heard.lock().expect("a lock").concat();
    assert_eq!(heard.iter().filter(|&&byte| byte == b'x').count(), 65_535, "the window of the connection stays");
}

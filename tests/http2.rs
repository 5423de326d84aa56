//! HTTP/2 towards clients: what requests get, and that no client can make the server work or hold more than its share.
//!
//! RFC 9113, and <https://www.kb.cert.org/vuls/id/605641> with its successors.
#![cfg(test)]

mod kit;

use std::fs;
use std::time::Duration;

use kit::h2::{self, Connection, END_HEADERS, END_STREAM, GET, POST, field, frame};
use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};
use kit::upstream::{Upstream, say};

/// Bytes that the server may hold more after a flood than before.
const ROOM: u64 = 24 << 20;
/// The error code of connections that ask too much.
const ENHANCE_YOUR_CALM: u32 = 11;
/// The error code of streams and connections that break the rules.
const PROTOCOL_ERROR: u32 = 1;

struct Site {
    server: Server,
    port: u16,
    dir: TempDir,
}

impl Site {
    /// A server with a small and a large file.
    fn start(settings: &str) -> Self {
        Self::with("", settings)
    }

    /// The same, with something outside of the server.
    fn with(before: &str, settings: &str) -> Self {
        let (dir, port) = (TempDir::new("http2"), free_port());
        let html = dir.dir("html");
        dir.dir("logs");
        fs::write(html.join("index.html"), "small").expect("a file");
        fs::write(html.join("large"), vec![b'x'; 8 << 20]).expect("a file");
        let site = dir.path().join("site.conf");
        let back = "location /slow { proxy_pass http://127.0.0.1:1; }";
        let conf = format!("{before} server {{ listen {port}; http2 on; {settings} root html; {back} }}\n");
        fs::write(&site, conf).expect("a file");
        Self { server: Server::start(&nginx_rs(), &site, dir.path(), port), port, dir }
    }

    fn open(&self) -> Connection {
        Connection::open(self.port, &[])
    }

    /// The memory of master and workers in bytes.
    fn memory(&mut self) -> u64 {
        let master = self.server.process().pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        let held = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
            line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() << 10
        };
        children.split_whitespace().map(held).sum::<u64>() + held(&master.to_string())
    }

    /// Holds the server to its share of memory and to answering others after `flood` was sent.
    fn withstands(mut self, flood: impl FnOnce(&Self)) {
        ask(&self);
        let before = self.memory();
        flood(&self);
        let after = self.memory();
        assert!(after < before + ROOM, "{} MB more", (after - before) >> 20);
        ask(&self);
        assert!(self.server.quit());
    }
}

/// Another client is served.
fn ask(site: &Site) {
    let mut other = site.open();
    assert!(other.send(&get(1)));
    let head = other.find(|frame| frame.kind == h2::HEADERS).expect("an answer");
    assert_eq!(head.status(), 200);
    assert_eq!(other.find(|frame| frame.kind == h2::DATA).expect("a body").payload, b"small");
}

fn get(stream: u32) -> Vec<u8> {
    frame(h2::HEADERS, END_HEADERS | END_STREAM, stream, &GET)
}

/// A GET of another path than `/`.
fn get_path(stream: u32, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("a short path");
    let fields = [&[0x82, 0x86, 0x44, length][..], path.as_bytes(), &GET[3..]].concat();
    frame(h2::HEADERS, END_HEADERS | END_STREAM, stream, &fields)
}

fn odd(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

#[test]
fn requests_are_answered_in_any_number() {
    let site = Site::start("");
    let mut client = site.open();
    for stream in odd(100) {
        assert!(client.send(&get(stream)));
    }
    for _ in 0..100 {
        assert_eq!(client.find(|frame| frame.kind == h2::HEADERS).expect("an answer").status(), 200);
    }
}

#[test]
fn http_1_is_spoken_where_the_preface_does_not_come() {
    let site = Site::start("");
    assert_eq!(kit::http::get(site.port, "/").expect("an answer").text(), "small");
}

#[test]
fn fields_that_belong_to_a_connection_are_refused() {
    let site = Site::start("");
    for (name, value) in [("keep-alive", "1"), ("upgrade", "x"), ("te", "gzip"), ("host", "b"), ("X", "1"), ("x", "\n")]
    {
        let mut client = site.open();
        let fields = [&GET[..], &field(name, value)].concat();
        assert!(client.send(&frame(h2::HEADERS, END_HEADERS | END_STREAM, 1, &fields)));
        let refused = client.find(|frame| frame.kind == h2::HEADERS).expect("an answer");
        assert_eq!(refused.status(), 400, "{name}");
    }
}

#[test]
fn a_204_of_an_upstream_has_no_length() {
    let heads = ["", "Content-Length: 5\r\n"].map(|field| {
        let upstream = Upstream::start(move |stream| say(stream, &format!("HTTP/1.1 204 None\r\n{field}\r\n")));
        let site = Site::start(&format!("location /none {{ proxy_pass http://127.0.0.1:{}; }}", upstream.port));
        let mut client = site.open();
        assert!(client.send(&get_path(1, "/none")));
        client.find(|frame| frame.kind == h2::HEADERS).expect("an answer").payload.len()
    });
    assert_eq!(heads[0], heads[1]);
}

#[test]
fn large_bodies_come_as_they_are() {
    let site = Site::start("http2_chunk_size 6000;");
    let body: Vec<u8> = (0..1_000_000u32).flat_map(|n| (n % 65_521).to_le_bytes()).take(2_500_001).collect();
    fs::write(site.dir.path().join("html/body"), &body).expect("a file");
    let mut client = Connection::open(site.port, &[(4, (1 << 31) - 1)]);
    assert!(client.send(&frame(h2::WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes())));
    assert!(client.send(&odd(4).flat_map(|stream| get_path(stream, "/body")).collect::<Vec<_>>()));
    // Until then the socket takes parts of what is written.
    std::thread::sleep(Duration::from_millis(300));
    let (mut bodies, mut ended) = (vec![Vec::new(); 8], 0);
    while ended < 4 {
        let data = client.find(|frame| frame.kind == h2::DATA).expect("a part");
        bodies[data.stream as usize].extend_from_slice(&data.payload);
        ended += u32::from(data.flags & END_STREAM);
    }
    assert!(odd(4).all(|stream| bodies[stream as usize] == body));
}

#[test]
fn heads_that_stay_unfinished_are_logged() {
    let format = "log_format h '$status [$request] [$request_method] $bytes_sent';";
    let site = Site::with(format, "client_header_timeout 1s; access_log logs/h h;");
    let mut client = site.open();
    assert!(client.send(&[get(1), frame(h2::HEADERS, END_STREAM, 3, &GET)].concat()));
    let reset = client.find(|frame| frame.kind == h2::RST_STREAM).expect("a reset");
    assert_eq!((reset.stream, reset.code()), (3, PROTOCOL_ERROR));
    // The connection goes on, and what was packed is still understood.
    assert!(client.send(&[frame(h2::CONTINUATION, END_HEADERS, 3, &field("x", "y")), get(5)].concat()));
    assert_eq!(client.find(|frame| frame.kind == h2::HEADERS && frame.stream == 5).expect("an answer").status(), 200);
    assert!(client.send(&frame(h2::HEADERS, 0, 7, &[&GET[..], &field("x", "y")].concat())));
    assert!(client.send(&frame(h2::PING, 0, 0, b"12345678")));
    assert!(client.ends());
    let lines = [
        "200 [GET / HTTP/2.0] [GET] ",
        "408 [-] [GET] 0",
        "200 [GET / HTTP/2.0] [GET] ",
        "000 [GET / HTTP/2.0] [GET] 0",
    ];
    let path = site.dir.path().join("logs/h");
    let whole = || fs::read_to_string(&path).ok().filter(|log| log.lines().count() >= lines.len());
    let log = until(Duration::from_secs(5), whole).expect("lines");
    assert!(log.lines().zip(lines).all(|(line, start)| line.starts_with(start)), "{log}");
}

#[test]
fn streams_go_in_the_order_of_their_dependencies() {
    let site = Site::start("");
    let mut client = site.open();
    // Stream 1 has all of the connection's window; 3 and 5 wait, of which 5 weighs more.
    let room = |stream, size: u32| frame(h2::WINDOW_UPDATE, 0, stream, &size.to_be_bytes());
    assert!(client.send(&get_path(1, "/large")));
    let mut left = 65_535;
    while left > 0 {
        left -= client.find(|frame| frame.kind == h2::DATA).expect("a part").payload.len();
    }
    let priority = |stream, weight| frame(2, 0, stream, &[0, 0, 0, 0, weight]);
    assert!(client.send(&[get(3), get(5), priority(3, 1), priority(5, 200)].concat()));
    for _ in 0..2 {
        assert!(client.find(|frame| frame.kind == h2::HEADERS).is_some());
    }
    assert!(client.send(&room(0, 1000)));
    let order = [5, 3].map(|_| client.find(|frame| frame.kind == h2::DATA).expect("a body").stream);
    assert_eq!(order, [5, 3]);
}

#[test]
fn a_stopping_server_ends_what_is_under_way() {
    let site = Site::start("");
    let mut client = site.open();
    assert!(client.send(&get_path(1, "/large")));
    assert!(client.find(|frame| frame.kind == h2::DATA).is_some());
    let quit = std::thread::spawn(move || site.server.quit());
    assert_eq!(client.find(|frame| frame.kind == h2::GOAWAY).expect("a warning").code(), 0);
    for stream in [0, 1] {
        assert!(client.send(&frame(h2::WINDOW_UPDATE, 0, stream, &(16u32 << 20).to_be_bytes())));
    }
    assert!(client.find(|frame| frame.kind == h2::DATA && frame.flags & END_STREAM > 0).is_some());
    assert!(client.ends());
    assert!(quit.join().expect("an end"));
}

/// CVE-2023-44487: streams that are begun only to be reset.
#[test]
fn rapid_resets_end_the_connection() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        let mut taken = 0;
        for stream in odd(100_000) {
            let begin = get_path(stream, "/slow");
            let reset = frame(h2::RST_STREAM, 0, stream, &8u32.to_be_bytes());
            if !client.send(&[begin, reset].concat()) {
                break;
            }
            taken += 1;
        }
        assert!(client.ends(), "{taken} streams were taken");
    });
}

/// CVE-2025-8671: streams that the server itself is made to reset.
#[test]
fn resets_that_are_provoked_end_the_connection() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        for stream in odd(100_000) {
            let begin = frame(h2::HEADERS, END_HEADERS, stream, &POST);
            let wrong = frame(h2::WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes());
            if !client.send(&[begin, wrong].concat()) {
                break;
            }
        }
        assert!(client.ends());
    });
}

/// CVE-2024-27316: header fields that never end.
#[test]
fn endless_continuations_end_the_connection() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        assert!(client.send(&frame(h2::HEADERS, END_STREAM, 1, &GET)));
        let more = frame(h2::CONTINUATION, 0, 1, &field("x-y", "z").repeat(1000));
        (0..10_000).take_while(|_| client.send(&more)).count();
        assert_eq!(client.find(|frame| frame.kind == h2::GOAWAY).expect("a warning").code(), ENHANCE_YOUR_CALM);
        assert!(client.ends());
    });
}

/// CVE-2016-6581: a large field that is remembered once and named ten thousand times.
#[test]
fn header_bombs_are_refused() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        let value = "v".repeat(100);
        let remembered = [&[0x40, 1, b'x', 100][..], value.as_bytes()].concat();
        let fields = [&GET[..], &remembered, &[0xbe; 10_000]].concat();
        assert!(client.send(&frame(h2::HEADERS, END_HEADERS | END_STREAM, 1, &fields)));
        let end = client.find(|frame| matches!(frame.kind, h2::HEADERS | h2::GOAWAY)).expect("an answer");
        assert!(end.kind == h2::GOAWAY || end.status() != 200, "{end:?}");
    });
}

/// CVE-2019-9512: pings whose answers nobody reads.
#[test]
fn pings_do_not_pile_up() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        let pings = frame(h2::PING, 0, 0, b"12345678").repeat(10_000);
        // 170 MB of answers would be due.
        (0..1000).take_while(|_| client.send(&pings)).count();
    });
}

/// CVE-2019-9515: settings whose acknowledgements nobody reads.
#[test]
fn settings_do_not_pile_up() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        let flood = h2::settings(&[(4, 65_535)]).repeat(10_000);
        (0..1000).take_while(|_| client.send(&flood)).count();
    });
}

/// CVE-2019-9517: large answers are asked for, and nobody reads them.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    Site::start("send_timeout 1s;").withstands(|site| {
        let mut client = Connection::open(site.port, &[(4, (1 << 31) - 1)]);
        assert!(client.send(&frame(h2::WINDOW_UPDATE, 0, 0, &((1u32 << 31) - 65_536).to_be_bytes())));
        for stream in odd(100) {
            if !client.send(&get_path(stream, "/large")) {
                break;
            }
        }
        std::thread::sleep(Duration::from_secs(2));
    });
}

/// CVE-2019-9511: answers are asked for, and never any room is made for them.
#[test]
fn streams_without_room_are_given_up() {
    Site::start("send_timeout 1s;").withstands(|site| {
        let mut client = Connection::open(site.port, &[(4, 0)]);
        for stream in odd(10) {
            assert!(client.send(&get_path(stream, "/large")));
        }
        for _ in 0..10 {
            assert!(client.find(|frame| frame.kind == h2::RST_STREAM).is_some());
        }
    });
}

/// CVE-2019-9518: frames that carry nothing.
#[test]
fn empty_frames_end_the_connection() {
    Site::start("").withstands(|site| {
        let mut client = site.open();
        assert!(client.send(&frame(h2::HEADERS, END_HEADERS, 1, &POST)));
        let nothing = frame(h2::DATA, 0, 1, b"").repeat(1000);
        (0..1000).take_while(|_| client.send(&nothing)).count();
        let last = client.find(|frame| frame.kind == h2::GOAWAY);
        assert!(last.is_none_or(|last| last.code() == 0));
        assert!(client.ends());
    });
}

//! WebSockets through the proxy (RFC 6455): whatever a client does, it sees what the server behind would have shown it.
//! Cases of our own, and those of Autobahn's test suite.
//! <https://nginx.org/en/docs/http/websocket.html>
#![cfg(test)]

mod kit;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use kit::autobahn::Suite;
use kit::process::{TempDir, free_port};
use kit::server::{Server, nginx_rs};
use tungstenite::protocol::WebSocketConfig;

const MIB: usize = 1 << 20;
/// Autobahn's cases but those of compression, which the server behind does not offer.
const CASES: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
const ASK: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A server that returns every message.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || converse(stream));
        }
    });
    port
}

fn converse(stream: TcpStream) -> Option<()> {
    let config = WebSocketConfig::default().max_frame_size(Some(64 * MIB));
    let mut socket = tungstenite::accept_with_config(stream, Some(config)).ok()?;
    loop {
        match socket.read() {
            Ok(message) if message.is_text() || message.is_binary() => socket.send(message).ok()?,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    // What was said must not be lost to a reset for what was not read.
    let _ = socket.flush();
    let stream = socket.get_mut();
    stream.shutdown(Shutdown::Write).ok()?;
    std::io::copy(stream, &mut std::io::sink()).ok().map(|_| ())
}

fn front(back: u16) -> (TempDir, Server) {
    let (dir, port) = (TempDir::new("websockets"), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "server {{ listen 127.0.0.1:{port}; access_log off; location / {{ proxy_pass http://127.0.0.1:{back};\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_read_timeout 1h; }} }}\n"
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    (dir, server)
}

/// A frame of a client; the mask is not zero, so that what is passed on must be passed on as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut out = vec![first];
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | u8::try_from(n).expect("a byte")),
        n @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(n).expect("two bytes").to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// A frame that others continue.
const OPEN: u8 = 0x7f;

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// Bytes that are no whole frame yet.
const HALF: usize = 4;

/// Bytes that no frame's length divides.
fn payload(len: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(len).collect()
}

/// What a client sends behind its handshake.
fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    let end = || close(1000, "");
    let mut case = |name: &str, frames: &[Vec<u8>]| cases.push((name.to_owned(), frames.concat()));
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, MIB] {
        case(&format!("text of {len}"), &[frame(TEXT, "*".repeat(len).as_bytes()), end()]);
        case(&format!("binary of {len}"), &[frame(BINARY, &payload(len)), end()]);
    }
    case("16 MB in a frame", &[frame(BINARY, &payload(16 * MIB)), end()]);
    let parts: Vec<Vec<u8>> = payload(4 * MIB).chunks(64 << 10).map(|part| frame(0, part)).collect();
    case("4 MB in 64 fragments", &[vec![frame(BINARY & OPEN, b"")], parts, vec![frame(0x80, b""), end()]].concat());
    case("pings of all lengths", &[vec![frame(PING, b""), frame(PING, &payload(125))], vec![end()]].concat());
    case("a ping too long", &[frame(PING, &payload(126))]);
    case("ten pings", &[vec![frame(PING, b"payload"); 10], vec![end()]].concat());
    case("a pong nobody asked for", &[frame(PONG, b"x"), frame(PING, b"y"), end()]);
    case("fragments", &[frame(TEXT & OPEN, b"one "), frame(0x80, b"two"), end()]);
    case("a ping among fragments", &[frame(TEXT & OPEN, b"a"), frame(PING, b"b"), frame(0x80, b"c"), end()]);
    case("a fragmented ping", &[frame(PING & OPEN, b"a"), frame(0x80, b"b")]);
    case("a continuation of nothing", &[frame(0x80, b"a")]);
    case("a message inside another", &[frame(TEXT & OPEN, b"a"), frame(TEXT, b"b")]);
    for bit in [0x10, 0x20, 0x40, 0x70] {
        case(&format!("reserved bits {bit:x}"), &[frame(TEXT, b"good"), frame(TEXT | bit, b"bad")]);
    }
    for opcode in [3, 7, 11, 15] {
        case(&format!("opcode {opcode}"), &[frame(TEXT, b"good"), frame(0x80 | opcode, b"bad")]);
    }
    case("good UTF-8", &[frame(TEXT, "κόσμε 😀".as_bytes()), end()]);
    let split = "κόσμε".as_bytes();
    case("UTF-8 cut in two", &[frame(TEXT & OPEN, &split[..3]), frame(0x80, &split[3..]), end()]);
    for (name, bad) in [
        ("a lone byte", &b"\xff"[..]),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong form", b"\xc0\xaf"),
        ("no code point", b"\xf4\x90\x80\x80"),
        ("half a character", b"\xce"),
    ] {
        case(name, &[frame(TEXT, bad)]);
        case(&format!("{name} in a reason"), &[frame(CLOSE, &[b"\x03\xe8", bad].concat())]);
    }
    for code in
        [0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1011, 1015, 1016, 2999, 3000, 3999, 4000, 4999, 5000, 65535]
    {
        case(&format!("close {code}"), &[close(code, "so long")]);
    }
    case("an empty close", &[frame(CLOSE, b"")]);
    case("half a code", &[frame(CLOSE, b"\x03")]);
    case("the longest reason", &[close(1000, &"r".repeat(123))]);
    case("a reason too long", &[close(1000, &"r".repeat(124))]);
    case("a message behind the close", &[end(), frame(TEXT, b"late")]);
    case("no mask", &[vec![TEXT, 3, b'h', b'i', b'!']]);
    case("half a frame", &[vec![TEXT, 0x85, 1, 2]]);
    case("no frame", &[]);
    cases
}

/// All that a client hears that sends `frames` in pieces of `piece` bytes, then nothing more.
fn heard(port: u16, frames: &[u8], piece: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream.write_all(ASK).expect("a handshake");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let mut reader = stream.try_clone().expect("a descriptor");
    let hearing = thread::spawn(move || {
        let mut all = Vec::new();
        // Whether it ends with a reset depends on what was under way.
        let _ = reader.read_to_end(&mut all);
        all
    });
    for piece in frames.chunks(piece) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    if frames.len() <= HALF {
        // Nobody would ever end it.
        let _ = stream.shutdown(Shutdown::Write);
    }
    hearing.join().expect("a reader")
}

#[test]
fn every_conversation_is_the_one_without_a_proxy() {
    let back = echo();
    let (_dir, server) = front(back);
    let mut wrong = String::new();
    for (name, frames) in cases() {
        for piece in [usize::MAX, 997, 1] {
            if frames.len() / piece > 4096 {
                continue;
            }
            let (direct, proxied) = (heard(back, &frames, piece), heard(server.port, &frames, piece));
            if direct != proxied {
                let start = |bytes: &[u8]| bytes.get(..40).unwrap_or(bytes).escape_ascii().to_string();
                let (one, other) = (start(&direct), start(&proxied));
                let (len, others) = (direct.len(), proxied.len());
                writeln!(wrong, "{name} in {piece}: {len} bytes {one}, through the proxy {others} {other}")
                    .expect("text");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn autobahn_sees_no_difference() {
    let Some(suite) = Suite::install() else {
        assert!(std::env::var_os("CI").is_none(), "CI has Python and PyPI");
        return;
    };
    let back = echo();
    let (dir, server) = front(back);
    let start = |agent, port| suite.start(agent, port, &CASES, &dir.dir(agent));
    let (direct, proxied) = (start("direct", back), start("proxied", server.port));
    let (direct, proxied) = (direct.results(), proxied.results());
    kit::say(&format!("Autobahn: {} cases", direct.len()));
    assert!(direct.len() >= 300, "{} cases", direct.len());
    assert!(direct.keys().eq(proxied.keys()));
    // A suite that fails at all would find no difference.
    assert!(!direct.values().any(|[behavior, ..]| behavior.contains("FAILED")), "{direct:#?}");
    let pairs = direct.iter().zip(proxied.values());
    let wrong: Vec<String> = pairs
        .filter(|((_, direct), proxied)| direct != proxied)
        .map(|((case, direct), proxied)| format!("{case}: {} became {}", direct.join(" "), proxied.join(" ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

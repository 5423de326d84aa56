//! HTTP/2 frame by frame (RFC 9113 §4): what no well-behaved client would send, and what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Types of frames.
pub const DATA: u8 = 0;
/// Header fields.
pub const HEADERS: u8 = 1;
/// A stream is given up.
pub const RST_STREAM: u8 = 3;
/// Settings, or their acknowledgement.
pub const SETTINGS: u8 = 4;
/// Is anybody there?
pub const PING: u8 = 6;
/// The connection ends.
pub const GOAWAY: u8 = 7;
/// More may be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// More header fields.
pub const CONTINUATION: u8 = 9;

/// The last frame of a stream; of settings and pings, that it is an answer.
pub const END_STREAM: u8 = 1;
/// The last frame of header fields.
pub const END_HEADERS: u8 = 4;

/// `:method: GET`, `:scheme: http`, `:path: /`, and `:authority: a` (RFC 7541 §6).
pub const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// `:method: POST` and the rest as above.
pub const POST: [u8; 6] = [0x83, 0x86, 0x84, 0x41, 1, b'a'];

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload.get(at..at + 4).map_or(u32::MAX, |code| u32::from_be_bytes(code.try_into().expect("four bytes")))
    }

    /// The status of HEADERS whose first field is one of the static table.
    pub fn status(&self) -> u16 {
        match self.payload.first() {
            Some(0x88) => 200,
            Some(0x89) => 204,
            Some(0x8a) => 206,
            Some(0x8b) => 304,
            Some(0x8c) => 400,
            Some(0x8d) => 404,
            Some(0x8e) => 500,
            _ => 0,
        }
    }
}

/// One frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Settings as pairs.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A field that neither side remembers (RFC 7541 §6.2.2); up to 126 bytes each.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let byte = |len: usize| u8::try_from(len).expect("a short string");
    [&[0, byte(name.len())], name.as_bytes(), &[byte(value.len())], value.as_bytes()].concat()
}

/// A connection after the prefaces.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects to 127.0.0.1:`port` and sends the preface with these settings.
    pub fn open(port: u16, pairs: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        let mut connection = Self { stream };
        assert!(connection.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings(pairs)[..]].concat()));
        connection
    }

    /// Sends bytes; false where the server takes no more or has closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; nothing when the connection ended, or stayed silent for five seconds.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads up to the first frame that `wanted` takes.
    pub fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let frame = self.read()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
        None
    }

    /// Whether the server ends the connection within ten seconds.
    pub fn ends(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        let mut waste = [0; 4096];
        while Instant::now() < end {
            match self.stream.read(&mut waste) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

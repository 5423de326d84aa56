//! A WebSocket client: handshake, masked frames out, frames in (RFC 6455, sections 4 and 5).

use super::http::{Connection, Response};
use std::io;

/// The key of RFC 6455 section 1.3, whose answer is known.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame's opcode and payload; continuation frames are not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Unmasked.
    pub payload: Vec<u8>,
}

/// An open WebSocket.
pub struct Socket {
    connection: Connection,
    /// The answer to the handshake.
    pub response: Response,
}

impl Socket {
    /// Asks for `path` with `headers` (whole lines with CRLF) added; an error unless the answer is a valid 101.
    pub fn open(port: u16, path: &str, headers: &str) -> io::Result<Self> {
        let mut connection = Connection::open(port)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
        );
        connection.send(request.as_bytes())?;
        let response = connection.read_head()?;
        if response.status != 101 || response.header("Sec-WebSocket-Accept") != Some(ACCEPT) {
            return Err(io::Error::other(format!("no WebSocket: {response}")));
        }
        Ok(Self { connection, response })
    }

    /// Sends one final frame.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            n @ 0..=125 => frame.push(0x80 | n as u8),
            n @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend((n as u16).to_be_bytes());
            }
            n => {
                frame.push(0x80 | 127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.connection.send(&frame)
    }

    /// The next frame.
    pub fn receive(&mut self) -> io::Result<Frame> {
        let head = self.connection.take(2)?;
        let length = match head[1] & 0x7F {
            126 => big_endian(&self.connection.take(2)?),
            127 => big_endian(&self.connection.take(8)?),
            n => usize::from(n),
        };
        Ok(Frame { opcode: head[0] & 0x0F, payload: self.connection.take(length)? })
    }

    /// Does the peer close the connection soon?
    pub fn closed(&mut self) -> bool {
        self.connection.closed_within(std::time::Duration::from_secs(5))
    }
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
}

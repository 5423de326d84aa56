//! A conversation over /ws/echo/. https://nginx.org/en/docs/http/websocket.html

use super::masks;
use crate::kit::ws::{Frame, Socket};
use std::io;

/// Talks to the echo through the server on `port`; what came back, as masked text.
pub(crate) fn talk(port: u16) -> io::Result<String> {
    let headers = "Host: demo.test\r\nOrigin: http://demo.test\r\nSec-WebSocket-Protocol: first, second\r\n";
    let mut socket = Socket::open(port, "/ws/echo/", headers)?;
    let mut heard = masks::response(&socket.response.to_string(), port, false);
    let mut hear = |frame: &Frame| heard += &format!("{} {}\n", frame.opcode, String::from_utf8_lossy(&frame.payload));
    hear(&socket.receive()?);

    socket.send(1, "hällo".as_bytes())?;
    hear(&socket.receive()?);
    socket.send(9, b"still there?")?;
    hear(&socket.receive()?);

    // Many messages at once come back in order; long ones come back whole.
    for n in 0..50 {
        socket.send(1, format!("message {n}").as_bytes())?;
    }
    for _ in 0..50 {
        hear(&socket.receive()?);
    }
    for length in [126, 65_535, 65_536, 1_000_000] {
        let sent: Vec<u8> = (0..=255).cycle().take(length).collect();
        socket.send(2, &sent)?;
        let got = socket.receive()?;
        assert!(got == Frame { opcode: 2, payload: sent }, "{length} bytes changed on their way");
    }

    socket.send(1, b"bye")?;
    let close = socket.receive()?;
    assert_eq!((close.opcode, close.payload.as_slice()), (8, 4001_u16.to_be_bytes().as_slice()));
    socket.send(8, &close.payload)?;
    assert!(socket.closed(), "the connection stays open after both sides closed the WebSocket");
    Ok(heard)
}

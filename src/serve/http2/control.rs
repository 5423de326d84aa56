//! Frames that steer: resets, pings, windows and settings (RFC 9113 §6.4, §6.5, §6.7, §6.9).

use super::Connection;
use super::input::Done;
use crate::http::h2::frame::{self, Code, Head};

/// A frame on a stream where it must not be.
pub fn wrong_stream<T>(at: &Connection, kind: &str) -> Done<T> {
    at.bad(Code::PROTOCOL_ERROR, &format!("client sent {kind} frame with incorrect identifier"))
}

/// The client ends a stream.
pub fn reset(at: &Connection, head: Head, start: [u8; 8]) -> Done<()> {
    if head.stream == 0 {
        return wrong_stream(at, "RST_STREAM");
    }
    if let Some(stream) = at.link.stream(head.stream) {
        stream.cancel(Code(frame::read_number(&start).unwrap_or_default()));
    }
    Ok(())
}

/// The client wants to hear something.
pub fn ping(at: &Connection, head: Head, start: [u8; 8]) -> Done<()> {
    if head.stream != 0 {
        return wrong_stream(at, "PING");
    }
    if !head.has(frame::ACK) {
        at.link.control(|out| frame::ping(out, frame::ACK, start));
    }
    Ok(())
}

/// The client makes room.
pub fn window_update(at: &Connection, head: Head, start: [u8; 8]) -> Done<()> {
    let more = frame::read_number(&start).unwrap_or_default() & frame::MAX_WINDOW;
    if more == 0 {
        return at.bad(Code::PROTOCOL_ERROR, "client sent WINDOW_UPDATE frame with incorrect window increment 0");
    }
    let violated = |what: &str, window: i64| {
        format!(
            "client violated {what}: \
             received WINDOW_UPDATE frame with window increment {more} not allowed for window {window}"
        )
    };
    if head.stream == 0 {
        let window = at.link.window.get();
        if more > frame::MAX_WINDOW - window {
            return at.bad(Code::FLOW_CONTROL_ERROR, &violated("connection flow control", i64::from(window)));
        }
        at.link.window.set(window + more);
        return Ok(());
    }
    let Some(stream) = at.link.stream(head.stream) else { return Ok(()) };
    let window = stream.window.get();
    if i64::from(more) > i64::from(frame::MAX_WINDOW) - window {
        at.log(&violated(&format!("flow control for stream {}", head.stream), window));
        stream.terminate(Code::FLOW_CONTROL_ERROR);
    } else {
        stream.window.set(window + i64::from(more));
    }
    Ok(())
}

/// The client is like this.
pub fn setting(at: &Connection, id: u16, value: u32) -> Done<()> {
    let wrong =
        |code, name: &str| at.bad(code, &format!("client sent SETTINGS frame with incorrect {name} value {value}"));
    match id {
        frame::INITIAL_WINDOW_SIZE => {
            if value > frame::MAX_WINDOW {
                return wrong(Code::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE");
            }
            let change = i64::from(value) - i64::from(at.link.initial.replace(value));
            for stream in at.link.streams.borrow().values() {
                let window = stream.window.get() + change;
                if change > 0 && window > i64::from(frame::MAX_WINDOW) {
                    stream.terminate(Code::FLOW_CONTROL_ERROR);
                } else {
                    stream.window.set(window);
                }
            }
        }
        frame::MAX_FRAME_SIZE_SETTING => {
            let size = value as usize;
            if !(frame::FRAME_SIZE..=frame::MAX_FRAME_SIZE).contains(&size) {
                return wrong(Code::PROTOCOL_ERROR, "MAX_FRAME_SIZE");
            }
            at.link.frame.set(size);
        }
        frame::ENABLE_PUSH if value > 1 => return wrong(Code::PROTOCOL_ERROR, "ENABLE_PUSH"),
        frame::HEADER_TABLE_SIZE => at.link.encoder.borrow_mut().resize(value as usize),
        _ => {}
    }
    Ok(())
}

//! What stands before the first request of a connection: the PROXY protocol header
//! (<https://nginx.org/en/docs/http/ngx_http_core_module.html#listen>) and HTTP/2's preface (RFC 9113 §3.4).

use crate::http::Client;
use crate::net::Level;
use crate::net::proxy_protocol;
use crate::net::stream::make_room;
use crate::net::timer::within;
use crate::table::Listen;

/// Longest header, with its TLVs.
const LONGEST: usize = 4096;

/// What HTTP/2 clients say first.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the client speaks HTTP/2; nothing when the connection must end. What was read stays to be read.
pub async fn is_http2(client: &Client, listen: &Listen) -> Option<bool> {
    let limit = listen.default.root.loc.core.server.client_header_timeout;
    let reading = async {
        let room = usize::try_from(listen.default.root.loc.core.server.client_header_buffer_size).unwrap_or(1024);
        loop {
            let begins = {
                let mut input = client.input.borrow_mut();
                make_room(&mut input, room);
                let len = input.len().min(HTTP2.len());
                (input.get(..len) == HTTP2.get(..len)).then_some(len)
            };
            match begins {
                None => return Some(false),
                Some(len) if len == HTTP2.len() => return Some(true),
                Some(_) => {}
            }
            let read = std::future::poll_fn(|cx| client.stream.poll_read(cx, &mut client.input.borrow_mut(), room));
            match read.await {
                Ok(1..) => client.stage.read(),
                _ => return None,
            }
        }
    };
    within(limit, reading).await?
}

/// Reads the header; nothing when the connection must end.
pub async fn read(client: &Client, listen: &Listen) -> Option<()> {
    let limit = listen.default.root.loc.core.server.client_header_timeout;
    let reading = async {
        let mut input = std::mem::take(&mut *client.input.borrow_mut());
        loop {
            match proxy_protocol::read(&input) {
                Ok(Some((found, end))) => {
                    drop(input.split_to(end));
                    *client.input.borrow_mut() = input;
                    return Ok(Some(found));
                }
                Ok(None) if input.len() >= LONGEST => return Err("header is too large".to_owned()),
                Ok(None) => {}
                Err(problem) => return Err(problem),
            }
            make_room(&mut input, LONGEST);
            match client.stream.read(&mut input, LONGEST).await {
                Ok(1..) => {}
                _ => return Ok(None),
            }
        }
    };
    let log = |level, problem: &str| {
        let client_text = String::from_utf8_lossy(&client.peer_text);
        let at = &listen.addr;
        let text = format!("{problem} while reading PROXY protocol, client: {client_text}, server: {at}");
        listen.default.root.loc.core.error_log.write(level, Some(client.number), &text);
    };
    match within(limit, reading).await {
        Some(Ok(found)) => {
            if let Some(header) = found? {
                // Set once: a connection begins once.
                let _ = client.proxied.set(header);
            }
            Some(())
        }
        Some(Err(problem)) => {
            log(Level::Error, &problem);
            None
        }
        None => {
            log(Level::Info, "client timed out (110: Connection timed out)");
            None
        }
    }
}

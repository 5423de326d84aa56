//! The client's body on its way to an upstream server: read whole first, or sent while it comes
//! (<https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_request_buffering>).

use std::sync::Arc;

use super::Conf;
use crate::conf::load::os_error;
use crate::http::core::InFileOnly;
use crate::http::{Body, Cause, Fault, Request, Side};
use crate::net::Level;

/// Reads the body as far as it must be read before any of it is sent; nothing where it is sent while it comes.
/// `may_chunk` tells whether the protocol can do so with a body of unknown length. The error is the status to answer with.
pub async fn body(conf: &Conf, may_chunk: bool, request: &mut Request) -> Result<Option<Body>, u16> {
    let buffers = conf.request_buffering || (request.body.is_chunked() && !may_chunk);
    if !buffers && conf.pass_request_body && !read_ready(request).await? {
        return Ok(None);
    }
    read(request).await?;
    Ok(Some(if conf.pass_request_body { request.body.kept() } else { Body::Empty }))
}

/// Reads the client's body into memory or a file. The error is the status to answer with.
pub async fn read(request: &mut Request) -> Result<(), u16> {
    if request.body.is_done() && !request.body.owes_welcome() {
        return Ok(());
    }
    let scope = Arc::clone(&request.scope);
    request.body.read_all(scope.core()).await.map_err(|fault| refused(&fault, request))?;
    if let Some(path) = request.body.spooled() {
        let level =
            if request.core().client_body_in_file_only == InFileOnly::Off { Level::Warn } else { Level::Notice };
        let path = path.display();
        request.log(level, &format!("a client request body is buffered to a temporary file {path}"));
    }
    Ok(())
}

/// Reads what has come of the client's body; true if that is all of it.
async fn read_ready(request: &mut Request) -> Result<bool, u16> {
    if request.body.is_done() {
        return Ok(true);
    }
    let most = request.core().client_body_buffer_size;
    request.body.read_ready(most).await.map_err(|fault| refused(&fault, request))
}

/// The status to answer a body with that could not be read.
fn refused(fault: &Fault, request: &mut Request) -> u16 {
    let streams = request.client.h2.is_some();
    let left = matches!(fault.cause, Cause::Closed | Cause::Io(_) | Cause::TimedOut);
    request.body.lost = left && fault.side == Side::Client && !streams;
    match (fault.side, &fault.cause) {
        (Side::Client, Cause::TooLarge) => {
            let (received, more) = request.body.excess.unwrap_or_default();
            let size = if streams { (received + more).to_string() } else { format!("{received}+{more}") };
            request.log(Level::Error, &format!("client intended to send too large chunked body: {size} bytes"));
            413
        }
        (Side::Client, Cause::TimedOut) => {
            if streams {
                let text = "client timed out (110: Connection timed out) while reading client request body";
                request.log(Level::Info, text);
            }
            408
        }
        (Side::Client, Cause::Protocol(text)) => {
            request.log(if streams { Level::Info } else { Level::Error }, text);
            400
        }
        (Side::Client, _) if streams => {
            request.log(Level::Info, "client prematurely closed stream while reading client request body");
            499
        }
        (Side::Client, Cause::Io(error)) => {
            request.log(Level::Info, &format!("recv() failed ({})", os_error(error)));
            400
        }
        (Side::Client, _) => {
            request.log(Level::Info, "client prematurely closed connection");
            400
        }
        _ => {
            request.log(Level::Crit, &format!("{fault} while reading client request body"));
            500
        }
    }
}

//! What becomes of a response on any wire: its body trimmed, its speed, its faults in nginx's words, its log lines.

use std::sync::Arc;

use super::phases;
use crate::http::attempts::SENDING;
use crate::http::flow::{Cause, Fault, Side, Stage};
use crate::http::h1::write::Rate;
use crate::http::request::Version;
use crate::http::{Body, Core, Head, Method, Request, Value};
use crate::net::{Level, Stream};
use crate::table::{Location, Server};
use crate::upstream;

/// Takes away what responses of this status, or to this method, do not have.
pub fn trim(request: &Request, head: &mut Head, body: &mut Body) {
    // HTTP/2 keeps them from an upstream's response, too: clients refuse a length.
    if head.status == 204 && (head.line.is_none() || request.version >= Version::HTTP_20) {
        (head.content_type, head.content_length) = (None, None);
    }
    let bodiless =
        request.method == Method::Head || (request.version > Version::HTTP_09 && matches!(head.status, 204 | 304));
    if bodiless && !matches!(body, Body::Tunnel(_)) {
        *body = Body::Empty;
    }
}

/// How fast the body may leave.
pub fn rate(request: &Request, core: &Core) -> Rate {
    let value = |value: &Option<Value>| {
        value.as_ref().and_then(|value| crate::conf::units::size(&value.get(request))).unwrap_or_default()
    };
    Rate { limit: request.limit_rate.unwrap_or_else(|| value(&core.limit_rate)), after: value(&core.limit_rate_after) }
}

/// Tells the log why a response ended early; `reset` is `reset_timedout_connection`.
pub fn report(request: &mut Request, fault: &Fault, stream: &Stream, reset: bool) {
    request.keep_alive = false;
    let passed = request.upstream.url.is_some() || request.upstream.doing == SENDING;
    let passing = request.upstream.attempts.passing.get();
    let sending = if passed { SENDING } else { "sending response to client" };
    match (fault.side, &fault.cause) {
        (Side::Client, Cause::TimedOut) => {
            if reset {
                stream.reset_on_close();
            }
            let doing = match fault.stage {
                Stage::Upgraded => upstream::report::stage(Stage::Upgraded),
                _ => sending,
            };
            request.log(Level::Info, &format!("client timed out (110: Connection timed out) while {doing}"));
        }
        (Side::Client, _) if fault.stage == Stage::Upgraded => {
            request.log(Level::Info, &upstream::report::body(fault, passing));
        }
        (Side::Client, Cause::Io(error)) if request.upstream.headers.is_some() && !request.upstream.ignores_abort => {
            // nginx sees the client's end before it writes again; what was written to a closed end is told by a reset.
            if error.kind() != std::io::ErrorKind::BrokenPipe {
                stream.note(error);
            }
            request.log(Level::Info, &format!("{} while reading upstream", upstream::report::left(stream)));
        }
        (Side::Client, Cause::Io(error)) => {
            let text = crate::conf::load::os_error(error);
            // Without an upstream nginx sees the client's end before it writes again.
            let what = if passed { "writev() failed" } else { "client prematurely closed connection" };
            request.log(Level::Info, &format!("{what} ({text}) while {sending}"));
        }
        (Side::Client, Cause::Closed) if fault.stage == Stage::Body => {
            let doing = if passing { SENDING } else { "reading upstream" };
            request.log(Level::Info, &format!("{} while {doing}", upstream::report::left(stream)));
        }
        (Side::Client, _) => {
            let error = stream.broken().map(|error| format!(" ({})", crate::conf::load::os_error(&error)));
            let error = error.unwrap_or_default();
            request.log(Level::Info, &format!("client prematurely closed connection{error} while {sending}"));
        }
        (Side::Upstream, cause) => {
            // The time limit of both directions is logged as the client's affair.
            let info = fault.stage == Stage::Upgraded && matches!(cause, Cause::TimedOut);
            request.log(if info { Level::Info } else { Level::Error }, &upstream::report::body(fault, passing));
        }
        (Side::Here, Cause::Protocol(text)) => {
            request.log(Level::Error, &format!("{text} while sending response to client"));
        }
        (Side::Here, _) => request.log(Level::Crit, &format!("{fault} while sending response to client")),
    }
}

/// Logs what a body came upon while it was under way.
pub fn tell(request: &Request) {
    if !request.upstream.attempts.has_notes() {
        return;
    }
    for (level, text) in request.upstream.attempts.take_notes() {
        request.log(level, &text);
    }
}

/// Runs `post_action` and the log phase.
pub async fn log(request: &mut Request, server: &Arc<Server>, location: &Arc<Location>) {
    match &location.loc.core.post_action {
        Some(to) => Box::pin(phases::post_action(request, server, location, to)).await.loc.log(request),
        None => location.loc.log(request),
    }
}

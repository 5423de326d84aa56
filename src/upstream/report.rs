//! Failures of an exchange in nginx's words.

use super::exchange::Failed;
use crate::conf::load::os_error;
use crate::http::flow::Side;
use crate::http::{Cause, Fault, Request, Stage};
use crate::net::Level;
use crate::net::addr::Endpoint;

/// What was being done.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connecting to upstream",
        Stage::Send => "sending request to upstream",
        Stage::Head => "reading response header from upstream",
        Stage::Body => "reading upstream",
    }
}

/// The same for a failed try; a reply that was refused for its status was read as far as its head.
pub fn stage_of(failed: &Option<Failed>) -> &'static str {
    failed.as_ref().map_or_else(|| stage(Stage::Head), |failed| failed.stage)
}

/// The sentence of a fault in a body whose head had left already.
pub fn body(fault: &Fault) -> String {
    match &fault.cause {
        Cause::TimedOut => "upstream timed out (110: Connection timed out) while reading upstream".to_owned(),
        Cause::Closed => "upstream prematurely closed connection while reading upstream".to_owned(),
        Cause::Io(error) => format!("recv() failed ({}) while reading upstream", os_error(error)),
        _ => format!("{fault} while reading upstream"),
    }
}

/// Writes a fault to the error log.
pub fn log(request: &Request, fault: &Fault, at: &Endpoint) {
    let stage_text = stage(fault.stage);
    let (level, text) = match &fault.cause {
        Cause::TimedOut => (Level::Error, "upstream timed out (110: Connection timed out)".to_owned()),
        Cause::Closed => (Level::Error, "upstream prematurely closed connection".to_owned()),
        Cause::Protocol(text) if fault.side == Side::Here => (Level::Alert, text.clone()),
        Cause::Protocol(text) => (Level::Error, text.clone()),
        Cause::TooLarge => (Level::Error, "upstream sent too big header".to_owned()),
        Cause::Io(error) => {
            let text = os_error(error);
            match (fault.stage, at) {
                (Stage::Connect, Endpoint::Unix(path)) => {
                    let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
                    let level = if refused { Level::Error } else { Level::Crit };
                    (level, format!("connect() to unix:{} failed ({text}){}", path.display(), cause_of(path, error)))
                }
                (Stage::Connect, _) => (Level::Error, format!("connect() failed ({text})")),
                (Stage::Send, _) => (Level::Error, format!("writev() failed ({text})")),
                _ => (Level::Error, format!("recv() failed ({text})")),
            }
        }
    };
    // A protocol may have said all there is to say.
    if !text.is_empty() {
        request.log(level, &format!("{text} while {stage_text}"));
    }
}

/// Which part of a unix socket's path is to blame, where nginx leaves one guessing.
fn cause_of(path: &std::path::Path, error: &std::io::Error) -> String {
    if error.kind() != std::io::ErrorKind::NotFound {
        return String::new();
    }
    let missing = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()).last();
    missing.map_or_else(String::new, |parent| format!(", \"{}\" does not exist", parent.display()))
}

//! Failures of an exchange in nginx's words.

use std::io::ErrorKind;
use std::path::Path;

use super::exchange::Failed;
use crate::conf::load::os_error;
use crate::http::attempts::SENDING;
use crate::http::flow::Side;
use crate::http::{Cause, Fault, Request, Stage};
use crate::net::addr::Endpoint;
use crate::net::{Level, Stream};

/// The client left before it had its response.
pub fn left(client: &Stream) -> String {
    let error = client.broken().map(|error| format!(" ({})", os_error(&error))).unwrap_or_default();
    format!(
        "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too{error}"
    )
}

/// What was being done.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connecting to upstream",
        Stage::Handshake => "SSL handshaking to upstream",
        Stage::Send => "sending request to upstream",
        Stage::Head => "reading response header from upstream",
        Stage::Body => "reading upstream",
        Stage::Upgraded => "proxying upgraded connection",
    }
}

/// The same for a failed try; a reply that was refused for its status was read as far as its head.
pub fn stage_of(failed: &Option<Failed>) -> &'static str {
    failed.as_ref().map_or_else(|| stage(Stage::Head), |failed| failed.stage)
}

/// The sentence of a fault behind a head that had left already.
pub fn body(fault: &Fault, passing: bool) -> String {
    let text = match &fault.cause {
        Cause::TimedOut => "upstream timed out (110: Connection timed out)".to_owned(),
        Cause::Closed => "upstream prematurely closed connection".to_owned(),
        Cause::Io(error) => format!("recv() failed ({})", os_error(error)),
        _ => fault.to_string(),
    };
    let doing = match fault.stage {
        Stage::Upgraded | Stage::Head => stage(fault.stage),
        // That it is late shows as its server is waited for.
        _ if passing && !matches!(fault.cause, Cause::TimedOut) => SENDING,
        _ => stage(Stage::Body),
    };
    format!("{text} while {doing}")
}

/// Writes a fault to the error log.
pub fn log(request: &Request, fault: &Fault, at: &Endpoint) {
    let stage_text = stage(fault.stage);
    let (level, text) = match &fault.cause {
        Cause::TimedOut => (Level::Error, "upstream timed out (110: Connection timed out)".to_owned()),
        Cause::Closed => (Level::Error, "upstream prematurely closed connection".to_owned()),
        Cause::Short(text) => (Level::Error, (*text).to_owned()),
        Cause::Protocol(text) if fault.side == Side::Here => (Level::Alert, text.clone()),
        Cause::Protocol(text) => (Level::Error, text.clone()),
        Cause::TooLarge => (Level::Error, "upstream sent too big header".to_owned()),
        Cause::Io(error) => {
            let text = os_error(error);
            match (fault.stage, at) {
                (Stage::Connect, Endpoint::Unix(path)) => {
                    let refused = error.kind() == ErrorKind::ConnectionRefused;
                    let level = if refused { Level::Error } else { Level::Crit };
                    (level, format!("connect() to unix:{} failed ({text}){}", path.display(), cause_of(path, error)))
                }
                (Stage::Handshake, _) => (Level::Error, format!("SSL_do_handshake() failed ({text})")),
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
fn cause_of(path: &Path, error: &std::io::Error) -> String {
    use nix::unistd::{AccessFlags, access};
    let parents = || path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let lacks = |path: &Path, right| access(path, right) == Err(nix::errno::Errno::EACCES);
    let (at, what) = match error.kind() {
        ErrorKind::NotFound => (parents().filter(|parent| !parent.exists()).last(), "does not exist"),
        ErrorKind::PermissionDenied => match parents().filter(|parent| lacks(parent, AccessFlags::X_OK)).last() {
            Some(parent) => (Some(parent), "may not be entered"),
            None => (Some(path).filter(|path| lacks(path, AccessFlags::W_OK)), "may not be written to"),
        },
        _ => return String::new(),
    };
    at.map_or_else(String::new, |at| format!(", \"{}\" {what}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn blames_a_part_of_the_path() {
        let dir = std::env::temp_dir().join(format!("blame-{}", std::process::id()));
        let (inner, socket) = (dir.join("inner"), dir.join("inner/app.sock"));
        let missing = std::io::Error::from(ErrorKind::NotFound);
        assert_eq!(cause_of(&socket, &missing), format!(", \"{}\" does not exist", dir.display()));
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(cause_of(&socket, &missing), "");
        if !nix::unistd::geteuid().is_root() {
            let denied = std::io::Error::from(ErrorKind::PermissionDenied);
            std::fs::write(&socket, "").unwrap();
            let allow = |path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            allow(&socket, 0o400);
            assert_eq!(cause_of(&socket, &denied), format!(", \"{}\" may not be written to", socket.display()));
            allow(&inner, 0o600);
            assert_eq!(cause_of(&socket, &denied), format!(", \"{}\" may not be entered", inner.display()));
            allow(&inner, 0o700);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

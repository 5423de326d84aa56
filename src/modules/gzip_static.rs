//! Files that lie compressed beside the ones asked for: <https://nginx.org/en/docs/http/ngx_http_gzip_static_module.html>

use std::io;

use nix::errno::Errno;

use super::{Phases, Seal};
use crate::conf::field::one_of;
use crate::conf::{Contexts, Diag, Directive, on};
use crate::http::disk::{self, Found};
use crate::http::{Flow, Head, Method, Request, gzip};
use crate::net::Level;

/// `ngx_http_gzip_static_module`.
pub struct Module;

/// When such a file is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Never.
    #[default]
    Off,
    /// To clients that take it.
    On,
    /// Always.
    Always,
}

impl super::Module for Module {
    type Conf = When;
    type Main = ();
    type Loc = When;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<When>] = &[on("gzip_static", Contexts::SCOPES, 1..=1, |when, a| {
        let values = [("off", When::Off), ("on", When::On), ("always", When::Always)];
        *when = one_of(a.word(0), &values).map_err(|problem| problem.at(0))?;
        Ok(())
    })];

    fn seal(conf: When, (): &(), _: &mut Seal<'_>) -> Result<When, Diag> {
        Ok(conf)
    }

    async fn content(when: &When, request: &mut Request) -> Flow {
        let asked = matches!(request.method, Method::Get | Method::Head) && request.uri.last() != Some(&b'/');
        if *when == When::Off || !asked { Flow::Next } else { serve(*when, request) }
    }
}

fn serve(when: When, request: &mut Request) -> Flow {
    let accepted = when == When::Always || gzip::accepted(request, &Head::default());
    if !accepted && !request.core().gzip.vary {
        return Flow::Next;
    }
    let mut path = match request.path() {
        Ok(path) => path,
        Err(flow) => return flow,
    };
    path.extend_from_slice(b".gz");
    let found = match disk::open(request, &path) {
        Ok(found) => found,
        Err(error) => {
            report(request, &path, &error);
            return Flow::Next;
        }
    };
    if when == When::On {
        request.gzip.vary.set(true);
    }
    match found {
        _ if !accepted => Flow::Next,
        Found::Directory => Flow::Next,
        Found::Other => {
            request.log(Level::Crit, &format!("\"{}\" is not a regular file", String::from_utf8_lossy(&path)));
            Flow::Fail(404)
        }
        Found::File(file) => {
            let mut response = file.response(request);
            response.head.headers.push(b"Content-Encoding", b"gzip");
            Flow::Respond(Box::new(response))
        }
    }
}

fn report(request: &Request, path: &[u8], error: &io::Error) {
    let level = match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => return,
        Errno::EACCES | Errno::ELOOP | Errno::EMLINK => Level::Error,
        _ => Level::Crit,
    };
    disk::log(request, level, "open()", path, error);
}

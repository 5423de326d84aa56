//! Files below `root` or `alias`: <https://nginx.org/en/docs/http/ngx_http_core_module.html#root>

use super::{Phases, Seal};
use crate::conf::Diag;
use crate::http::disk::{self, Found};
use crate::http::{Flow, Method, Request};
use crate::net::Level;

/// `ngx_http_static_module`.
pub struct Module;

impl super::Module for Module {
    type Conf = ();
    type Main = ();
    type Loc = ();
    const PHASES: Phases = Phases::CONTENT;

    fn seal((): (), (): &(), _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }

    async fn content((): &(), request: &mut Request) -> Flow {
        serve(request)
    }
}

fn serve(request: &mut Request) -> Flow {
    if !matches!(request.method, Method::Get | Method::Head | Method::Post) {
        return Flow::Fail(405);
    }
    if request.uri.last() == Some(&b'/') {
        return Flow::Next;
    }
    let path = match request.path() {
        Ok(path) => path,
        Err(flow) => return flow,
    };
    match disk::open(request, &path) {
        Ok(Found::File(_)) if request.method == Method::Post => Flow::Fail(405),
        Ok(Found::File(file)) => Flow::Respond(Box::new(file.response(request))),
        Ok(Found::Directory) => request.add_slash(),
        Ok(Found::Other) => {
            request.log(Level::Crit, &format!("\"{}\" is not a regular file", String::from_utf8_lossy(&path)));
            Flow::Fail(404)
        }
        Err(error) => disk::failed(request, "open()", &path, &error),
    }
}

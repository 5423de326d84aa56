//! One transparent pixel: <https://nginx.org/en/docs/http/ngx_http_empty_gif_module.html>

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::{Contexts, Diag, Directive, Local, on};
use crate::http::{Flow, Method, Request, Response};

/// `ngx_http_empty_gif_module`.
pub struct Module;

const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\x01\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\x01\0,\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0;";
/// 28 September 1970, as in nginx.
const MODIFIED: i64 = 23_349_600;

impl super::Module for Module {
    type Conf = Local<bool>;
    type Main = ();
    type Loc = bool;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Local<bool>>] = &[on("empty_gif", Contexts::LOCATION, 0..=0, |c, _| {
        c.0 = true;
        Ok(())
    })];

    fn seal(conf: Local<bool>, (): &(), _: &mut Seal<'_>) -> Result<bool, Diag> {
        Ok(conf.0)
    }

    fn enter_unnamed(outer: &Local<bool>, inner: &mut Local<bool>) {
        inner.0 = outer.0;
    }

    async fn content(on: &bool, request: &mut Request) -> Flow {
        if !on {
            return Flow::Next;
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return Flow::Fail(405);
        }
        let mut response = Response::text(200, &Bytes::from_static(b"image/gif"), Bytes::from_static(PIXEL));
        response.head.last_modified = Some(MODIFIED);
        Flow::Respond(Box::new(response))
    }
}

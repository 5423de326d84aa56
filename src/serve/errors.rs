//! Responses for statuses: `error_page`, and nginx's built-in pages byte for byte.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#error_page>

use bytes::Bytes;

use crate::http::core::{Core, Tokens};
use crate::http::escape::{self, Set};
use crate::http::fields::status_line;
use crate::http::request::Version;
use crate::http::{Agent, Body, Flow, Head, Known, Method, Request, Response, Target, uri};

/// What a failure with `status` leads to: a page of the configuration, or a built-in one.
pub fn fail(request: &mut Request, status: u16) -> Flow {
    request.error_status = status;
    if matches!(status, 408 | 444 | 499) {
        // Nobody is to be answered, or nobody is there.
        let head = Head { status, silent: true, ..Head::default() };
        return Flow::Respond(Box::new(Response { head, body: Body::Empty }));
    }
    // The type is that of the page; of what `X-Accel-Redirect` brought, its charset alone stays.
    request.carried.content_type = None;
    if matches!(status, 400 | 413 | 414 | 497 | 495 | 496 | 500 | 501) {
        request.keep_alive = false;
    }
    let page = request.core().error_pages.iter().find(|page| page.status == status).cloned();
    let Some(page) = page.filter(|_| !request.error_page && request.changes_left > 0) else {
        if !request.core().recursive_error_pages && !request.core().error_pages.is_empty() {
            request.error_page = true;
        }
        return Flow::Respond(Box::new(builtin(request, status)));
    };
    if !request.core().recursive_error_pages {
        request.error_page = true;
    }
    request.error_status = page.overwrite.unwrap_or(status);
    let target = page.uri.bytes(request);
    match target.first() {
        Some(b'/') => {
            if request.method != Method::Head {
                request.method = Method::Get;
                request.method_name = Bytes::from_static(b"GET");
            }
            let (path, args) = match page.uri.as_literal() {
                Some(_) => (target.to_vec(), page.args.as_ref().map(|args| args.to_vec())),
                None => {
                    let (path, args) = uri::split_args(&target);
                    (path.to_vec(), Some(args.to_vec()))
                }
            };
            Flow::Jump(Target::Uri { uri: path, args })
        }
        Some(b'@') => Flow::Jump(Target::Named(target)),
        _ => {
            let status = page.overwrite.filter(|code| matches!(code, 301 | 302 | 303 | 307 | 308)).unwrap_or(302);
            request.error_status = status;
            request.location = Some(target);
            Flow::Respond(Box::new(builtin(request, status)))
        }
    }
}

/// nginx's own page for a status; an empty body for those it has none for.
pub fn builtin(request: &mut Request, status: u16) -> Response {
    if matches!(status, 301 | 302) && request.core().msie_refresh && matches!(request.agent(), Agent::Msie { .. }) {
        return refresh(request);
    }
    let shown = if matches!(status, 494..=497) { 400 } else { status };
    let mut response = Response::new(shown);
    request.error_status = shown;
    let Some((title, heading, extra)) = page(status) else {
        response.head.content_length = Some(0);
        return response;
    };
    let core = request.core();
    let mut body =
        format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n");
    if let Some(extra) = extra {
        body.push_str(&format!("<center>{extra}</center>\r\n"));
    }
    body.push_str(&format!("<hr><center>{}</center>\r\n</body>\r\n</html>\r\n", signature(core)));
    if status >= 400
        && core.msie_padding
        && request.version >= Version::HTTP_10
        && matches!(request.agent(), Agent::Msie { .. } | Agent::Chrome)
    {
        body.push_str(&"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n".repeat(6));
    }
    request.carried.headers.retain(|field| field.known != Known::AcceptRanges);
    response.head.content_type = Some(Bytes::from_static(b"text/html"));
    response.head.content_length = Some(body.len() as u64);
    response.body = Body::Full(body.into());
    response
}

/// A redirect as a page, for Internet Explorers that follow no other.
fn refresh(request: &mut Request) -> Response {
    let mut body = b"<html><head><meta http-equiv=\"Refresh\" content=\"0; URL=".to_vec();
    escape::escape(&request.location.take().unwrap_or_default(), Set::Refresh, &mut body);
    body.extend_from_slice(b"\"></head><body></body></html>\r\n");
    request.error_status = 200;
    Response::text(200, &Bytes::from_static(b"text/html"), body.into())
}

fn signature(core: &Core) -> &'static str {
    match core.server_tokens {
        Tokens::On => crate::SERVER,
        Tokens::Build => crate::SERVER_BUILD,
        Tokens::Off => "nginx",
    }
}

/// Title, heading and a line of explanation.
fn page(status: u16) -> Option<(String, String, Option<&'static str>)> {
    let plain = |text: &str| Some((text.to_owned(), text.to_owned(), None));
    let bad = |why: &'static str| {
        let heading = "400 Bad Request".to_owned();
        Some((format!("400 {why}"), heading, Some(why)))
    };
    match status {
        302 => plain("302 Found"),
        401 => plain("401 Authorization Required"),
        494 => bad("Request Header Or Cookie Too Large"),
        495 => bad("The SSL certificate error"),
        496 => bad("No required SSL certificate was sent"),
        497 => bad("The plain HTTP request was sent to HTTPS port"),
        304 => None,
        498 => plain("404 Not Found"),
        301..=599 => status_line(status).and_then(plain),
        _ => None,
    }
}

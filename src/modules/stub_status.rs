//! Counts of connections: <https://nginx.org/en/docs/http/ngx_http_stub_status_module.html>

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::{Contexts, Diag, Directive, Local, on};
use crate::http::variable::variable;
use crate::http::{Flow, Method, Request, Response, Variable};
use crate::net::counts::{self, Count};

/// `ngx_http_stub_status_module`.
pub struct Module;

impl super::Module for Module {
    type Conf = Local<bool>;
    type Main = ();
    type Loc = bool;
    const PHASES: Phases = Phases::CONTENT;

    const DIRECTIVES: &'static [Directive<Local<bool>>] =
        &[on("stub_status", Contexts(Contexts::SERVER.0 | Contexts::LOCATION.0), 0..=1, |c, _| {
            c.0 = true;
            Ok(())
        })];

    const VARIABLES: &'static [Variable<bool>] = &[
        variable("connections_active", |_, _, _, out| put(out, Count::Active.get())),
        variable("connections_reading", |_, _, _, out| put(out, counts::reading())),
        variable("connections_writing", |_, _, _, out| put(out, Count::Writing.get())),
        variable("connections_waiting", |_, _, _, out| put(out, Count::Waiting.get())),
    ];

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
        let accepted = Count::Accepted.get();
        let text = format!(
            "Active connections: {} \nserver accepts handled requests\n {accepted} {accepted} {} \n\
             Reading: {} Writing: {} Waiting: {} \n",
            Count::Active.get(),
            Count::Requests.get(),
            counts::reading(),
            Count::Writing.get(),
            Count::Waiting.get(),
        );
        Flow::Respond(Box::new(Response::text(200, &Bytes::from_static(b"text/plain"), text.into())))
    }
}

fn put(out: &mut Vec<u8>, number: u64) -> bool {
    out.extend_from_slice(number.to_string().as_bytes());
    true
}

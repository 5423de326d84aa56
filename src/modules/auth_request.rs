//! `auth_request`: a subrequest says whether a request may pass.
//!
//! <https://nginx.org/en/docs/http/ngx_http_auth_request_module.html>

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::names::VarId;
use crate::conf::{Args, Contexts, Diag, Directive, Field, List, Problem, many, on};
use crate::http::{Flow, Known, Request, Value};
use crate::net::Level;

/// `ngx_http_auth_request_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    uri: Option<Bytes>,
    /// Variables that get values from the subrequest.
    vars: List<(VarId, Value)>,
}

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Conf;
    const PHASES: Phases = Phases::ACCESS;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("auth_request", Contexts::SCOPES, 1..=1, |c, a| {
            c.uri = Some(a.word(0)).filter(|word| *word != b"off").map(Bytes::copy_from_slice);
            Ok(())
        }),
        many("auth_request_set", Contexts::SCOPES, 2..=2, set),
    ];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Conf, Diag> {
        Ok(conf)
    }

    async fn access(conf: &Conf, request: &mut Request) -> Flow {
        let Some(uri) = &conf.uri else { return Flow::Next };
        let (mut child, response) = match request.ask(uri.clone(), Bytes::new()).await {
            Ok(answer) => answer,
            Err(status) => return Flow::Fail(status),
        };
        let values: Vec<_> = conf.vars.iter().map(|(id, value)| (*id, value.bytes(&child))).collect();
        request.adopt(&mut child);
        for (id, value) in values {
            request.assign(id, value);
        }
        match response.head.status {
            200..=299 => Flow::Allow,
            401 => {
                let own: Vec<&[u8]> = response.head.headers.all(Known::WwwAuthenticate).collect();
                let upstream = child.upstream.headers.iter().flat_map(|headers| headers.all(Known::WwwAuthenticate));
                let all = if own.is_empty() { upstream.collect() } else { own };
                for value in all {
                    request.carried.headers.push(b"WWW-Authenticate", value);
                }
                Flow::Fail(401)
            }
            403 => Flow::Fail(403),
            status => {
                request.log(Level::Error, &format!("auth request unexpected status: {status}"));
                Flow::Fail(500)
            }
        }
    }
}

fn set(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let Some(name) = word.strip_prefix(b"$").filter(|name| !name.is_empty()) else {
        return Err(Problem::new(format!("invalid variable name \"{}\"", text(word))).at(0));
    };
    let at = args.directive().end;
    let id = args.env.names.slot(&text(name), Some(at));
    let value = Value::read(args.word(1), args).map_err(|problem| problem.at(1))?;
    conf.vars.push((id, value));
    Ok(())
}

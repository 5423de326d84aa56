//! The life of a request: from its head to its response.
//!
//! server rewrite → find location → rewrite → preaccess → access → precontent → content; a jump goes round again.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::errors;
use crate::http::attempts::SENDING;
use crate::http::pause::pause;
use crate::http::{Agent, Flow, Method, Request, Response, Scope, Serve, Target, mime};
use crate::net::Level;
use crate::net::clock;
use crate::table::tree::Found;
use crate::table::{Location, Server};

/// Serves a request: finds its location, runs its hooks, and turns whatever comes of it into a response.
pub async fn serve(request: &mut Request, server: &Arc<Server>, refused: Option<u16>) -> (Response, Arc<Location>) {
    let mut place = Arc::clone(&server.root);
    enter(request, &place);
    request.server = Some(Arc::clone(server) as Arc<dyn Serve>);
    let flow = match refused {
        Some(status) => Flow::Fail(status),
        None => match server.root.loc.post_read(request) {
            Flow::Next => from_server(request, server, &mut place).await,
            flow => flow,
        },
    };
    let response = settle(request, server, &mut place, flow).await;
    (response, place)
}

impl Serve for Server {
    fn serve<'a>(self: Arc<Self>, child: &'a mut Request) -> Pin<Box<dyn Future<Output = Response> + 'a>> {
        Box::pin(async move {
            let mut place = Arc::clone(&self.root);
            enter(child, &place);
            let flow = from_server(child, &self, &mut place).await;
            let response = settle(child, &self, &mut place, flow).await;
            *child.sent.head.borrow_mut() = response.head.clone();
            if place.loc.core.log_subrequest {
                place.loc.log(child);
            }
            response
        })
    }
}

/// Serves what `post_action` names once the response is gone; nobody sees what comes of it. Returns the place that logs
/// the request.
pub async fn post_action(
    request: &mut Request,
    server: &Arc<Server>,
    place: &Arc<Location>,
    to: &Bytes,
) -> Arc<Location> {
    let mut place = Arc::clone(place);
    let target = match to.first() {
        Some(b'@') => Target::Named(to.clone()),
        _ => Target::Uri { uri: to.to_vec(), args: None },
    };
    let flow = jump(request, server, &mut place, target).await;
    settle(request, server, &mut place, flow).await;
    place
}

/// Makes a response of a flow, wherever it leads.
async fn settle(request: &mut Request, server: &Arc<Server>, place: &mut Arc<Location>, mut flow: Flow) -> Response {
    loop {
        flow = match flow {
            Flow::Respond(response) => match discard(request).and_then(|()| finish(request, place, *response)) {
                Ok(response) => return response,
                Err(status) => errors::fail(request, status),
            },
            Flow::Fail(status) => errors::fail(request, status),
            Flow::Jump(target) => jump(request, server, place, target).await,
            Flow::Next | Flow::Allow => Flow::Fail(404),
        };
    }
}

/// Throws away what came of a body that nobody read; one that breaks the protocol is a failure of its own.
fn discard(request: &mut Request) -> Result<(), u16> {
    let waits = request.body.is_expected() && request.client.input.borrow().is_empty();
    if request.body.is_done() || waits {
        return Ok(());
    }
    request.body.give_up();
    match request.body.discard_buffered() {
        Err(fault) if request.error_status == 0 => {
            request.log(Level::Info, &fault.to_string());
            Err(400)
        }
        _ => Ok(()),
    }
}

/// Runs the filters over a response; one of them may refuse it with a status.
fn finish(request: &mut Request, place: &Arc<Location>, mut response: Response) -> Result<Response, u16> {
    if request.error_status != 0 {
        response.head.status = request.error_status;
        response.head.line = None;
    }
    response.head.location = response.head.location.or(request.location.take());
    if !request.carried.headers.is_empty() {
        let own = std::mem::replace(&mut response.head.headers, std::mem::take(&mut request.carried.headers));
        own.iter().for_each(|field| response.head.headers.push(field.name, field.value));
    }
    if request.carried.charset.is_some()
        && response.head.content_type.as_ref().is_some_and(|kind| mime::split(kind).1.is_none())
    {
        response.head.charset = request.carried.charset.take();
    }
    let body = std::mem::take(&mut response.body);
    response.body = place.loc.filter(request, &mut response.head, body);
    if request.upstream.doing != SENDING {
        request.upstream.doing = "";
    }
    if let Some(status) = response.head.refused {
        request.carried.headers = response.head.headers;
        return Err(status);
    }
    Ok(response)
}

/// An internal redirect, by `index`, `try_files`, `error_page`, `X-Accel-Redirect` and the like.
async fn jump(request: &mut Request, server: &Arc<Server>, place: &mut Arc<Location>, target: Target) -> Flow {
    if request.changes_left == 0 {
        let (verb, to) = match &target {
            Target::Uri { uri, .. } => ("internally redirecting to", uri.as_slice()),
            Target::Named(name) => ("redirect to named location", &name[..]),
        };
        return cycle(request, verb, to);
    }
    request.changes_left -= 1;
    request.internal = true;
    request.broke = false;
    match target {
        Target::Uri { uri, args } => {
            request.upstream.doing = "";
            request.set_uri(uri, args);
            request.uri_after_alias = false;
            *place = Arc::clone(&server.root);
            enter(request, place);
            from_server(request, server, place).await
        }
        Target::Named(name) => match server.named.get(&name) {
            Some(location) => {
                *place = Arc::clone(location);
                enter(request, place);
                in_location(request, server, place).await
            }
            None => {
                let text = String::from_utf8_lossy(&name).into_owned();
                request.log(Level::Error, &format!("could not find named location \"{text}\""));
                Flow::Fail(500)
            }
        },
    }
}

fn cycle(request: &mut Request, verb: &str, to: &[u8]) -> Flow {
    let to = String::from_utf8_lossy(to);
    let doing = std::mem::take(&mut request.upstream.doing);
    let link = if doing.is_empty() { "" } else { " while " };
    let place = format!("{verb} \"{to}\"{link}{doing}");
    request.log(Level::Error, &format!("rewrite or internal redirection cycle while {place}"));
    Flow::Fail(500)
}

async fn from_server(request: &mut Request, server: &Arc<Server>, place: &mut Arc<Location>) -> Flow {
    request.uri_changed = false;
    request.entered_ifs.clear();
    request.gzip.reset();
    match server.root.loc.rewrite(request) {
        Flow::Next => {}
        flow => return flow,
    }
    match find(request, server, place) {
        Flow::Next => in_location(request, server, place).await,
        flow => flow,
    }
}

/// Runs the hooks of a location, looking it up again as long as `rewrite` changes the URI.
async fn in_location(request: &mut Request, server: &Arc<Server>, place: &mut Arc<Location>) -> Flow {
    loop {
        request.uri_changed = false;
        request.entered_ifs.clear();
        let flow = place.loc.rewrite(request);
        let complete = request.entered_ifs.is_empty() || enter_ifs(request, place);
        match flow {
            Flow::Next if !complete && !request.uri_changed => return Flow::Fail(500),
            Flow::Next => {}
            flow => return flow,
        }
        if !request.uri_changed {
            break;
        }
        if request.changes_left == 0 {
            let uri = request.uri.clone();
            return cycle(request, "processing", &uri);
        }
        request.changes_left -= 1;
        match find(request, server, place) {
            Flow::Next => {}
            flow => return flow,
        }
    }
    hooks(request, place).await
}

/// Enters the `if` blocks that held, one after the other. nginx keeps the handler of one that a later one replaces, but not its
/// settings: false where those are missing then.
fn enter_ifs(request: &mut Request, place: &mut Arc<Location>) -> bool {
    let (outer, mut passes) = (Arc::clone(place), false);
    for number in std::mem::take(&mut request.entered_ifs) {
        passes |= place.loc.passes();
        if let Some(inner) = outer.ifs.get(number) {
            *place = Arc::clone(inner);
            enter(request, place);
        }
    }
    !passes || place.loc.passes()
}

async fn hooks(request: &mut Request, place: &Arc<Location>) -> Flow {
    let loc = &place.loc;
    match loc.preaccess(request).await {
        Flow::Next => {}
        flow => return flow,
    }
    // Who may come in was asked before a subrequest was made.
    if request.origin.is_none() {
        match loc.access(request, loc.core.satisfy_any).await {
            Flow::Next => {}
            Flow::Fail(401) => return delayed(request, 401).await,
            flow => return flow,
        }
    }
    match loc.precontent(request).await {
        Flow::Next => {}
        flow => return flow,
    }
    match loc.content(request).await {
        Flow::Next if request.uri.last() == Some(&b'/') => {
            let path = String::from_utf8_lossy(&request.filename()).into_owned();
            request.log(Level::Error, &format!("directory index of \"{path}\" is forbidden"));
            Flow::Fail(403)
        }
        Flow::Next => {
            request.log(Level::Error, "no handler found");
            Flow::Fail(404)
        }
        flow => flow,
    }
}

/// Refuses who gave no right password, not at once where `auth_delay` says so.
async fn delayed(request: &Request, status: u16) -> Flow {
    let delay = request.core().auth_delay;
    if delay.is_zero() {
        return Flow::Fail(status);
    }
    request.log(Level::Info, "delaying unauthorized request");
    pause(request, delay).await.err().unwrap_or(Flow::Fail(status))
}

/// Finds the location of the request's path and enters it.
fn find(request: &mut Request, server: &Arc<Server>, place: &mut Arc<Location>) -> Flow {
    match server.locations.find(&request.uri) {
        Found::Nothing => {
            *place = Arc::clone(&server.root);
            enter(request, place);
        }
        Found::Redirect(location) => {
            *place = Arc::clone(location);
            enter(request, place);
            return request.add_slash();
        }
        Found::Location(location, groups) => {
            let location = Arc::clone(location);
            if let Some((pattern, groups)) = groups {
                capture(request, &location, &pattern, groups);
            }
            *place = location;
            enter(request, place);
        }
    }
    if place.loc.core.internal.0 && !request.internal {
        return Flow::Fail(404);
    }
    if let Some((methods, inner)) = &place.limit_except
        && !methods.contains(&request.method)
    {
        *place = Arc::clone(inner);
        enter(request, place);
    }
    keep(request);
    request.body.limit = place.loc.core.client_max_body_size;
    request.body.timeout = place.loc.core.client_body_timeout;
    let too_large = request.content_length.is_some_and(|length| request.body.limit > 0 && length > request.body.limit);
    if too_large && !request.error_page {
        let length = request.content_length.unwrap_or_default();
        request.log(Level::Error, &format!("client intended to send too large body: {length} bytes"));
        request.body.give_up();
        return Flow::Fail(413);
    }
    Flow::Next
}

/// Whether the connection is kept after this request, as the location has it.
fn keep(request: &mut Request) {
    let core = request.core();
    let client = &request.client;
    let disables = |agent| core.keepalive_disable.get() & agent != 0;
    let msie6 = disables(Agent::MSIE6) && request.method == Method::Post;
    let safari = disables(Agent::SAFARI);
    // The field is only looked at where it could matter.
    let disabled = || {
        (msie6 || safari)
            && match request.agent() {
                Agent::Msie { old: true } => msie6,
                Agent::Safari => safari,
                _ => false,
            }
    };
    let keep = request.keep_alive
        && !core.keepalive_timeout.is_zero()
        && client.requests.get() < core.keepalive_requests
        && clock::since(client.started) <= core.keepalive_time
        && !disabled();
    request.keep_alive = keep;
}

/// Leaves the groups of a location's pattern on the request.
fn capture(
    request: &mut Request,
    location: &Arc<Location>,
    pattern: &crate::http::pattern::Pattern,
    groups: crate::table::tree::Groups,
) {
    let subject = request.uri.clone();
    for (name, group) in pattern.names() {
        let range = groups.get(usize::from(*group)).copied().flatten();
        let value = range.map_or(Bytes::new(), |(start, end)| subject.slice(start as usize..end as usize));
        location.store(request, name, value);
    }
    request.vars.set_captures(subject, groups);
}

fn enter(request: &mut Request, place: &Arc<Location>) {
    request.scope = Arc::clone(place) as Arc<dyn Scope>;
}

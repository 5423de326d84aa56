//! Running a scope's rewrite program.

use std::sync::Arc;

use bytes::Bytes;

use super::condition::{self, Condition, Groups};
use crate::conf::names::VarId;
use crate::http::escape::{self, Set, Unescape};
use crate::http::pattern::Pattern;
use crate::http::value::Part;
use crate::http::{Flow, Request, Response, Value};
use crate::net::Level;

/// One step.
#[derive(Clone)]
pub enum Op {
    /// `rewrite`.
    Rewrite(Box<Rewrite>),
    /// `return`.
    Return {
        /// The status.
        status: u16,
        /// A text, or a URL for redirects.
        value: Option<Value>,
    },
    /// `set`.
    Set {
        /// The variable.
        id: VarId,
        /// Its new value.
        value: Value,
    },
    /// `break`.
    Break,
    /// `if`.
    If {
        /// The test.
        condition: Condition,
        /// The number of its settings.
        number: usize,
        /// What is inside.
        program: Vec<Op>,
    },
}

/// A `rewrite`.
#[derive(Clone)]
pub struct Rewrite {
    /// What the path must match.
    pub pattern: Arc<Pattern>,
    /// Slots of its named groups.
    pub groups: Groups,
    /// The new path, or the URL of a redirect.
    pub path: Value,
    /// The new arguments.
    pub query: Option<Value>,
    /// Whether the replacement has a `?` of its own.
    pub has_query: bool,
    /// Whether the request's arguments are appended.
    pub keep_args: bool,
    /// What happens then.
    pub after: After,
}

/// What follows a rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next step.
    GoOn,
    /// The search for a location.
    Last,
    /// The location that was found already.
    Break,
    /// A redirect with this status.
    Redirect(u16),
}

/// What the steps of a program may end in.
enum End {
    /// Off its end: the next directive.
    GoOn,
    /// No further step.
    Stop,
    /// A response or failure.
    Flow(Flow),
}

/// Runs a program.
pub fn run(program: &[Op], request: &mut Request) -> Flow {
    match steps(program, request) {
        End::Flow(flow) => flow,
        End::GoOn | End::Stop => Flow::Next,
    }
}

fn steps(program: &[Op], request: &mut Request) -> End {
    for op in program {
        let end = match op {
            Op::Break => {
                request.broke |= std::mem::take(&mut request.uri_changed);
                End::Stop
            }
            Op::Set { id, value } => {
                let value = value.bytes(request);
                request.assign(*id, value);
                End::GoOn
            }
            Op::Return { status, value } => End::Flow(respond(*status, value.as_ref(), request)),
            Op::Rewrite(rewrite) => rewrite.apply(request),
            Op::If { condition, number, program } => {
                if condition.holds(request) {
                    request.entered_ifs.push(*number);
                    steps(program, request)
                } else {
                    End::GoOn
                }
            }
        };
        if !matches!(end, End::GoOn) {
            return end;
        }
    }
    End::GoOn
}

fn respond(status: u16, value: Option<&Value>, request: &mut Request) -> Flow {
    // The text may speak of `$status`.
    request.sent.head.borrow_mut().status = status;
    let text = match value {
        Some(value) => value.bytes(request),
        None if status >= 400 => return Flow::Fail(status),
        None => Bytes::new(),
    };
    match status {
        301 | 302 | 303 | 307 | 308 => {
            request.location = Some(text);
            Flow::Fail(status)
        }
        _ => Flow::Respond(Box::new(Response::text(status, &super::default_type(request), text))),
    }
}

impl Rewrite {
    fn apply(&self, request: &mut Request) -> End {
        let path = request.uri.clone();
        let log = request.core().rewrite_log;
        let matched = condition::matches(request, &path, &self.pattern, &self.groups);
        if log {
            let verb = if matched { "matches" } else { "does not match" };
            let text = String::from_utf8_lossy(&path);
            request.log(Level::Notice, &format!("\"{}\" {verb} \"{text}\"", self.pattern.source()));
        }
        if !matched {
            return End::GoOn;
        }
        match self.after {
            After::Redirect(status) => self.redirect(status, request, log),
            _ => self.change(request, log),
        }
    }

    fn redirect(&self, status: u16, request: &mut Request, log: bool) -> End {
        let mut url = Vec::new();
        append(&self.path, request, &mut url, true);
        let mut url = escape::unescape(&url, Unescape::Redirect);
        if self.keep_args && !request.args.is_empty() {
            url.push(if self.has_query { b'&' } else { b'?' });
            url.extend_from_slice(&request.args);
        }
        if log {
            request.log(Level::Notice, &format!("rewritten redirect: \"{}\"", String::from_utf8_lossy(&url)));
        }
        request.location = Some(url.into());
        End::Flow(Flow::Fail(status))
    }

    fn change(&self, request: &mut Request, log: bool) -> End {
        let (mut path, mut args) = (Vec::new(), Vec::new());
        append(&self.path, request, &mut path, false);
        // Arguments that are taken away leave an empty value, where there was one.
        let has_args = self.query.is_some() || request.has_args || !request.args.is_empty();
        match &self.query {
            Some(query) => {
                append(query, request, &mut args, true);
                if self.keep_args && !request.args.is_empty() {
                    args.push(b'&');
                    args.extend_from_slice(&request.args);
                }
            }
            None if self.keep_args => args.extend_from_slice(&request.args),
            None => {}
        }
        if log {
            let (path, args) = (String::from_utf8_lossy(&path), String::from_utf8_lossy(&args));
            request.log(Level::Notice, &format!("rewritten data: \"{path}\", args: \"{args}\""));
        }
        if path.is_empty() {
            request.log(Level::Error, "the rewritten URI has a zero length");
            return End::Flow(Flow::Fail(500));
        }
        request.set_uri(path, has_args.then_some(args));
        request.internal = true;
        request.uri_changed = self.after != After::Break;
        request.broke = self.after == After::Break;
        match self.after {
            After::GoOn => End::GoOn,
            _ => End::Stop,
        }
    }
}

/// Appends a replacement; captures are escaped where they land in a query of an encoded path.
fn append(value: &Value, request: &Request, out: &mut Vec<u8>, quote: bool) {
    let Value::Mix(parts) = value else { return value.append(request, out) };
    for part in parts {
        match part {
            Part::Capture(n) if quote && request.is_quoted() => {
                escape::escape(&request.vars.capture(usize::from(*n)), Set::Args, out);
            }
            part => part.append(request, out),
        }
    }
}


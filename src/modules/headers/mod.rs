//! `add_header`, `add_trailer` and `expires`: <https://nginx.org/en/docs/http/ngx_http_headers_module.html>

use std::sync::Arc;

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Contexts, Diag, Directive, Field, Problem, many, on};
use crate::http::{Body, Head, Known, Request, Value};
use crate::net::clock;

mod expires;

use expires::Expires;

/// `ngx_http_headers_filter_module`.
pub struct Module;

/// A field that is added to responses.
#[derive(Clone, Debug)]
pub struct Added {
    known: Known,
    name: Bytes,
    value: Value,
    /// Whether whatever the status is.
    always: bool,
}

/// What happens to the fields of an outer scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inherit {
    /// They go.
    Off,
    /// They hold where there are none of this scope.
    #[default]
    On,
    /// They follow those of this scope.
    Merge,
}

/// The fields of a scope and of those around it.
#[derive(Debug, Default)]
pub struct Fields {
    own: Vec<Added>,
    outer: Arc<[Added]>,
    inherit: Inherit,
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        Self { own: Vec::new(), outer: self.all(), inherit: self.inherit }
    }
}

impl Fields {
    /// What holds in this scope.
    fn all(&self) -> Arc<[Added]> {
        match self.inherit {
            Inherit::On | Inherit::Merge if self.own.is_empty() => Arc::clone(&self.outer),
            Inherit::Merge => self.own.iter().chain(&*self.outer).cloned().collect(),
            _ => self.own.clone().into(),
        }
    }

    fn add(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        let name = Bytes::copy_from_slice(args.word(0));
        let value = Value::read(args.word(1), args).map_err(|problem| problem.at(1))?;
        let always = match args.get(2) {
            None => false,
            Some(b"always") => true,
            Some(word) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(word))).at(2)),
        };
        self.own.push(Added { known: Known::of(&name), name, value, always });
        Ok(())
    }

    fn inherit(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        let values = [("off", Inherit::Off), ("on", Inherit::On), ("merge", Inherit::Merge)];
        self.inherit = one_of(args.word(0), &values).map_err(|problem| problem.at(0))?;
        Ok(())
    }
}

/// Settings of a scope.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    headers: Fields,
    trailers: Fields,
    expires: Expires,
}

/// What requests read.
#[derive(Debug)]
pub struct Loc {
    headers: Arc<[Added]>,
    trailers: Arc<[Added]>,
    expires: Expires,
}

const SCOPES: Contexts = Contexts::SCOPES_IF;

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Loc;
    const PHASES: Phases = Phases::FILTER;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("expires", SCOPES, 1..=2, |c, a| c.expires.read(a)),
        many("add_header", SCOPES, 2..=3, |c, a| c.headers.add(a)),
        many("add_trailer", SCOPES, 2..=3, |c, a| c.trailers.add(a)),
        on("add_header_inherit", SCOPES, 1..=1, |c, a| c.headers.inherit(a)),
        on("add_trailer_inherit", SCOPES, 1..=1, |c, a| c.trailers.inherit(a)),
    ];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Loc, Diag> {
        Ok(Loc { headers: conf.headers.all(), trailers: conf.trailers.all(), expires: conf.expires })
    }

    fn filter(loc: &Loc, request: &Request, head: &mut Head, body: Body) -> Body {
        let safe = is_safe(head.status);
        if safe {
            loc.expires.apply(request, head);
        }
        for added in loc.headers.iter().filter(|added| safe || added.always) {
            added.apply(request, head);
        }
        head.trailers |= loc.trailers.iter().any(|added| safe || added.always);
        body
    }

    fn trailers(loc: &Loc, request: &Request) {
        let safe = is_safe(request.sent.head.borrow().status);
        for added in loc.trailers.iter().filter(|added| safe || added.always) {
            let value = added.value.bytes(request);
            if !value.is_empty() {
                request.sent.trailers.borrow_mut().push(&added.name, &value);
            }
        }
    }
}

/// Whether fields go with a response of this status without `always`.
fn is_safe(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301..=304 | 307 | 308)
}

impl Added {
    fn apply(&self, request: &Request, head: &mut Head) {
        let value = request.showing(head, || self.value.bytes(request));
        let some = Some(value.clone()).filter(|value| !value.is_empty());
        match self.known {
            Known::LastModified => {
                head.last_modified = some.as_ref().and_then(|value| clock::parse(value));
                head.last_modified_text = some;
                // An upstream's is among the fields.
                head.headers.remove(Known::LastModified);
            }
            Known::ETag => {
                head.headers.remove(Known::ETag);
                some.iter().for_each(|value| head.headers.push(&self.name, value));
            }
            _ if value.is_empty() => {}
            _ => head.headers.push(&self.name, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherits_as_told() {
        let added = |name: &'static str| Added {
            known: Known::Other,
            name: name.into(),
            value: Value::literal("1"),
            always: false,
        };
        let outer = Fields { own: vec![added("a")], ..Fields::default() };
        let names = |own: &[&'static str], inherit| {
            let inner = Fields { own: own.iter().map(|name| added(name)).collect(), inherit, ..outer.clone() };
            let all = inner.clone().all();
            assert_eq!(all.len(), inner.all().len());
            all.iter().map(|added| String::from_utf8_lossy(&added.name).into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&[], Inherit::On), "a");
        assert_eq!(names(&["b"], Inherit::On), "b");
        assert_eq!(names(&["b", "c"], Inherit::Merge), "b c a");
        assert_eq!(outer.clone().clone().all().len(), 1);
        let off = Fields { inherit: Inherit::Off, ..outer.clone() };
        assert!(off.all().is_empty() && off.clone().all().is_empty());
    }
}

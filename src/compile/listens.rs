//! Which servers answer at which address (<https://nginx.org/en/docs/http/request_processing.html>).

use std::sync::Arc;

use parser::ast::Span;

use crate::conf::hash::Hash;
use crate::conf::{Diag, Env};
use crate::http::host::Name;
use crate::http::wildcard::Wildcard;
use crate::modules::core::listen::ListenArg;
use crate::net::addr::Endpoint;
use crate::net::addr::Options;
use crate::table::{Listen, Server, ServerNames};

/// A server with what its `listen` and `server_name` say.
pub struct Candidate {
    /// The server.
    pub server: Arc<Server>,
    /// Its addresses.
    pub listens: Vec<ListenArg>,
    /// Its names.
    pub names: Vec<Name>,
    /// Where it begins.
    pub at: Span,
}

struct Place {
    addr: Endpoint,
    options: Options,
    proxy_protocol: bool,
    http2: bool,
    ssl: bool,
    /// What the `listen`s so far say connections begin with.
    protocols: Protocols,
    explicit_default: bool,
    default: Arc<Server>,
    /// The servers here by number.
    servers: Vec<usize>,
    names: ServerNames<Arc<Server>>,
}

/// Puts every server at its addresses.
pub fn build(candidates: &[Candidate], hash: Hash, env: &mut Env) -> Result<Vec<Arc<Listen>>, Diag> {
    let mut places: Vec<Place> = Vec::new();
    for (number, candidate) in candidates.iter().enumerate() {
        for listen in &candidate.listens {
            let addrs = listen.addrs.iter().enumerate();
            // A name may stand for an address twice.
            for (_, at) in addrs.filter(|(index, at)| !listen.addrs.iter().take(*index).any(|other| other == *at)) {
                add(&mut places, (number, candidate), listen, at, env)?;
            }
        }
    }
    for place in places.iter().filter(|place| place.ssl) {
        certified(place, candidates)?;
    }
    for place in &mut places {
        names(place, candidates, hash, env)?;
    }
    let listen = |place: Place| {
        Arc::new(Listen {
            addr: place.addr,
            options: place.options,
            proxy_protocol: place.proxy_protocol,
            http2: place.http2,
            ssl: place.ssl,
            servers: place.names,
            default: place.default,
        })
    };
    Ok(places.into_iter().map(listen).collect())
}

fn add(
    places: &mut Vec<Place>,
    (number, candidate): (usize, &Candidate),
    listen: &ListenArg,
    at: &Endpoint,
    env: &mut Env,
) -> Result<(), Diag> {
    let error = |problem: String| Diag::error(problem, listen.at, listen.at);
    let index = match places.iter().position(|place| place.addr == *at) {
        Some(index) if places.get(index).is_some_and(|place| place.servers.contains(&number)) => {
            return Err(error(format!("a duplicate listen {at}")));
        }
        Some(index) => index,
        None => {
            places.push(Place {
                addr: at.clone(),
                options: Options::default(),
                proxy_protocol: false,
                http2: false,
                ssl: false,
                protocols: Protocols::default(),
                explicit_default: false,
                default: Arc::clone(&candidate.server),
                servers: Vec::new(),
                names: ServerNames::default(),
            });
            places.len() - 1
        }
    };
    let Some(place) = places.get_mut(index) else { return Ok(()) };
    if listen.options.set {
        if place.options.set {
            return Err(error(format!("duplicate listen options for {at}")));
        }
        place.options = listen.options.clone();
    }
    if listen.default_server {
        if place.explicit_default {
            return Err(error(format!("a duplicate default server for {at}")));
        }
        place.explicit_default = true;
        place.default = Arc::clone(&candidate.server);
    }
    if place.protocols.redefined(listen) {
        let problem = format!("protocol options redefined for {at}");
        env.warnings.push(Diag::error(problem, listen.at, listen.at).warning());
    }
    place.servers.push(number);
    place.proxy_protocol |= listen.proxy_protocol;
    place.http2 |= listen.http2;
    place.ssl |= listen.ssl;
    Ok(())
}

/// Whether there is a certificate for every handshake at an address.
fn certified(place: &Place, candidates: &[Candidate]) -> Result<(), Diag> {
    let settings = |server: &Arc<Server>| server.root.loc.ssl.clone().filter(|settings| settings.shakes_hands());
    let mut wanting = None;
    match settings(&place.default) {
        None => wanting = Some(&place.default),
        Some(default) if default.bare => {
            let here =
                candidates.iter().filter(|one| one.listens.iter().any(|listen| listen.addrs.contains(&place.addr)));
            wanting = here.map(|one| &one.server).find(|server| settings(server).is_none());
        }
        Some(_) => {}
    }
    let at =
        wanting.and_then(|server| candidates.iter().find(|one| Arc::ptr_eq(&one.server, server))).map(|one| one.at);
    match at {
        Some(at) => {
            let problem = "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive";
            Err(Diag::error(problem, at, at))
        }
        None => Ok(()),
    }
}

/// Fills in the names of the servers at an address. nginx looks at them only where there is a choice to make.
fn names(place: &mut Place, candidates: &[Candidate], hash: Hash, env: &mut Env) -> Result<(), Diag> {
    let here = || place.servers.iter().filter_map(|number| candidates.get(*number));
    let captures = |name: &Name| matches!(name, Name::Regex(pattern) if pattern.groups() > 0);
    let default = here().find(|one| Arc::ptr_eq(&one.server, &place.default));
    let matter = place.servers.len() > 1 || default.is_some_and(|one| one.names.iter().any(captures));
    for (candidate, name) in here().flat_map(|one| one.names.iter().map(move |name| (one, name))) {
        let shown = match name {
            Name::Text(text) => String::from_utf8_lossy(text),
            Name::Regex(_) => "".into(),
        };
        if let Name::Text(text) = name
            && matter
            && Wildcard::of(text).is_err()
        {
            let problem = format!("invalid server name or wildcard \"{shown}\" on {}", place.addr);
            return Err(Diag::general(problem, None));
        }
        if !place.names.insert(name, Arc::clone(&candidate.server)) && matter {
            let problem = format!("conflicting server name \"{shown}\" on {}, ignored", place.addr);
            env.warnings.push(Diag::general(problem, None).warning());
        }
    }
    let texts = here().flat_map(|one| &one.names).filter_map(|name| match name {
        Name::Text(text) => Some(text.strip_prefix(b".").unwrap_or(text)),
        Name::Regex(_) => None,
    });
    // What a star stands in is kept label by label.
    let longest = |text: &[u8]| text.split(|&b| b == b'.').map(<[u8]>::len).max().unwrap_or_default();
    let keys = texts.filter(|_| matter).map(|text| if text.contains(&b'*') { longest(text) } else { text.len() });
    hash.hold("server_names_hash", keys).map_err(|problem| Diag::general(problem, None))
}

/// What the `listen`s of an address say in front of HTTP, as far as nginx compares them.
#[derive(Default)]
struct Protocols {
    /// Whether any was met.
    any: bool,
    now: u8,
    set: Option<u8>,
    changed: bool,
    has_options: bool,
}

impl Protocols {
    /// Takes another `listen` in; true where it contradicts those before.
    fn redefined(&mut self, listen: &ListenArg) -> bool {
        let said = u8::from(listen.proxy_protocol) | u8::from(listen.ssl) << 1 | u8::from(listen.http2) << 2;
        let before = self.now;
        let first = !std::mem::replace(&mut self.any, true);
        let had_options = self.has_options;
        self.has_options |= listen.options.set;
        self.now |= said;
        if first {
            return false;
        }
        let added = said & !before != 0;
        let removed = before & !said != 0;
        let differs = self.set.is_some_and(|set| set != said);
        let redefined = match (added, removed) {
            (true, removed) => (had_options && !listen.options.set) || self.changed || removed,
            (false, true) => listen.options.set || differs,
            (false, false) => (listen.options.set && self.changed) || differs,
        };
        self.set = Some(if added { before } else { said });
        self.changed |= added || removed;
        redefined
    }
}

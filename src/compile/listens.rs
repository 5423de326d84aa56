//! Which servers answer at which address (<https://nginx.org/en/docs/http/request_processing.html>).

use std::sync::Arc;

use parser::ast::Span;

use crate::conf::{Diag, Env};
use crate::http::host::Name;
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
}

struct Place {
    addr: Endpoint,
    options: Options,
    proxy_protocol: bool,
    http2: bool,
    explicit_default: bool,
    default: Arc<Server>,
    names: ServerNames<Arc<Server>>,
}

/// Puts every server at its addresses.
pub fn build(candidates: &[Candidate], env: &mut Env) -> Result<Vec<Arc<Listen>>, Diag> {
    let mut places: Vec<Place> = Vec::new();
    for candidate in candidates {
        for listen in &candidate.listens {
            for at in &listen.addrs {
                add(&mut places, candidate, listen, at, env)?;
            }
        }
    }
    let listen = |place: Place| {
        Arc::new(Listen {
            addr: place.addr,
            options: place.options,
            proxy_protocol: place.proxy_protocol,
            http2: place.http2,
            servers: place.names,
            default: place.default,
        })
    };
    Ok(places.into_iter().map(listen).collect())
}

fn add(
    places: &mut Vec<Place>,
    candidate: &Candidate,
    listen: &ListenArg,
    at: &Endpoint,
    env: &mut Env,
) -> Result<(), Diag> {
    let error = |problem: String| Diag::error(problem, listen.at, listen.at);
    let index = match places.iter().position(|place| place.addr == *at) {
        Some(index) => index,
        None => {
            places.push(Place {
                addr: at.clone(),
                options: Options::default(),
                proxy_protocol: false,
                http2: false,
                explicit_default: false,
                default: Arc::clone(&candidate.server),
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
    place.proxy_protocol |= listen.proxy_protocol;
    place.http2 |= listen.http2;
    name(place, candidate, at, env);
    Ok(())
}

fn name(place: &mut Place, candidate: &Candidate, at: &Endpoint, env: &mut Env) {
    for name in &candidate.names {
        if !place.names.insert(name, Arc::clone(&candidate.server)) {
            let Name::Text(text) = name else { continue };
            let problem = format!("conflicting server name \"{}\" on {}, ignored", String::from_utf8_lossy(text), at);
            env.warnings.push(Diag::general(problem, None::<Span>).warning());
        }
    }
}

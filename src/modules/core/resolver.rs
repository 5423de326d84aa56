//! `resolver`: <https://nginx.org/en/docs/http/ngx_http_core_module.html#resolver>

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::conf::files::Files;
use crate::conf::args::text;
use crate::conf::{Args, Problem, units};
use crate::modules::Seal;
use crate::net::addr::{self, Endpoint};
use crate::net::resolver::{Resolver, Settings};

/// nginx's port of name servers.
const PORT: u16 = 53;

/// What `resolver` says.
#[derive(Clone, Debug)]
pub struct Conf {
    servers: Vec<SocketAddr>,
    valid: Option<Duration>,
    ipv4: bool,
    ipv6: bool,
}

/// Reads `address ... [valid=time] [ipv4=on|off] [ipv6=on|off]`.
pub fn read(args: &mut Args<'_>) -> Result<Conf, Problem> {
    let mut conf = Conf { servers: Vec::new(), valid: None, ipv4: true, ipv6: true };
    for (index, word) in args.words().enumerate() {
        let invalid = || Problem::new(format!("invalid parameter: {}", text(word))).at(index);
        let flag = |value: &[u8]| match value {
            b"on" => Ok(true),
            b"off" => Ok(false),
            _ => Err(invalid()),
        };
        if let Some(time) = word.strip_prefix(b"valid=") {
            conf.valid = Some(Duration::from_secs(units::sec(time).ok_or_else(invalid)?));
        } else if let Some(value) = word.strip_prefix(b"ipv4=") {
            conf.ipv4 = flag(value)?;
        } else if let Some(value) = word.strip_prefix(b"ipv6=") {
            conf.ipv6 = flag(value)?;
        } else if word.starts_with(b"status_zone=") {
            return Err(invalid());
        } else {
            conf.servers.extend(servers(word, &*args.env.files).map_err(|problem| problem.at(index))?);
        }
    }
    match (conf.ipv4, conf.ipv6) {
        (false, false) => Err(Problem::new("\"ipv4\" and \"ipv6\" cannot both be \"off\"")),
        _ if conf.servers.is_empty() => Err(Problem::new("no name servers defined")),
        _ => Ok(conf),
    }
}

fn servers(word: &[u8], files: &dyn Files) -> Result<Vec<SocketAddr>, Problem> {
    let found = addr::peer(word).and_then(|url| url.endpoints(PORT, |name| files.lookup(name)));
    let found = found.map_err(|error| Problem::new(format!("{error} in resolver \"{}\"", text(word))))?;
    let inet = found.into_iter().filter_map(|at| match at {
        Endpoint::Inet(at) => Some(at),
        Endpoint::Unix(_) => None,
    });
    Ok(inet.collect())
}

impl Conf {
    /// The resolver of these settings; places with the same ones share it and what it learns.
    pub fn seal(self, timeout: Option<Duration>, cx: &mut Seal<'_>) -> Arc<Resolver> {
        let Self { servers, valid, ipv4, ipv6 } = self;
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        let settings = Settings { servers, valid, ipv4, ipv6, timeout };
        if let Some((_, known)) = cx.upstreams.resolvers.iter().find(|(other, _)| *other == settings) {
            return Arc::clone(known);
        }
        let resolver = Arc::new(Resolver::new(settings.clone()));
        cx.upstreams.resolvers.push((settings, Arc::clone(&resolver)));
        resolver
    }
}

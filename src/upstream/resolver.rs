//! `resolver`: <https://nginx.org/en/docs/http/ngx_http_core_module.html#resolver>

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Upstreams;
use crate::conf::args::text;
use crate::conf::files::Files;
use crate::conf::{Args, Problem, units};
use crate::net::addr::{self, Endpoint};
use crate::net::resolver::{Resolver, Settings};

/// Where the system keeps its name servers.
const SYSTEM: &str = "/etc/resolv.conf";
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
        } else if let Some(value) = word.strip_prefix(b"local=") {
            let path = if value == b"on" { Path::new(SYSTEM).to_owned() } else { args.env.full_name(value) };
            let system = System::read(&*args.env.files, &path)
                .map_err(|error| Problem::new(crate::conf::load::cannot_open(&path, &error)).at(index))?;
            conf.servers.extend(system.servers);
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
    pub fn seal(self, timeout: Option<Duration>, upstreams: &mut Upstreams) -> Arc<Resolver> {
        let Self { servers, valid, ipv4, ipv6 } = self;
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        let settings = Settings { servers, valid, ipv4, ipv6, timeout };
        if let Some((_, known)) = upstreams.resolvers.iter().find(|(other, _)| *other == settings) {
            return Arc::clone(known);
        }
        let resolver = Arc::new(Resolver::new(settings.clone()));
        upstreams.resolvers.push((settings, Arc::clone(&resolver)));
        resolver
    }
}

/// The system's way to look names up (resolv.conf(5), hosts(5)).
#[derive(Debug, Default)]
pub struct System {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl System {
    /// What the file at `path` says.
    pub fn read(files: &dyn Files, path: &Path) -> std::io::Result<Self> {
        let bytes = files.read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut system = Self { ndots: 1, ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                // A scope behind a % belongs to link-local addresses; such servers are left out.
                Some("nameserver") => {
                    let ip = words.next().and_then(|ip| ip.parse::<IpAddr>().ok());
                    system.servers.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
                }
                Some("search" | "domain") => system.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    system.ndots = ndots.unwrap_or(system.ndots);
                }
                _ => {}
            }
        }
        Ok(system)
    }

    /// The system's own; where it says nothing, the name server of this machine, as the C library has it.
    pub fn own(files: &dyn Files) -> Self {
        let mut system = Self::read(files, Path::new(SYSTEM)).unwrap_or_else(|_| Self { ndots: 1, ..Self::default() });
        if system.servers.is_empty() {
            system.servers.push(([127, 0, 0, 1], PORT).into());
        }
        system
    }

    /// A resolver that asks the system's name servers.
    pub fn resolver(&self, upstreams: &mut Upstreams) -> Arc<Resolver> {
        let conf = Conf { servers: self.servers.clone(), valid: None, ipv4: true, ipv6: true };
        conf.seal(Some(Duration::from_secs(5)), upstreams)
    }

    /// The names that `name` may stand for, in the order they are tried.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(name) = name.strip_suffix('.') {
            return vec![name.to_owned()];
        }
        let longer = self.search.iter().map(|domain| format!("{name}.{}", domain.trim_matches('.')));
        let as_it_is = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots {
            as_it_is.chain(longer).collect()
        } else {
            longer.chain(as_it_is).collect()
        }
    }
}

/// Whether `/etc/hosts` has the name: then it does not change.
pub fn is_in_hosts(files: &dyn Files, name: &str) -> bool {
    let Ok(bytes) = files.read(Path::new("/etc/hosts")) else { return false };
    String::from_utf8_lossy(&bytes).lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_ascii_whitespace().skip(1).any(|known| known.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::files::Snapshot;

    #[test]
    fn reads_what_the_system_says() {
        let mut files = Snapshot::default();
        let mut file = |path: &str, text: &[u8]| drop(files.read.insert(path.into(), Ok(text.into())));
        let text =
            "# a comment\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.svc. b\noptions edns0 ndots:2\n";
        file(SYSTEM, text.as_bytes());
        file("/etc/hosts", b"127.0.0.1 localhost # web\n::1\tLOCALHOST ip6\n");
        let system = System::own(&files);
        assert_eq!(system.servers, [SocketAddr::from(([10, 0, 0, 1], 53))]);
        assert_eq!(system.candidates("web"), ["web.a.svc", "web.b", "web"]);
        assert_eq!(system.candidates("web.x.y"), ["web.x.y", "web.x.y.a.svc", "web.x.y.b"]);
        assert_eq!(system.candidates("web."), ["web"]);
        assert!(is_in_hosts(&files, "localhost") && is_in_hosts(&files, "IP6") && !is_in_hosts(&files, "web"));
        let none = System::own(&Snapshot::default());
        assert_eq!((none.servers, none.search.len(), none.ndots), (vec![([127, 0, 0, 1], 53).into()], 0, 1));
    }
}

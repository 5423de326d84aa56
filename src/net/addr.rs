//! Addresses as configurations write them: https://nginx.org/en/docs/http/ngx_http_core_module.html#listen and
//! https://nginx.org/en/docs/http/ngx_http_upstream_module.html#server
use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What stands in front of the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address; `*` and a lone port are 0.0.0.0.
    Ip(IpAddr),
    /// A name that is still to be looked up, or the name of an upstream.
    Name(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// An address taken apart, nothing looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The host as it was meant.
    pub host: Host,
    /// The host as it was written: a literal with its brackets, a socket without `unix:`, empty for a lone port.
    pub text: String,
    /// The port where there is one.
    pub port: Option<u16>,
    /// The last port of a range, only in `listen`; never below `port`.
    pub last_port: Option<u16>,
    /// The rest: from the first `/` or `?` on, or what follows the colon after a socket's path. Empty where there is none.
    pub uri: Vec<u8>,
}

/// Somewhere to bind or to connect to; displayed as nginx names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Options of a listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field has the name of the parameter that documents it")]
pub struct Options {
    pub backlog: Option<i32>,
    pub rcvbuf: Option<u64>,
    pub sndbuf: Option<u64>,
    pub ipv6only: Option<bool>,
    pub reuseport: bool,
    pub deferred: bool,
    pub fastopen: Option<i32>,
    /// On or off, then idle, interval (seconds) and count where they are given.
    pub so_keepalive: Option<(bool, [Option<u32>; 3])>,
    /// Whether the address must have a socket of its own.
    pub bind: bool,
    /// Whether any of the above was said.
    pub set: bool,
}

/// Why an address cannot be used; nginx's words, to be followed by ` in upstream "…"` or the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddrError(&'static str);

/// Nothing answers to the name.
pub const HOST_NOT_FOUND: AddrError = AddrError("host not found");
const INVALID_HOST: AddrError = AddrError("invalid host");
const INVALID_PORT: AddrError = AddrError("invalid port");
const INVALID_RANGE: AddrError = AddrError("invalid port range");
const NO_HOST: AddrError = AddrError("no host");
/// Linux has 108 bytes for the path and its final zero.
const LONGEST_PATH: usize = 107;

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for AddrError {}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The address of a `listen`: `80`, `*:80`, `[::]:8000-8010`, `name`, `unix:/path`.
pub fn listen(text: &[u8]) -> Result<Url, AddrError> {
    parse(text, Mode::Listen)
}

/// The address of a peer, without a URI.
pub fn peer(text: &[u8]) -> Result<Url, AddrError> {
    parse(text, Mode::Peer)
}

/// The address and the URI of a URL whose scheme has been taken off: `host:80/path`, `unix:/socket:/path`.
pub fn url(text: &[u8]) -> Result<Url, AddrError> {
    parse(text, Mode::Url)
}

/// An address with or without a port, 0 then; either kind may stand in brackets.
pub fn literal(text: &[u8]) -> Option<SocketAddr> {
    let ip = |text: &[u8]| -> Option<IpAddr> {
        let v6 = || std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok();
        match inet4(text) {
            Some(ip) => (!ip.is_broadcast()).then(|| ip.into()),
            None => v6().map(Into::into),
        }
    };
    if let Some(ip) = ip(text) {
        return Some(SocketAddr::new(ip, 0));
    }
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let (host, rest) = rest.split_at_checked(memchr::memchr(b']', rest)?)?;
            (host, rest.get(1..).filter(|rest| !rest.is_empty()))
        }
        None => text.split_at_checked(memchr::memchr(b':', text)?).map(|(host, port)| (host, Some(port)))?,
    };
    let port = port.map_or(Some(0), |text| self::port(text.strip_prefix(b":")?).ok());
    Some(SocketAddr::new(ip(host)?, port?))
}

/// An address as it is printed, which is cheap for those of IPv4.
pub fn text(ip: IpAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = ip else { return ip.to_string().into() };
    let mut out = Vec::with_capacity(15);
    for octet in ip.octets() {
        out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
        out.push(b'.');
    }
    out.pop();
    out
}

impl Url {
    /// Every endpoint that is meant: each address of the host (asking `lookup` for those of a name) with each port.
    pub fn endpoints(
        &self,
        default_port: u16,
        lookup: impl FnOnce(&str) -> Option<Vec<IpAddr>>,
    ) -> Result<Vec<Endpoint>, AddrError> {
        let addresses = match &self.host {
            Host::Unix(path) => return Ok(vec![Endpoint::Unix(path.clone())]),
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => lookup(name).filter(|list| !list.is_empty()).ok_or(HOST_NOT_FOUND)?,
        };
        let first = self.port.unwrap_or(default_port);
        let ports = first..=self.last_port.unwrap_or(first);
        let with_ports = |ip| ports.clone().map(move |port| Endpoint::Inet(SocketAddr::new(ip, port)));
        Ok(addresses.into_iter().flat_map(with_ports).collect())
    }

    /// Whether the host is every address of this machine.
    pub fn wildcard(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_unspecified())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Listen,
    Peer,
    Url,
}

fn parse(text: &[u8], mode: Mode) -> Result<Url, AddrError> {
    if let Some((scheme, path)) = text.split_at_checked(5)
        && scheme.eq_ignore_ascii_case(b"unix:")
    {
        return unix(path, mode);
    }
    match text.strip_prefix(b"[") {
        Some(literal) => inet6(literal, mode),
        None => inet(text, mode),
    }
}

fn unix(text: &[u8], mode: Mode) -> Result<Url, AddrError> {
    let colon = memchr::memchr(b':', text).filter(|_| mode == Mode::Url);
    let (path, uri) = colon.and_then(|at| text.split_at_checked(at)).unwrap_or((text, b""));
    if path.is_empty() {
        return Err(AddrError("no path in the unix domain socket"));
    }
    if path.len() > LONGEST_PATH {
        return Err(AddrError("too long path in the unix domain socket"));
    }
    let uri = uri.get(1..).unwrap_or_default().to_vec();
    let host = Host::Unix(PathBuf::from(OsStr::from_bytes(path)));
    Ok(Url { host, text: lossy(path), port: None, last_port: None, uri })
}

fn inet6(text: &[u8], mode: Mode) -> Result<Url, AddrError> {
    let end = memchr::memchr(b']', text).ok_or(INVALID_HOST)?;
    let (literal, rest) = text.split_at_checked(end).ok_or(INVALID_HOST)?;
    let rest = rest.get(1..).unwrap_or_default();
    let (port, uri) = split_uri(rest, memchr::memchr(b'/', rest), mode)?;
    let (port, last_port) = match port.split_first() {
        None => (None, None),
        Some((b':', port)) => ports(port, mode)?,
        Some(_) => return Err(INVALID_HOST),
    };
    if literal.is_empty() {
        return Err(NO_HOST);
    }
    let ip = std::str::from_utf8(literal).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
    let host = Host::Ip(ip.ok_or(AddrError("invalid IPv6 address"))?.into());
    Ok(Url { host, text: format!("[{}]", lossy(literal)), port, last_port, uri })
}

fn inet(text: &[u8], mode: Mode) -> Result<Url, AddrError> {
    let (authority, uri) = split_uri(text, memchr::memchr2(b'/', b'?', text), mode)?;
    let (host, port, last_port) = match memchr::memchr(b':', authority).and_then(|at| authority.split_at_checked(at)) {
        Some((host, port)) => {
            let (port, last_port) = ports(port.get(1..).unwrap_or_default(), mode)?;
            (host, port, last_port)
        }
        None if mode == Mode::Listen && lone_port(authority) => {
            let (port, last_port) = ports(authority, mode)?;
            return Ok(Url { host: Host::Ip(Ipv4Addr::UNSPECIFIED.into()), text: String::new(), port, last_port, uri });
        }
        None => (authority, None, None),
    };
    if host.is_empty() {
        return Err(NO_HOST);
    }
    let ip = if mode == Mode::Listen && host == b"*" { Some(Ipv4Addr::UNSPECIFIED) } else { inet4(host) };
    let text = lossy(host);
    let host = ip.map_or_else(|| Host::Name(text.clone()), |ip| Host::Ip(ip.into()));
    Ok(Url { host, text, port, last_port, uri })
}

fn split_uri(text: &[u8], at: Option<usize>, mode: Mode) -> Result<(&[u8], Vec<u8>), AddrError> {
    match at.and_then(|at| text.split_at_checked(at)) {
        None => Ok((text, Vec::new())),
        Some((head, uri)) if mode == Mode::Url => Ok((head, uri.to_vec())),
        Some(_) => Err(INVALID_HOST),
    }
}

/// A port or, for `listen`, a range of them.
fn ports(text: &[u8], mode: Mode) -> Result<(Option<u16>, Option<u16>), AddrError> {
    let dash = memchr::memchr(b'-', text).filter(|_| mode == Mode::Listen);
    let (first, last) = match dash.and_then(|at| text.split_at_checked(at)) {
        Some((first, last)) => (first, Some(port(last.get(1..).unwrap_or_default())?)),
        None => (text, None),
    };
    let first = port(first)?;
    if last.is_some_and(|last| first > last) { Err(INVALID_RANGE) } else { Ok((Some(first), last)) }
}

/// Whether the whole text is a number, or two with a dash between them. What is too long for one is a name.
fn lone_port(text: &[u8]) -> bool {
    let number = |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| part.parse::<i64>().is_ok());
    text.splitn(2, |&c| c == b'-').all(|part| part.iter().all(u8::is_ascii_digit) && number(part))
}

fn port(text: &[u8]) -> Result<u16, AddrError> {
    let push = |n: u16, c: &u8| {
        let digit = c.is_ascii_digit().then(|| u16::from(c - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    };
    text.iter().try_fold(0, push).filter(|&n| n > 0).ok_or(INVALID_PORT)
}

/// Four decimal parts; leading zeros are fine, and a missing part is 0.
fn inet4(text: &[u8]) -> Option<Ipv4Addr> {
    let octet = |part: &[u8]| {
        part.iter().try_fold(0u8, |n, c| {
            let digit = c.is_ascii_digit().then(|| c - b'0')?;
            n.checked_mul(10)?.checked_add(digit)
        })
    };
    let octets: Vec<u8> = text.split(|&c| c == b'.').map(octet).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `host port-last uri`, a host that is an address in `<>`.
    fn show(url: Result<Url, AddrError>) -> String {
        let url = match url {
            Ok(url) => url,
            Err(e) => return format!("error: {e}"),
        };
        let mut out = match &url.host {
            Host::Ip(ip) => format!("<{ip}>"),
            Host::Name(name) => name.clone(),
            Host::Unix(path) => format!("unix:{}", path.display()),
        };
        out += &url.port.map_or_else(String::new, |port| format!(" {port}"));
        out += &url.last_port.map_or_else(String::new, |port| format!("-{port}"));
        if url.uri.is_empty() { out } else { format!("{out} {}", lossy(&url.uri)) }
    }

    #[test]
    fn listens() {
        let table = [
            ("80", "<0.0.0.0> 80"),
            ("8000-8010", "<0.0.0.0> 8000-8010"),
            ("*", "<0.0.0.0>"),
            ("*:80", "<0.0.0.0> 80"),
            ("127.0.0.1", "<127.0.0.1>"),
            ("127.0.0.1:8000-8001", "<127.0.0.1> 8000-8001"),
            ("[::]:80", "<::> 80"),
            ("[::1]", "<::1>"),
            ("[::1]:1-2", "<::1> 1-2"),
            ("localhost:80", "localhost 80"),
            ("my-host", "my-host"),
            ("my-80", "my-80"),
            ("80-x", "80-x"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("UNIX:/run/a:b", "unix:/run/a:b"),
            ("", "error: no host"),
            (":80", "error: no host"),
            ("0", "error: invalid port"),
            ("65536", "error: invalid port"),
            ("99999999999", "error: invalid port"),
            ("80-65536", "error: invalid port"),
            ("90-80", "error: invalid port range"),
            ("a:", "error: invalid port"),
            ("a:x", "error: invalid port"),
            ("a:1-x", "error: invalid port"),
            ("a:2-1", "error: invalid port range"),
            ("a/b", "error: invalid host"),
            ("[::1", "error: invalid host"),
            ("[::1]80", "error: invalid host"),
            ("[]:80", "error: no host"),
            ("[::g]:80", "error: invalid IPv6 address"),
            ("unix:", "error: no path in the unix domain socket"),
        ];
        for (text, want) in table {
            assert_eq!(show(listen(text.as_bytes())), want, "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(show(listen(long.as_bytes())), "error: too long path in the unix domain socket");
        assert!(listen(&long.as_bytes()[..long.len() - 1]).is_ok());
        assert!(listen(b"80").unwrap().wildcard() && listen(b"[::]:80").unwrap().wildcard());
        assert!(!listen(b"127.0.0.1:80").unwrap().wildcard());
    }

    #[test]
    fn peers_and_urls() {
        let table = [
            ("backend", "backend", "backend"),
            ("b:8080", "b 8080", "b 8080"),
            ("1.2.3.4:80", "<1.2.3.4> 80", "<1.2.3.4> 80"),
            ("01.2.3.004", "<1.2.3.4>", "<1.2.3.4>"),
            ("1.2.3", "1.2.3", "1.2.3"),
            ("1.2.3.256", "1.2.3.256", "1.2.3.256"),
            ("80", "80", "80"),
            ("*", "*", "*"),
            ("b/x?y", "error: invalid host", "b /x?y"),
            ("b:80/x", "error: invalid host", "b 80 /x"),
            ("b?x", "error: invalid host", "b ?x"),
            ("b/x:y", "error: invalid host", "b /x:y"),
            ("/x", "error: invalid host", "error: no host"),
            ("b:80-90", "error: invalid port", "error: invalid port"),
            ("[::1]:80/x", "error: invalid host", "<::1> 80 /x"),
            ("unix:/a:/b", "unix:/a:/b", "unix:/a /b"),
            ("unix:///a", "unix:///a", "unix:///a"),
            ("unix::/b", "unix::/b", "error: no path in the unix domain socket"),
        ];
        for (text, as_peer, as_url) in table {
            assert_eq!((&*show(peer(text.as_bytes())), &*show(url(text.as_bytes()))), (as_peer, as_url), "{text}");
        }
    }

    #[test]
    fn literals() {
        for (text, want) in [
            ("127.0.0.1", Some("127.0.0.1:0")),
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("127.0.0.1:0", None),
            ("[127.0.0.1]:80", Some("127.0.0.1:80")),
            ("255.255.255.255", None),
            ("[::1]:80", Some("[::1]:80")),
            ("[::1]", Some("[::1]:0")),
            ("[::1]80", None),
            ("::1", Some("[::1]:0")),
            ("localhost", None),
        ] {
            assert_eq!(literal(text.as_bytes()).map(|at| at.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn expands() {
        let names = |url: Url| {
            let lookup = |name: &str| (name == "a").then(|| vec![[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()]);
            url.endpoints(80, lookup).map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(listen(b"a:1-2").unwrap()).unwrap(), "127.0.0.1:1 127.0.0.1:2 [::1]:1 [::1]:2");
        assert_eq!(names(peer(b"1.2.3.4").unwrap()).unwrap(), "1.2.3.4:80");
        assert_eq!(names(peer(b"unix:/a").unwrap()).unwrap(), "unix:/a");
        assert_eq!(names(peer(b"b").unwrap()), Err(HOST_NOT_FOUND));
    }
}

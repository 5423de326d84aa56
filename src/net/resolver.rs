//! Looking up names while serving: https://nginx.org/en/docs/http/ngx_http_core_module.html#resolver and RFC 1035
//!
//! A stub: it asks the configured servers in turn, over TCP where an answer does not fit, and keeps what it learnt.
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::{ErrorLog, Level, clock};

mod objection;
pub mod service;

/// How long a failure holds where nothing is said.
const FAILED: Duration = Duration::from_secs(10);
/// How long one server is waited for before the next is asked.
const RESEND: Duration = Duration::from_secs(5);
const LONGEST_UDP: usize = 4096;
const LONGEST_ALIAS_CHAIN: usize = 50;
/// Beyond so many names, those whose time is over are thrown out.
const CROWDED: usize = 1024;

/// The `resolver` and `resolver_timeout` directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Asked in turn; at least one.
    pub servers: Vec<SocketAddr>,
    /// How long answers are kept, instead of as long as they say themselves.
    pub valid: Option<Duration>,
    /// Whether IPv4 addresses are wanted.
    pub ipv4: bool,
    /// Whether IPv6 addresses are wanted.
    pub ipv6: bool,
    /// How long a caller waits.
    pub timeout: Duration,
}

/// Why a name has no addresses; displayed as nginx does inside `NAME could not be resolved (…)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolveError(u16);

impl ResolveError {
    /// There is no such name, or it has no address.
    pub const NOT_FOUND: Self = Self(3);
    /// Nobody answered in time.
    pub const TIMED_OUT: Self = Self(110);
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            1 => "Format error",
            2 => "Server failure",
            3 => "Host not found",
            4 => "Unimplemented",
            5 => "Operation refused",
            110 => "Operation timed out",
            _ => "Unknown error",
        };
        write!(f, "{}: {words}", self.0)
    }
}

impl std::error::Error for ResolveError {}

/// Addresses, IPv4 first; never empty.
pub type Addresses = Arc<[IpAddr]>;

/// Looks names up and remembers them; shared by all threads.
#[derive(Debug)]
pub struct Resolver {
    settings: Settings,
    turn: AtomicUsize,
    log: OnceLock<ErrorLog>,
    known: Mutex<HashMap<String, Arc<OnceCell<Known>>>>,
}

#[derive(Debug)]
struct Known {
    addresses: Result<Addresses, ResolveError>,
    until: Instant,
}

impl Resolver {
    /// A resolver that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, turn: AtomicUsize::new(0), log: OnceLock::new(), known: Mutex::default() }
    }

    /// Has what goes wrong with the servers written to `log`.
    pub fn log_to(&self, log: ErrorLog) {
        // A resolver belongs to one configuration, so that nobody told it before.
        let _ = self.log.set(log);
    }

    /// The addresses of `name`, from memory or from a server; callers that ask for the same name at the same time
    /// share one question.
    pub async fn resolve(&self, name: &str) -> Result<Addresses, ResolveError> {
        self.resolve_until(name).await.0
    }

    /// How long a caller waits at most.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The same, and until when the answer holds.
    pub async fn resolve_until(&self, name: &str) -> (Result<Addresses, ResolveError>, Instant) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let cell = self.cell(&name);
        let kept = cell.initialized();
        let known = timeout(self.settings.timeout, cell.get_or_init(|| self.learn(&name))).await;
        let Ok(known) = known else { return (Err(ResolveError::TIMED_OUT), self.until_failed()) };
        if known.addresses.is_err() {
            let mut names = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if names.get(&name).is_some_and(|kept| Arc::ptr_eq(kept, &cell)) {
                names.remove(&name);
            }
        }
        // What is kept begins with another one each time.
        match &known.addresses {
            Ok(addresses) if kept && addresses.len() > 1 => {
                let mut addresses = addresses.to_vec();
                let turn = clock::random() % addresses.len() as u64;
                addresses.rotate_left(usize::try_from(turn).unwrap_or_default());
                (Ok(addresses.into()), known.until)
            }
            Err(error) => (Err(*error), self.until_failed()),
            addresses => (addresses.clone(), known.until),
        }
    }

    /// Until when a failure holds for those who look again and again.
    fn until_failed(&self) -> Instant {
        Instant::now() + self.settings.valid.unwrap_or(FAILED)
    }

    /// Until when an answer that may be kept for so many seconds holds.
    fn until(&self, ttl: u32) -> Instant {
        Instant::now() + self.settings.valid.unwrap_or(Duration::from_secs(ttl.into()))
    }

    fn cell(&self, name: &str) -> Arc<OnceCell<Known>> {
        let now = Instant::now();
        let fresh = |cell: &OnceCell<Known>| cell.get().is_none_or(|known| known.until > now);
        let mut names = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = names.get(name).filter(|cell| fresh(cell)) {
            return Arc::clone(cell);
        }
        if names.len() >= CROWDED {
            names.retain(|_, cell| fresh(cell));
        }
        let cell = Arc::default();
        names.insert(name.to_owned(), Arc::clone(&cell));
        cell
    }

    async fn learn(&self, name: &str) -> Known {
        let (mut ttl, found) = (u32::MAX, self.follow(name, false).await);
        let addresses = found.and_then(|answer| {
            ttl = answer.ttl;
            if answer.addresses.is_empty() { Err(ResolveError::NOT_FOUND) } else { Ok(answer.addresses.into()) }
        });
        if addresses.is_err() {
            return Known { addresses, until: Instant::now() };
        }
        Known { addresses, until: self.until(ttl) }
    }

    /// Asks for `name` and, as long as there is only an alias, for what it stands for.
    async fn follow(&self, name: &str, service: bool) -> Result<Answer, ResolveError> {
        let (mut name, mut ttl) = (name.to_owned(), u32::MAX);
        for _ in 0..LONGEST_ALIAS_CHAIN {
            let mut answer = if service { self.services(&name).await? } else { self.both(&name).await? };
            ttl = ttl.min(answer.ttl);
            answer.ttl = ttl;
            match answer.alias.take() {
                Some(alias) if answer.addresses.is_empty() && answer.services.is_empty() => name = alias,
                _ => return Ok(answer),
            }
        }
        Err(ResolveError::NOT_FOUND)
    }

    /// Asks one server for the families that are wanted. A name that has aliases has the same one for both, and where
    /// not, that of IPv6 counts.
    async fn both(&self, name: &str) -> Result<Answer, ResolveError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let family = async |wanted: bool, kind| match wanted {
            true => self.ask(name, kind, turn).await,
            false => Ok(Answer::none()),
        };
        let answers = tokio::join!(family(self.settings.ipv4, TYPE::A), family(self.settings.ipv6, TYPE::AAAA));
        let (v4, v6) = (answers.0?, answers.1?);
        Ok(Answer {
            addresses: [v4.addresses, v6.addresses].concat(),
            services: Vec::new(),
            alias: if self.settings.ipv6 { v6.alias } else { v4.alias },
            ttl: v4.ttl.min(v6.ttl),
        })
    }

    /// Goes round the servers until one gives an answer that counts; the caller's timeout ends it otherwise.
    async fn ask(&self, name: &str, kind: TYPE, turn: usize) -> Result<Answer, ResolveError> {
        let query = Query::new(name, kind).ok_or(ResolveError::NOT_FOUND)?;
        let servers = &self.settings.servers;
        let first = turn.checked_rem(servers.len()).unwrap_or(0);
        let mut first_round = true;
        loop {
            for &server in servers.iter().cycle().skip(first).take(servers.len()) {
                let complain = |text: &str| {
                    self.log.get().inspect(|log| log.write(Level::Error, None, text));
                };
                match timeout(RESEND, query.send(server, &complain)).await {
                    Ok(Ok(answer)) => return answer,
                    // Once is enough, however often it is tried.
                    Ok(Err(failed)) if first_round => {
                        complain(&format!("{failed} while resolving, resolver: {server}"));
                    }
                    _ => {}
                }
            }
            first_round = false;
            sleep(RESEND / 5).await;
        }
    }
}

#[derive(Debug)]
struct Answer {
    addresses: Vec<IpAddr>,
    services: Vec<service::Record>,
    alias: Option<String>,
    /// Seconds.
    ttl: u32,
}

impl Answer {
    fn none() -> Self {
        Self { addresses: Vec::new(), services: Vec::new(), alias: None, ttl: u32::MAX }
    }
}

/// The call that failed, and how.
struct Failed(&'static str, io::Error);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(call, error) = self;
        match error.raw_os_error() {
            Some(code) => write!(f, "{call} failed ({code}: {})", Errno::from_raw(code).desc()),
            None => write!(f, "{call} failed ({error})"),
        }
    }
}

/// Who hears of messages that are of no use.
type Complain<'a> = &'a dyn Fn(&str);

struct Query<'a> {
    name: &'a str,
    kind: TYPE,
    id: u16,
    bytes: Vec<u8>,
}

/// What a message from a server is.
enum Reading {
    /// Not for us, or of no use.
    Ignore,
    Truncated,
    Answer(Result<Answer, ResolveError>),
}

impl<'a> Query<'a> {
    fn new(name: &'a str, kind: TYPE) -> Option<Self> {
        let qname = Name::new(name).ok().filter(|_| !name.is_empty() && !name.split('.').any(str::is_empty))?;
        let id = random();
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(qname, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        Some(Self { name, kind, id, bytes: packet.build_bytes_vec().ok()? })
    }

    async fn send(&self, server: SocketAddr, complain: Complain<'_>) -> Result<Result<Answer, ResolveError>, Failed> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket of its own takes a random port, which a forger would have to guess besides the number.
        let failed = |call| move |error| Failed(call, error);
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed("socket()"))?;
        socket.connect(server).await.map_err(failed("connect()"))?;
        socket.send(&self.bytes).await.map_err(failed("send()"))?;
        let mut buffer = vec![0; LONGEST_UDP];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(failed("recv()"))?;
            match self.read(buffer.get(..length).unwrap_or_default(), false, complain) {
                Reading::Ignore => {}
                Reading::Answer(answer) => return Ok(answer),
                Reading::Truncated => return self.send_tcp(server, complain).await.map_err(failed("recv()")),
            }
        }
    }

    async fn send_tcp(&self, server: SocketAddr, complain: Complain<'_>) -> io::Result<Result<Answer, ResolveError>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes(), self.bytes.as_slice()].concat()).await?;
        loop {
            let mut buffer = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut buffer).await?;
            if let Reading::Answer(answer) = self.read(&buffer, true, complain) {
                return Ok(answer);
            }
        }
    }

    fn read(&self, bytes: &[u8], tcp: bool, complain: Complain<'_>) -> Reading {
        if let Some(objection) = objection::find(self, bytes, tcp, &mut |note| complain(&note)) {
            complain(&objection);
            return Reading::Ignore;
        }
        let Ok(packet) = Packet::parse(bytes) else { return Reading::Ignore };
        let [question] = packet.questions.as_slice() else { return Reading::Ignore };
        let ours = packet.id() == self.id
            && packet.has_flags(PacketFlag::RESPONSE)
            && question.qtype == QTYPE::TYPE(self.kind)
            && question.qname.to_string().eq_ignore_ascii_case(self.name);
        if !ours {
            return Reading::Ignore;
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Reading::Truncated;
        }
        let code = match packet.rcode() {
            RCODE::NoError => return Reading::Answer(Ok(self.collect(&packet))),
            RCODE::ServerFailure => 2,
            RCODE::NameError => 3,
            RCODE::NotImplemented => 4,
            RCODE::Refused => 5,
            _ => return Reading::Ignore,
        };
        Reading::Answer(Err(ResolveError(code)))
    }

    fn collect(&self, packet: &Packet<'_>) -> Answer {
        let mut answer = Answer::none();
        for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
            answer.ttl = answer.ttl.min(record.ttl);
            match &record.rdata {
                RData::A(a) if self.kind == TYPE::A => answer.addresses.push(Ipv4Addr::from(a.address).into()),
                RData::AAAA(a) if self.kind == TYPE::AAAA => answer.addresses.push(Ipv6Addr::from(a.address).into()),
                RData::SRV(srv) if self.kind == TYPE::SRV => answer.services.push(service::Record::of(srv)),
                RData::CNAME(alias) => answer.alias = Some(alias.0.to_string()),
                _ => {}
            }
        }
        answer
    }
}

/// Sixteen bits nobody can foresee: the hash of nothing under a secret key.
fn random() -> u16 {
    let [a, b, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    u16::from_be_bytes([a, b])
}

#[cfg(test)]
mod tests;

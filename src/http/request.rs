//! A request while it is served (RFC 9110 §3.4): what came, where it is, and what became of it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};

use super::agent::Agent;
pub use super::attempts::{Attempt, Attempts, Upstream};
use super::core::Core;
use super::escape::{self, Set};
use super::flow::Flow;
use super::forwarded::Real;
use super::h1::Inbound;
use super::headers::{Headers, Known};
pub use super::method::{Method, Version};
use super::response::Head;
use super::variable::{Computed, Definition, Scope};
use crate::conf::names::VarId;
use crate::net::counts::{Open, Stage};
use crate::net::{Level, Stream};

/// The client's connection.
pub struct Client {
    /// The stream.
    pub stream: Rc<Stream>,
    /// Bytes that came and were not read yet.
    pub input: RefCell<BytesMut>,
    /// The peer's address; none on unix sockets.
    pub peer: Option<SocketAddr>,
    /// The peer as `$remote_addr` prints it.
    pub peer_text: Bytes,
    /// Our address; none on unix sockets.
    pub local: Option<SocketAddr>,
    /// Our end as `$server_addr` prints it on unix sockets.
    pub local_text: Bytes,
    /// What a PROXY protocol header said of it.
    pub proxied: std::cell::OnceCell<crate::net::proxy_protocol::Header>,
    /// The number of the connection within this run.
    pub number: u64,
    /// How many requests came on it, with the one under way.
    pub requests: Cell<u64>,
    /// When it was accepted.
    pub started: Instant,
    /// Where it stands.
    pub stage: Stage,
    /// The stream of an HTTP/2 connection that this stands for.
    pub h2: Option<Rc<super::h2::Stream>>,
    /// Counts it, unless it is a stream.
    pub open: Option<Open>,
}

/// Where each group of a match stands in its subject.
type Groups = Vec<Option<(u32, u32)>>;

/// Values that are stored or computed while the request runs.
#[derive(Debug, Default)]
pub struct Vars {
    slots: RefCell<Vec<Option<Bytes>>>,
    captures: RefCell<(Bytes, Groups)>,
    /// How many computed values are being computed, each for the one before.
    depth: Cell<u8>,
}

/// How many values may be computed for one another before it is called a cycle.
const DEPTH: u8 = 100;

impl Vars {
    /// Group `n` of the last match.
    pub fn capture(&self, n: usize) -> Bytes {
        let captures = self.captures.borrow();
        let (subject, groups) = &*captures;
        let range = groups.get(n).copied().flatten();
        range.map_or(Bytes::new(), |(start, end)| subject.slice(start as usize..end as usize))
    }

    /// Remembers a match for `$1` … `$9`.
    pub fn set_captures(&self, subject: Bytes, groups: Groups) {
        *self.captures.borrow_mut() = (subject, groups);
    }

    /// Lends the stored values to a subrequest; the captures stay.
    pub fn lend(&mut self) -> Self {
        Self { slots: std::mem::take(&mut self.slots), ..Self::default() }
    }

    /// Takes them back.
    pub fn take_back(&mut self, other: &mut Self) {
        self.slots = std::mem::take(&mut other.slots);
    }

    /// The value of a slot.
    pub fn slot(&self, slot: u16) -> Option<Bytes> {
        self.slots.borrow().get(usize::from(slot)).cloned().flatten()
    }

    /// Stores a slot's value.
    pub fn set_slot(&self, slot: u16, value: Bytes) {
        let mut slots = self.slots.borrow_mut();
        let index = usize::from(slot);
        if slots.len() <= index {
            slots.resize(index + 1, None);
        }
        if let Some(entry) = slots.get_mut(index) {
            *entry = Some(value);
        }
    }
}

/// What was sent, for the log.
#[derive(Debug, Default)]
pub struct Sent {
    /// The head as it left, or as far as it got.
    pub head: RefCell<Head>,
    /// The fields behind the body, as far as they got.
    pub trailers: RefCell<Headers>,
    /// All bytes on the wire.
    pub bytes: u64,
    /// Bytes of the head alone.
    pub head_bytes: u64,
    /// Whether the response was complete.
    pub complete: bool,
}

/// A request.
pub struct Request {
    /// The connection it came on.
    pub client: Rc<Client>,
    /// The address that proxies vouch for, in the place of the connection's.
    pub real: Option<Real>,
    /// The settings of the place it is at now.
    pub scope: Arc<dyn Scope>,
    /// Who serves its subrequests.
    pub server: Option<Arc<dyn super::Serve>>,
    /// Of a subrequest: what it came from.
    pub origin: Option<super::subrequest::Origin>,
    /// The request line as it came.
    pub line: Bytes,
    /// The method.
    pub method: Method,
    /// The method's name.
    pub method_name: Bytes,
    /// The version.
    pub version: Version,
    /// The target as it came: `$request_uri`.
    pub target: Bytes,
    /// The path, decoded and normalised.
    pub uri: Bytes,
    /// What stands behind the `?`.
    pub args: Bytes,
    /// Whether they have a value though they are empty.
    pub has_args: bool,
    /// Whether path and arguments still are what the target says: nothing rewrote them.
    pub is_target: bool,
    /// Whether the path is, byte for byte, what came.
    pub plain: bool,
    /// The header fields.
    pub headers: Headers,
    /// `Host` or the authority of the target: lower case, without port.
    pub host: Bytes,
    /// The port of `Host`, with its colon.
    pub host_port: Bytes,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// The body on its way in.
    pub body: Inbound,
    /// Stored values and captures.
    pub vars: Vars,
    /// Whether it came here by a jump inside the server.
    pub internal: bool,
    /// Whether it came behind another one, before that was answered.
    pub pipelined: bool,
    /// `$request_id`, once it was asked for.
    pub request_id: std::cell::OnceCell<String>,
    /// Whether the connection is to be kept.
    pub keep_alive: bool,
    /// Whether an `error_page` is being served.
    pub error_page: bool,
    /// The status that an `error_page` set.
    pub error_status: u16,
    /// The absolute or relative `Location` of a redirect under way.
    pub location: Option<Bytes>,
    /// What the rewrite module entered: the number of an `if` block of the location.
    pub entered_ifs: Vec<usize>,
    /// Whether a `rewrite` changed the path, so that its location must be looked up again.
    pub uri_changed: bool,
    /// Whether `rewrite … break` changed the path inside its location.
    pub broke: bool,
    /// Whether `try_files` chose a path below an `alias` that otherwise stands for the whole path.
    pub uri_after_alias: bool,
    /// Number of URI changes that are still allowed.
    pub changes_left: u8,
    /// `limit_rate` as set by `$limit_rate` or `X-Accel-Limit-Rate`, in bytes a second.
    pub limit_rate: Option<u64>,
    /// The charset that an upstream wants instead of any other (`X-Accel-Charset`).
    pub charset: Option<Bytes>,
    /// What the upstream did.
    pub upstream: Upstream,
    /// Fields that an earlier response leaves to the one that is sent: `X-Accel-Redirect`, `WWW-Authenticate`.
    pub carried: Head,
    /// Whether it may be sent as gzip.
    pub gzip: super::gzip::State,
    /// What modules leave on it.
    pub marks: super::marks::Marks,
    /// What was sent.
    pub sent: Sent,
    /// When its first byte came.
    pub started: Instant,
    /// The bytes of its head.
    pub head_len: u64,
}

impl Request {
    /// The core module's settings here.
    pub fn core(&self) -> &Core {
        self.scope.core()
    }

    /// Appends the value of a variable; false where it has none.
    pub fn variable(&self, id: VarId, out: &mut Vec<u8>) -> bool {
        match self.scope.definition(id) {
            Some(Definition::Builtin(builtin, suffix, _)) => self.scope.builtin(*builtin, self, suffix, out),
            Some(Definition::Slot(slot, warn)) => match self.vars.slot(*slot) {
                Some(value) => {
                    out.extend_from_slice(&value);
                    true
                }
                None => {
                    if *warn && self.core().uninitialized_variable_warn {
                        let name = self.scope.name(id);
                        self.log(Level::Warn, &format!("using uninitialized \"{name}\" variable"));
                    }
                    false
                }
            },
            Some(Definition::Computed(slot, computed)) => {
                let value = match self.vars.slot(*slot) {
                    Some(value) if !computed.volatile() => Some(value),
                    _ => self.compute(id, computed.as_ref()),
                };
                let Some(value) = value else { return false };
                out.extend_from_slice(&value);
                self.vars.set_slot(*slot, value);
                true
            }
            None => false,
        }
    }

    /// Stores the value of a named group, where `set` or a pattern gave the name a slot.
    pub fn keep(&self, id: VarId, value: Bytes) {
        if let Some(Definition::Slot(slot, _) | Definition::Computed(slot, _)) = self.scope.definition(id) {
            self.vars.set_slot(*slot, value);
        }
    }

    /// Gives a variable a value, as `set` does.
    pub fn assign(&mut self, id: VarId, value: Bytes) {
        match self.scope.definition(id) {
            Some(Definition::Builtin(_, _, Some(set))) => {
                let set = *set;
                set(self, value);
            }
            Some(Definition::Slot(slot, _) | Definition::Computed(slot, _)) => self.vars.set_slot(*slot, value),
            _ => {}
        }
    }

    /// The value of a variable as bytes.
    pub fn value_of(&self, id: VarId) -> Vec<u8> {
        let mut out = Vec::new();
        self.variable(id, &mut out);
        out
    }

    /// Whether it came under TLS.
    pub fn is_tls(&self) -> bool {
        self.client.stream.tls().is_some()
    }

    /// The client's address.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.peer().map(|peer| peer.ip())
    }

    /// The client's address and port; none on unix sockets.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.real.as_ref().map(|real| real.addr).or(self.client.peer)
    }

    /// The client's address as `$remote_addr` prints it.
    pub fn peer_text(&self) -> &Bytes {
        self.real.as_ref().map_or(&self.client.peer_text, |real| &real.text)
    }

    /// Whether the target that came holds escapes, so that text taken from its path must be escaped again.
    pub fn is_quoted(&self) -> bool {
        self.target.iter().any(|b| matches!(b, b'%' | b'+'))
    }

    /// What stands behind the last dot of the last segment of the path.
    pub fn extension(&self) -> &[u8] {
        let name = self.uri.rsplit(|&b| b == b'/').next().unwrap_or_default();
        match name.iter().rposition(|&b| b == b'.') {
            Some(dot) => name.get(dot + 1..).unwrap_or_default(),
            None => &[],
        }
    }

    /// Moves to another URI, as an internal redirect does.
    pub fn set_uri(&mut self, uri: impl Into<Bytes>, args: Option<impl Into<Bytes>>) {
        self.has_args = args.is_some();
        (self.uri, self.args, self.plain) = (uri.into(), args.map_or_else(Bytes::new, Into::into), false);
        self.is_target = false;
    }

    /// The arguments, where they have a value.
    pub fn args(&self) -> Option<Vec<u8>> {
        (self.has_args || !self.args.is_empty()).then(|| self.args.to_vec())
    }

    /// Seconds since 1970 when the request is looked at, with its fraction.
    pub fn now() -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// 16 random bytes in hexadecimal: `$request_id`.
    pub fn id(&self) -> &str {
        self.request_id.get_or_init(|| {
            let (high, low) = (crate::net::clock::random(), crate::net::clock::random());
            format!("{high:016x}{low:016x}")
        })
    }

    /// The status for logs: what an error set, what was sent, or 009 of HTTP/0.9.
    pub fn status(&self) -> u16 {
        match (self.error_status, self.sent.head.borrow().status, self.version) {
            (0, 0, Version::HTTP_09) => 9,
            (0, status, _) | (status, ..) => status,
        }
    }

    /// Lets variables see `head` while `f` runs, before it was sent (`$sent_http_…` in `expires` and `add_header`).
    pub fn showing<T>(&self, head: &mut Head, f: impl FnOnce() -> T) -> T {
        std::mem::swap(head, &mut *self.sent.head.borrow_mut());
        let value = f();
        std::mem::swap(head, &mut *self.sent.head.borrow_mut());
        value
    }

    /// Writes to the error log of this place, with nginx's words about the request behind the message.
    pub fn log(&self, level: Level, message: &str) {
        let log = &self.core().error_log;
        if log.takes(level) {
            let doing = if message.contains(" while ") { "" } else { self.upstream.doing };
            let link = if doing.is_empty() { "" } else { " while " };
            log.write(level, Some(self.client.number), &format!("{message}{link}{doing}{}", self.context()));
        }
    }

    fn compute(&self, id: VarId, computed: &dyn Computed) -> Option<Bytes> {
        let depth = self.vars.depth.get();
        if depth == DEPTH {
            let name = self.scope.name(id);
            self.log(Level::Error, &format!("cycle while evaluating variable \"{name}\""));
            return None;
        }
        self.vars.depth.set(depth + 1);
        let value = computed.compute(self);
        self.vars.depth.set(depth);
        value
    }

    fn context(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut out = format!(", client: {}, server: {}", text(self.peer_text()), text(&self.core().server.name));
        if !self.line.is_empty() {
            out.push_str(&format!(", request: \"{}\"", text(&self.line)));
        }
        if self.origin.is_some() {
            out.push_str(&format!(", subrequest: \"{}\"", text(&self.uri)));
        }
        if let (Some(url), Some(attempt)) = (&self.upstream.url, self.upstream.attempts.borrow().last()) {
            let uri = (url.uri)(&url.sent);
            let bare = attempt.addr.starts_with(b"unix:") && !attempt.addr.ends_with(b":");
            let colon = if bare { ":" } else { "" };
            out.push_str(&format!(", upstream: \"{}{}{colon}{}\"", url.scheme, text(&attempt.addr), text(uri)));
        }
        for (known, name) in [(Known::Host, "host"), (Known::Referer, "referrer")] {
            if let Some(value) = self.headers.get(known) {
                out.push_str(&format!(", {name}: \"{}\"", text(value)));
            }
        }
        out
    }

    /// The path of the requested file: `root` or `alias` with the URI, as `$request_filename` has it.
    pub fn filename(&self) -> Vec<u8> {
        self.core().map_uri(self, &self.uri)
    }

    /// The path of the requested file, for those who open it.
    pub fn path(&self) -> Result<Vec<u8>, Flow> {
        self.check_alias()?;
        Ok(self.filename())
    }

    /// Fails where `alias` cannot tell a path any more, because the URI was rewritten inside its location.
    pub fn check_alias(&self) -> Result<(), Flow> {
        if self.broke && self.core().root.alias.is_some() {
            let place = String::from_utf8_lossy(&self.core().location).into_owned();
            let message = format!("\"alias\" cannot be used in location \"{place}\" where URI was rewritten");
            self.log(Level::Alert, &message);
            return Err(Flow::Fail(500));
        }
        Ok(())
    }

    /// Redirects from `/x` to `/x/`.
    pub fn add_slash(&mut self) -> Flow {
        let mut url = Vec::with_capacity(self.uri.len() + 1);
        escape::escape(&self.uri, Set::Uri, &mut url);
        url.push(b'/');
        if !self.args.is_empty() {
            url.push(b'?');
            url.extend_from_slice(&self.args);
        }
        self.location = Some(url.into());
        Flow::Fail(301)
    }

    /// The client's browser.
    pub fn agent(&self) -> Agent {
        self.headers.get(Known::UserAgent).map_or(Agent::Other, Agent::of)
    }

    /// A header value or nothing.
    pub fn header(&self, known: Known) -> Option<Cow<'_, [u8]>> {
        self.headers.get(known).map(Cow::Borrowed)
    }
}

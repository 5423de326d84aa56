//! Clients that stay with their servers: <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#sticky>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::Group;
use crate::conf::args::text;
use crate::conf::zones::PAGE;
use crate::conf::{Args, Diag, Env, Field, Problem, units};
use crate::http::shards::Shards;
use crate::http::value::Part;
use crate::http::{Known, Request, Scope, Value};
use crate::net::{Level, clock};

/// What `sticky` says.
#[derive(Clone, Debug, Default)]
pub struct Sticky {
    lookup: Vec<Value>,
    cookie: Option<Cookie>,
    learn: Option<Learn>,
}

#[derive(Clone, Debug, Default)]
struct Cookie {
    name: Bytes,
    expires: Option<Expires>,
    domain: Option<Value>,
    path: Option<Bytes>,
    samesite: Option<Value>,
    httponly: bool,
    secure: bool,
}

#[derive(Clone, Copy, Debug)]
enum Expires {
    Max,
    /// In so many seconds.
    In(u64),
}

#[derive(Clone, Debug)]
struct Learn {
    create: Vec<Value>,
    zone: Bytes,
    timeout: Duration,
    /// Whether the head of a response is enough.
    at_header: bool,
    sessions: Option<Arc<Sessions>>,
}

/// The sessions that were learnt, and the group they belong to.
#[derive(Debug)]
pub struct Sessions {
    group: Bytes,
    table: Shards<Session>,
}

#[derive(Debug)]
struct Session {
    sid: Bytes,
    /// When it was used last, in milliseconds since 1970.
    last: u64,
}

/// A session that a response confirms.
pub struct Lesson {
    key: [u8; 16],
    sid: Bytes,
    /// Where the response came, for the log.
    place: Arc<dyn Scope>,
    /// Whether the response began it.
    new: bool,
}

/// What a session takes in nginx's zones besides its key, in bytes.
const ENTRY: u64 = 112;
/// The last moment that cookies of nginx know.
const FOREVER: &[u8] = b"; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000";
const SAMESITE: [&[u8]; 3] = [b"strict", b"lax", b"none"];

impl Sticky {
    /// What the request says of its session: the name of its server, or that of the session.
    pub fn id(&self, request: &Request) -> Option<Bytes> {
        first(&self.lookup, request)
    }

    /// The name of the server that a request with this `id` is bound to.
    pub fn server(&self, id: &Bytes) -> Option<Bytes> {
        let Some(learn) = &self.learn else { return Some(id.clone()) };
        let sessions = learn.sessions.as_ref()?;
        let key = key(id);
        sessions.table.with(&key, |part| {
            drop_old(part, learn.timeout, false);
            part.get(&key).map(|session| session.sid.clone())
        })?
    }

    /// Has the response bind the client to a server.
    pub fn bind(&self, sid: &[u8], request: &mut Request) {
        let Some(cookie) = &self.cookie else { return };
        let line = cookie.line(sid, request);
        let mut own = cookie.name.to_vec();
        own.push(b'=');
        let headers = &mut request.carried.headers;
        headers.retain(|field| field.known != Known::SetCookie || !field.value.starts_with(&own));
        headers.push(b"Set-Cookie", &line);
    }

    /// What is to be learnt of the reply that a request got from a server: at once where its head is enough.
    pub fn lesson(&self, id: Option<&Bytes>, sid: &Bytes, request: &Request) -> Option<Lesson> {
        let learn = self.learn.as_ref()?;
        let begun = first(&learn.create, request);
        let key = key(begun.as_ref().or(id)?);
        let lesson = Lesson { key, sid: sid.clone(), place: Arc::clone(&request.scope), new: begun.is_some() };
        if !learn.at_header {
            return Some(lesson);
        }
        self.learn(lesson);
        None
    }

    /// Learns it.
    pub fn learn(&self, lesson: Lesson) {
        let Some(learn) = &self.learn else { return };
        let Some(sessions) = &learn.sessions else { return };
        let Lesson { key, sid, place, new } = lesson;
        let log = |level, what: &str| {
            let message = format!("could not allocate node in sticky session zone \"{}\"{what}", text(&learn.zone));
            place.core().error_log.write(level, None, &message);
        };
        sessions.table.with(&key, |part| {
            drop_old(part, learn.timeout, false);
            let session = || Session { sid: sid.clone(), last: now() };
            if let Some(known) = part.get(&key) {
                *known = session();
            } else if new && !part.insert(&key, session()) {
                log(Level::Warn, ", expiring least recently used session");
                drop_old(part, learn.timeout, true);
                if !part.insert(&key, session()) {
                    log(Level::Alert, "");
                }
            }
        });
    }

    /// Finds the sessions that its zone holds, for the group of that name.
    pub fn take_zone(&mut self, group: &Bytes, env: &mut Env) -> Result<(), Diag> {
        let Some(learn) = &mut self.learn else { return Ok(()) };
        let make = |size| Sessions { group: group.clone(), table: Shards::new(size, ENTRY) };
        let Some(sessions) = env.zones.state(&learn.zone, make) else { return Ok(()) };
        if sessions.group != *group {
            let (zone, new, old) = (text(&learn.zone), text(group), text(&sessions.group));
            let problem = format!(
                "sticky zone \"{zone}\" is used in upstream \"{new}\" while previously it was used in upstream \"{old}\""
            );
            return Err(Diag::general(problem, None));
        }
        learn.sessions = Some(sessions);
        Ok(())
    }
}

impl Cookie {
    fn line(&self, sid: &[u8], request: &Request) -> Vec<u8> {
        let mut line = self.name.to_vec();
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| line.extend_from_slice(part));
        put(&[b"=", sid]);
        match self.expires {
            None => {}
            Some(Expires::Max) => put(&[FOREVER]),
            Some(Expires::In(seconds)) => {
                let at = i64::try_from(clock::now().0.as_secs().saturating_add(seconds)).unwrap_or(i64::MAX);
                put(&[format!("; expires={}; max-age={seconds}", time(at)).as_bytes()]);
            }
        }
        let domain = self.domain.as_ref().map(|domain| domain.get(request)).unwrap_or_default();
        if !domain.is_empty() {
            put(&[b"; domain=", &domain]);
        }
        if self.httponly {
            put(&[b"; httponly"]);
        }
        if self.secure {
            put(&[b"; secure"]);
        }
        let samesite = self.samesite.as_ref().map(|samesite| samesite.get(request)).unwrap_or_default();
        if !samesite.is_empty() {
            put(&[b"; samesite=", if is_samesite(&samesite) { &samesite } else { b"strict" }]);
        }
        if let Some(path) = &self.path {
            put(&[b"; path=", path]);
        }
        line
    }
}

/// A date as cookies have it: `Thu, 31-Dec-37 23:55:55 GMT`, with four digits from 2038 on.
fn time(unix: i64) -> String {
    let date = clock::http(unix);
    let mut words = date.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (week, day, month, year, time) = (next(), next(), next(), next(), next());
    let short = year.get(2..).filter(|_| year.parse::<u32>().is_ok_and(|year| year < 2038));
    format!("{week} {day}-{month}-{} {time} GMT", short.unwrap_or(year))
}

fn is_samesite(value: &[u8]) -> bool {
    SAMESITE.iter().any(|known| known.eq_ignore_ascii_case(value))
}

/// The first of these that is not empty.
fn first(values: &[Value], request: &Request) -> Option<Bytes> {
    values.iter().map(|value| value.bytes(request)).find(|value| !value.is_empty())
}

fn key(id: &[u8]) -> [u8; 16] {
    Md5::digest(id).into()
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(clock::now().0.as_millis()).unwrap_or(u64::MAX)
}

/// Forgets sessions that were not used in time, and the oldest one anyway where room is needed.
fn drop_old(part: &mut crate::http::shards::Shard<Session>, timeout: Duration, mut force: bool) {
    let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let now = now();
    while part.oldest().is_some_and(|session| force || session.last.saturating_add(timeout) <= now) {
        part.pop_oldest();
        force = false;
    }
}

/// Reads `cookie name …`, `route $variable …` or `learn …`.
pub fn read(group: &mut Group, args: &mut Args<'_>) -> Result<(), Problem> {
    let sticky = match args.word(0) {
        b"cookie" => cookie(args)?,
        b"route" => {
            let lookup = args.words().enumerate().skip(1).map(|(index, word)| {
                let invalid = || Problem::new(format!("invalid variable name \"{}\"", text(word))).at(index);
                Ok(variable(word.strip_prefix(b"$").ok_or_else(invalid)?, index, args))
            });
            // Names are taken down one after the other.
            let lookup = lookup.collect::<Result<Vec<_>, Problem>>()?;
            Sticky { lookup, ..Sticky::default() }
        }
        b"learn" => learn(group, args)?,
        other => return Err(unknown(other, 0)),
    };
    group.sticky = Some(sticky);
    Ok(())
}

fn unknown(word: &[u8], at: usize) -> Problem {
    Problem::new(format!("unknown parameter \"{}\"", text(word))).at(at)
}

/// The variable of this name, which argument `at` mentions.
fn variable(name: &[u8], at: usize, args: &mut Args<'_>) -> Value {
    let span = args.directive().args.get(at).map(|word| word.span);
    Value::Mix(vec![Part::Variable(args.env.names.id(&text(name), span))])
}

fn cookie(args: &mut Args<'_>) -> Result<Sticky, Problem> {
    let name = args.word(1);
    if name.is_empty() {
        return Err(Problem::tail("empty cookie name").at(1));
    }
    let mut cookie = Cookie { name: Bytes::copy_from_slice(name), ..Cookie::default() };
    for (index, word) in args.words().enumerate().skip(2) {
        let (key, value) = match word.iter().position(|&b| b == b'=').and_then(|at| word.split_at_checked(at + 1)) {
            Some((key, value)) => (key, value),
            None => (word, &b""[..]),
        };
        let shown = text(key.strip_suffix(b"=").unwrap_or(key)).into_owned();
        let twice = |is_set: bool| match is_set {
            true => Err(Problem::tail(format!("parameter \"{shown}\" is duplicate")).at(index)),
            false => Ok(()),
        };
        let given = || match value.is_empty() {
            true => Err(Problem::tail(format!("no value for \"{shown}\"")).at(index)),
            false => Ok(()),
        };
        match key {
            b"domain=" => {
                twice(cookie.domain.is_some()).and_then(|()| given())?;
                cookie.domain = Some(Value::read(value, args)?);
            }
            b"path=" => {
                twice(cookie.path.is_some()).and_then(|()| given())?;
                cookie.path = Some(Bytes::copy_from_slice(value));
            }
            b"expires=" => {
                twice(cookie.expires.is_some())?;
                let invalid = || Problem::tail("invalid \"expires\" parameter value").at(index);
                let seconds = || units::sec(value).ok_or_else(invalid).map(Expires::In);
                cookie.expires = Some(if value == b"max" { Expires::Max } else { seconds()? });
            }
            b"samesite=" => {
                twice(cookie.samesite.is_some())?;
                let samesite = Value::read(value, args)?;
                if samesite.as_literal().is_some_and(|value| !is_samesite(value)) {
                    return Err(Problem::tail("invalid \"samesite\" parameter value").at(index));
                }
                cookie.samesite = Some(samesite);
            }
            b"httponly" => {
                twice(cookie.httponly)?;
                cookie.httponly = true;
            }
            b"secure" => {
                twice(cookie.secure)?;
                cookie.secure = true;
            }
            _ => return Err(unknown(word, index)),
        }
    }
    let lookup = vec![variable(&[b"cookie_", name].concat(), 1, args)];
    Ok(Sticky { lookup, cookie: Some(cookie), learn: None })
}

fn learn(group: &Group, args: &mut Args<'_>) -> Result<Sticky, Problem> {
    let (mut create, mut lookup, mut zone, mut timeout, mut at_header) = (Vec::new(), Vec::new(), None, None, false);
    for (index, word) in args.words().enumerate().skip(1) {
        let problem = |what: String| Problem::tail(what).at(index);
        let named = |value: &[u8], parameter: &str| match value.strip_prefix(b"$") {
            Some(name) => Ok(name.to_vec()),
            None => Err(problem(format!("missing variable in the \"{parameter}\" parameter"))),
        };
        if let Some(value) = word.strip_prefix(b"zone=") {
            if zone.is_some() {
                return Err(problem("duplicate zone".to_owned()));
            }
            zone = Some(sized(value).map_err(|what| problem(what.to_owned()))?);
        } else if let Some(value) = word.strip_prefix(b"timeout=") {
            if timeout.is_some() {
                return Err(problem("duplicate timeout".to_owned()));
            }
            let time = units::msec(value).filter(|&time| time > 0);
            timeout = Some(time.ok_or_else(|| problem("invalid timeout".to_owned()))?);
        } else if let Some(value) = word.strip_prefix(b"create=") {
            create.push(variable(&named(value, "create")?, index, args));
        } else if let Some(value) = word.strip_prefix(b"lookup=") {
            lookup.push(variable(&named(value, "lookup")?, index, args));
        } else if word == b"header" {
            at_header = true;
        } else {
            return Err(unknown(word, index));
        }
    }
    let missing = |parameter: &str| Problem::tail(format!("\"{parameter}\" parameter is not specified"));
    if lookup.is_empty() {
        return Err(missing("lookup"));
    }
    if create.is_empty() {
        return Err(missing("create"));
    }
    let (zone, size) = zone.ok_or_else(|| missing("zone"))?;
    args.zone("upstream_sticky", zone, size)?;
    claim(zone, &group.name, args)?;
    let timeout = Duration::from_millis(timeout.unwrap_or(600_000));
    let zone = Bytes::copy_from_slice(zone);
    let learn = Learn { create, zone, timeout, at_header, sessions: None };
    Ok(Sticky { lookup, cookie: None, learn: Some(learn) })
}

/// The name and the size of `zone=`.
fn sized(value: &[u8]) -> Result<(&[u8], u64), &'static str> {
    let colon = value.iter().position(|&b| b == b':').ok_or("zone size is not specified")?;
    let (name, size) = value.split_at_checked(colon).ok_or("zone size is not specified")?;
    if name.is_empty() {
        return Err("zone name is not specified");
    }
    match size.get(1..).and_then(units::size) {
        None => Err("invalid zone size"),
        Some(size) if size < 8 * PAGE => Err("zone is too small"),
        Some(size) => Ok((name, size)),
    }
}

/// Notes which group a zone belongs to; it may be one only.
fn claim(zone: &[u8], group: &[u8], args: &mut Args<'_>) -> Result<(), Problem> {
    const KIND: &str = "sticky zone";
    let prefix = [zone, b":"].concat();
    let mut claimed = args.env.declared.keys().filter(|(kind, _)| *kind == KIND);
    if let Some(other) = claimed.find_map(|(_, claim)| claim.strip_prefix(&*prefix)) {
        let (zone, other) = (text(zone), text(other));
        return Err(Problem::new(format!("sticky zone \"{zone}\" is already used in upstream \"{other}\"")));
    }
    let at = args.directive().end;
    args.env.declared.insert((KIND, [&prefix, group].concat()), at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_cookies() {
        assert_eq!(time(2_145_916_555), "Thu, 31-Dec-37 23:55:55 GMT");
        assert_eq!(time(2_145_916_800), "Fri, 01-Jan-2038 00:00:00 GMT");
    }
}

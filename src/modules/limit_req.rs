//! `limit_req`: how many requests a second may come, as a leaky bucket.
//!
//! <https://nginx.org/en/docs/http/ngx_http_limit_req_module.html>

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Contexts, Diag, Directive, Field, List, Problem, many, on, units, zones};
use crate::http::pause::pause;
use crate::http::shards::{Shard, Shards};
use crate::http::variable::variable;
use crate::http::{Flow, Request, Value, Variable};
use crate::net::{Level, clock};

/// `ngx_http_limit_req_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone)]
pub struct Conf {
    limits: List<Written>,
    log_level: Level,
    status: u64,
    dry_run: bool,
}

impl Default for Conf {
    fn default() -> Self {
        Self { limits: List::default(), log_level: Level::Error, status: 503, dry_run: false }
    }
}

/// A `limit_req` as written; excesses in thousandths of a request.
#[derive(Clone)]
struct Written {
    zone: Bytes,
    burst: u64,
    delay: u64,
}

/// A `limit_req_zone`.
pub struct Zone {
    name: Bytes,
    key: Value,
    /// The key as written.
    text: Bytes,
    /// Thousandths of a request a second.
    rate: u64,
}

/// What requests read.
pub struct Loc {
    limits: Vec<Limit>,
    log_level: Level,
    status: u16,
    dry_run: bool,
}

struct Limit {
    name: Bytes,
    key: Value,
    text: Bytes,
    rate: u64,
    burst: u64,
    delay: u64,
    buckets: Arc<Buckets>,
}

/// The state of a zone, and the key it is about.
struct Buckets {
    key: Bytes,
    table: Shards<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// When it was last counted, in milliseconds since the process began.
    last: u64,
    /// Thousandths of a request above the rate.
    excess: u64,
}

const NAME: &str = "limit_req";
/// Bytes that nginx's entry takes beside its key.
const ENTRY: u64 = 80;
/// Longest key in bytes.
const KEY: usize = 65535;
/// An idle entry leaves after so many milliseconds.
const IDLE: u64 = 60_000;
const LEVELS: [(&str, Level); 4] =
    [("info", Level::Info), ("notice", Level::Notice), ("warn", Level::Warn), ("error", Level::Error)];

impl super::Module for Module {
    type Conf = Conf;
    type Main = Vec<Zone>;
    type Loc = Loc;
    const PHASES: Phases = Phases::PREACCESS;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        many("limit_req", Contexts::SCOPES, 1..=3, limit),
        on("limit_req_log_level", Contexts::SCOPES, 1..=1, |c, a| {
            c.log_level = one_of(a.word(0), &LEVELS).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        on("limit_req_status", Contexts::SCOPES, 1..=1, |c, a| a.set_in(&mut c.status, 400..=599)),
        on("limit_req_dry_run", Contexts::SCOPES, 1..=1, |c, a| a.set(&mut c.dry_run)),
    ];
    const MAIN_DIRECTIVES: &'static [Directive<Vec<Zone>>] = &[many("limit_req_zone", Contexts::HTTP, 3..=3, zone)];

    const VARIABLES: &'static [Variable<Loc>] = &[variable("limit_req_status", |_, r, _, out| {
        out.extend_from_slice(r.marks.limit_req.unwrap_or_default().as_bytes());
        r.marks.limit_req.is_some()
    })];

    fn seal(conf: Conf, zones: &Vec<Zone>, cx: &mut Seal<'_>) -> Result<Loc, Diag> {
        let mut limits = Vec::new();
        for written in &*conf.limits {
            let Some(zone) = zones.iter().find(|zone| zone.name == written.zone) else { continue };
            let make = |size| Buckets { key: zone.text.clone(), table: Shards::new(size, ENTRY) };
            let Some(buckets) = cx.env.zones.state(&zone.name, make) else { continue };
            if buckets.key != zone.text {
                let (name, new, old) = (text(&zone.name), text(&zone.text), text(&buckets.key));
                let problem =
                    format!("limit_req \"{name}\" uses the \"{new}\" key while previously it used the \"{old}\" key");
                return Err(Diag::general(problem, None));
            }
            limits.push(Limit {
                name: zone.name.clone(),
                key: zone.key.clone(),
                text: zone.text.clone(),
                rate: zone.rate,
                burst: written.burst,
                delay: written.delay,
                buckets,
            });
        }
        let status = u16::try_from(conf.status).unwrap_or(503);
        Ok(Loc { limits, log_level: conf.log_level, status, dry_run: conf.dry_run })
    }

    async fn preaccess(conf: &Loc, request: &mut Request) -> Flow {
        if conf.limits.is_empty() || request.marks.limit_req.is_some() {
            return Flow::Next;
        }
        match conf.judge(request) {
            Verdict::Free => Flow::Next,
            Verdict::Full(zone) => {
                let message = format!("could not allocate node in limit_req zone \"{}\"", text(zone));
                request.core().error_log.write(Level::Alert, None, &message);
                Flow::Fail(conf.status)
            }
            Verdict::Excess(excess, zone) => conf.reject(request, excess, zone),
            Verdict::Passed => mark(request, "PASSED"),
            Verdict::Delay(delay, excess, zone) => conf.delay(request, delay, excess, zone).await,
        }
    }
}

fn mark(request: &mut Request, status: &'static str) -> Flow {
    request.marks.limit_req = Some(status);
    Flow::Next
}

/// What all limits of a place say together; excesses in thousandths of a request.
enum Verdict<'a> {
    /// No limit is about the request.
    Free,
    /// All let it pass.
    Passed,
    /// It must wait so many milliseconds.
    Delay(u64, u64, &'a [u8]),
    /// It is too much for this zone.
    Excess(u64, &'a [u8]),
    /// This zone has no room.
    Full(&'a [u8]),
}

impl Loc {
    /// Asks every limit. Only when all agree is the request counted.
    fn judge(&self, request: &Request) -> Verdict<'_> {
        let mut counted: Vec<(&Limit, std::borrow::Cow<'_, [u8]>)> = Vec::new();
        for limit in &self.limits {
            let key = limit.key.get(request);
            if key.is_empty() {
                continue;
            }
            if key.len() > KEY {
                let (name, key) = (text(&limit.text), text(&key));
                request.log(
                    Level::Error,
                    &format!("the value of the \"{name}\" key is more than 65535 bytes: \"{key}\""),
                );
                continue;
            }
            counted.push((limit, key));
        }
        let Some(((last, key), earlier)) = counted.split_last() else { return Verdict::Free };
        let now = now();
        for (limit, key) in earlier {
            match limit.count(key, now, false) {
                Some(excess) if excess <= limit.burst => {}
                Some(excess) => return Verdict::Excess(excess, &limit.name),
                None => return Verdict::Full(&limit.name),
            }
        }
        let Some(excess) = last.count(key, now, true) else { return Verdict::Full(&last.name) };
        if excess > last.burst {
            return Verdict::Excess(excess, &last.name);
        }
        let mut longest = (last.wait(excess), excess, *last);
        for (limit, key) in earlier.iter().rev() {
            let Some(excess) = limit.count(key, now, true) else { continue };
            let wait = limit.wait(excess);
            if wait > longest.0 {
                longest = (wait, excess, limit);
            }
        }
        match longest {
            (0, ..) => Verdict::Passed,
            (wait, excess, limit) => Verdict::Delay(wait, excess, &limit.name),
        }
    }

    fn reject(&self, request: &mut Request, excess: u64, zone: &[u8]) -> Flow {
        let dry = if self.dry_run { ", dry run" } else { "" };
        let message = format!("limiting requests{dry}, excess: {} by zone \"{}\"", thousandths(excess), text(zone));
        request.log(self.log_level, &message);
        if self.dry_run {
            return mark(request, "REJECTED_DRY_RUN");
        }
        mark(request, "REJECTED");
        Flow::Fail(self.status)
    }

    async fn delay(&self, request: &mut Request, wait: u64, excess: u64, zone: &[u8]) -> Flow {
        let level = match self.log_level {
            Level::Error => Level::Warn,
            Level::Warn => Level::Notice,
            _ => Level::Info,
        };
        let dry = if self.dry_run { ", dry run" } else { "" };
        let message = format!("delaying request{dry}, excess: {}, by zone \"{}\"", thousandths(excess), text(zone));
        request.log(level, &message);
        if self.dry_run {
            return mark(request, "DELAYED_DRY_RUN");
        }
        mark(request, "DELAYED");
        pause(request, Duration::from_millis(wait)).await.err().unwrap_or(Flow::Next)
    }
}

impl Limit {
    /// The excess this request brings about; it is kept if `account` and if it is within the burst. `None` if the zone is
    /// full.
    fn count(&self, key: &[u8], now: u64, account: bool) -> Option<u64> {
        self.buckets.table.with(key, |shard| {
            if let Some(bucket) = shard.get(key) {
                let excess = (bucket.excess + 1000).saturating_sub(leaked(self.rate, now.saturating_sub(bucket.last)));
                if account && excess <= self.burst {
                    *bucket = Bucket { last: now.max(bucket.last), excess };
                }
                return Some(excess);
            }
            self.expire(shard, now);
            let bucket = || Bucket { last: now, excess: 0 };
            if account && !shard.insert(key, bucket()) {
                shard.pop_oldest();
                self.expire(shard, now);
                if !shard.insert(key, bucket()) {
                    return None;
                }
            }
            Some(0)
        })?
    }

    /// Removes up to two entries that say nothing any more.
    fn expire(&self, shard: &mut Shard<Bucket>, now: u64) {
        for _ in 0..2 {
            let Some(oldest) = shard.oldest() else { return };
            let idle = now.saturating_sub(oldest.last);
            if idle < IDLE || oldest.excess > leaked(self.rate, idle) {
                return;
            }
            shard.pop_oldest();
        }
    }

    /// Milliseconds that a request must wait.
    fn wait(&self, excess: u64) -> u64 {
        excess.saturating_sub(self.delay).saturating_mul(1000).checked_div(self.rate).unwrap_or_default()
    }
}

/// Thousandths of a request that pass in `ms`.
fn leaked(rate: u64, ms: u64) -> u64 {
    rate.saturating_mul(ms) / 1000
}

/// Milliseconds since the process began.
fn now() -> u64 {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let begun = *BEGUN.get_or_init(Instant::now);
    u64::try_from(clock::since(begun).as_millis()).unwrap_or(u64::MAX)
}

fn thousandths(excess: u64) -> String {
    format!("{}.{:03}", excess / 1000, excess % 1000)
}

fn zone(zones: &mut Vec<Zone>, args: &mut Args<'_>) -> Result<(), Problem> {
    let key = Value::read(args.word(0), args).map_err(|problem| problem.at(0))?;
    let (mut found, mut rate) = (None, 1000);
    for (index, word) in args.words().enumerate().skip(1) {
        if let Some(value) = word.strip_prefix(b"zone=") {
            found = Some(zones::sized(value, word, index)?);
        } else if let Some(value) = word.strip_prefix(b"rate=") {
            let (number, scale) = match (value.strip_suffix(b"r/s"), value.strip_suffix(b"r/m")) {
                (_, Some(number)) => (number, 60),
                (number, None) => (number.unwrap_or(value), 1),
            };
            let number = units::number(number).filter(|&number| number > 0);
            let number = number.and_then(|number| number.checked_mul(1000));
            rate = number.ok_or_else(|| Problem::new(format!("invalid rate \"{}\"", text(word))).at(index))? / scale;
        } else {
            return Err(invalid(word, index));
        }
    }
    let Some((name, size)) = found.filter(|(name, _)| !name.is_empty()) else {
        return Err(Problem::new("\"%DIRECTIVE%\" must have \"zone\" parameter"));
    };
    args.zone(NAME, name, size)?;
    if let Some(zone) = zones.iter().find(|zone| zone.name == name) {
        let (name, key) = (text(name), text(&zone.text));
        return Err(Problem::new(format!("%DIRECTIVE% \"{name}\" is already bound to key \"{key}\"")));
    }
    let text = Bytes::copy_from_slice(args.word(0));
    zones.push(Zone { name: Bytes::copy_from_slice(name), key, text, rate });
    Ok(())
}

fn limit(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let (mut zone, mut burst, mut delay) = (None, 0, 0);
    let number = |value: &[u8], what: &str, word: &[u8], at: usize| {
        let number = units::number(value).filter(|&number| number > 0);
        number.ok_or_else(|| Problem::new(format!("invalid {what} value \"{}\"", text(word))).at(at))
    };
    for (index, word) in args.words().enumerate() {
        if let Some(name) = word.strip_prefix(b"zone=") {
            args.zone(NAME, name, 0).map_err(|problem| problem.at(index))?;
            zone = Some(Bytes::copy_from_slice(name));
        } else if let Some(value) = word.strip_prefix(b"burst=") {
            burst = number(value, "burst", word, index)?;
        } else if let Some(value) = word.strip_prefix(b"delay=") {
            delay = number(value, "delay", word, index)?;
        } else if word == b"nodelay" {
            delay = u64::MAX;
        } else {
            return Err(invalid(word, index));
        }
    }
    let Some(zone) = zone else { return Err(Problem::new("\"%DIRECTIVE%\" must have \"zone\" parameter")) };
    if conf.limits.is_own() && conf.limits.iter().any(|other| other.zone == zone) {
        return Err(Problem::tail("is duplicate"));
    }
    let thousand = |number: u64| number.saturating_mul(1000);
    conf.limits.push(Written { zone, burst: thousand(burst), delay: thousand(delay) });
    Ok(())
}

fn invalid(word: &[u8], at: usize) -> Problem {
    Problem::new(format!("invalid parameter \"{}\"", text(word))).at(at)
}

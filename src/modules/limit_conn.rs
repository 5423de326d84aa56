//! `limit_conn`: how many requests may be under way at once.
//!
//! <https://nginx.org/en/docs/http/ngx_http_limit_conn_module.html>

use std::sync::Arc;

use bytes::Bytes;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Contexts, Diag, Directive, Field, List, Problem, many, on, units, zones};
use crate::http::shards::Shards;
use crate::http::variable::variable;
use crate::http::{Flow, Request, Value, Variable};
use crate::net::Level;

/// `ngx_http_limit_conn_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone)]
pub struct Conf {
    /// Zones and how many may be in each.
    limits: List<(Bytes, u64)>,
    log_level: Level,
    status: u64,
    dry_run: bool,
}

impl Default for Conf {
    fn default() -> Self {
        Self { limits: List::default(), log_level: Level::Error, status: 503, dry_run: false }
    }
}

/// A `limit_conn_zone`.
pub struct Zone {
    name: Bytes,
    key: Value,
    /// The key as written.
    text: Bytes,
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
    most: u64,
    places: Arc<Places>,
}

/// The state of a zone, and the key it is about.
#[derive(Debug)]
struct Places {
    key: Bytes,
    table: Shards<u64>,
}

/// A place that a request has in a zone.
#[derive(Debug)]
struct Held {
    places: Arc<Places>,
    key: Bytes,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.table.with(&self.key, |shard| match shard.get(&self.key) {
            Some(number) if *number > 1 => *number -= 1,
            _ => shard.remove(&self.key),
        });
    }
}

const NAME: &str = "limit_conn";
/// Bytes that nginx's entry takes beside its key.
const ENTRY: u64 = 36;
/// Longest key in bytes.
const KEY: usize = 255;
const LEVELS: [(&str, Level); 4] =
    [("info", Level::Info), ("notice", Level::Notice), ("warn", Level::Warn), ("error", Level::Error)];

impl super::Module for Module {
    type Conf = Conf;
    type Main = Vec<Zone>;
    type Loc = Loc;
    const PHASES: Phases = Phases::PREACCESS;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        many("limit_conn", Contexts::SCOPES, 2..=2, limit),
        on("limit_conn_log_level", Contexts::SCOPES, 1..=1, |c, a| {
            c.log_level = one_of(a.word(0), &LEVELS).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        on("limit_conn_status", Contexts::SCOPES, 1..=1, |c, a| a.set_in(&mut c.status, 400..=599)),
        on("limit_conn_dry_run", Contexts::SCOPES, 1..=1, |c, a| a.set(&mut c.dry_run)),
    ];
    const MAIN_DIRECTIVES: &'static [Directive<Vec<Zone>>] = &[many("limit_conn_zone", Contexts::HTTP, 2..=2, zone)];

    const VARIABLES: &'static [Variable<Loc>] = &[variable("limit_conn_status", |_, r, _, out| {
        out.extend_from_slice(r.marks.limit_conn.unwrap_or_default().as_bytes());
        r.marks.limit_conn.is_some()
    })];

    fn seal(conf: Conf, zones: &Vec<Zone>, cx: &mut Seal<'_>) -> Result<Loc, Diag> {
        let mut limits = Vec::new();
        for (name, most) in &*conf.limits {
            let Some(zone) = zones.iter().find(|zone| zone.name == *name) else { continue };
            let make = |size| Places { key: zone.text.clone(), table: Shards::new(size, ENTRY) };
            let Some(places) = cx.env.zones.state(name, make) else { continue };
            if places.key != zone.text {
                let (name, new, old) = (text(name), text(&zone.text), text(&places.key));
                let problem = format!(
                    "limit_conn_zone \"{name}\" uses the \"{new}\" key while previously it used the \"{old}\" key"
                );
                return Err(Diag::general(problem, None));
            }
            let (name, key, text) = (name.clone(), zone.key.clone(), zone.text.clone());
            limits.push(Limit { name, key, text, most: *most, places });
        }
        let status = u16::try_from(conf.status).unwrap_or(503);
        Ok(Loc { limits, log_level: conf.log_level, status, dry_run: conf.dry_run })
    }

    async fn preaccess(conf: &Loc, request: &mut Request) -> Flow {
        if conf.limits.is_empty() || request.marks.limit_conn.is_some() {
            return Flow::Next;
        }
        let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
        for limit in &conf.limits {
            let key = limit.key.bytes(request);
            if key.is_empty() {
                continue;
            }
            if key.len() > KEY {
                let (name, key) = (text(&limit.text), text(&key));
                request
                    .log(Level::Error, &format!("the value of the \"{name}\" key is more than 255 bytes: \"{key}\""));
                continue;
            }
            request.marks.limit_conn = Some("PASSED");
            match limit.enter(&key) {
                Entered::In => held.push(Box::new(Held { places: Arc::clone(&limit.places), key })),
                Entered::NoRoom => {
                    let name = text(&limit.name);
                    let message = format!("ngx_slab_alloc() failed: no memory in limit_conn_zone \"{name}\"");
                    request.core().error_log.write(Level::Crit, None, &message);
                    return conf.reject(request);
                }
                Entered::TooMany => {
                    let (dry, name) = (if conf.dry_run { ", dry run," } else { "" }, text(&limit.name));
                    request.log(conf.log_level, &format!("limiting connections{dry} by zone \"{name}\""));
                    return conf.reject(request);
                }
            }
        }
        request.marks.held.append(&mut held);
        Flow::Next
    }
}

impl Loc {
    fn reject(&self, request: &mut Request) -> Flow {
        if self.dry_run {
            request.marks.limit_conn = Some("REJECTED_DRY_RUN");
            return Flow::Next;
        }
        request.marks.limit_conn = Some("REJECTED");
        Flow::Fail(self.status)
    }
}

enum Entered {
    In,
    TooMany,
    NoRoom,
}

impl Limit {
    fn enter(&self, key: &[u8]) -> Entered {
        let entered = self.places.table.with(key, |shard| {
            if let Some(number) = shard.get(key) {
                if *number >= self.most {
                    return Entered::TooMany;
                }
                *number += 1;
                return Entered::In;
            }
            if shard.insert(key, 1) { Entered::In } else { Entered::NoRoom }
        });
        entered.unwrap_or(Entered::NoRoom)
    }
}

fn zone(zones: &mut Vec<Zone>, args: &mut Args<'_>) -> Result<(), Problem> {
    let key = Value::read(args.word(0), args).map_err(|problem| problem.at(0))?;
    let word = args.word(1);
    let Some(value) = word.strip_prefix(b"zone=") else {
        return Err(Problem::new(format!("invalid parameter \"{}\"", text(word))).at(1));
    };
    let (name, size) = zones::sized(value, word, 1)?;
    if name.is_empty() {
        return Err(Problem::new("\"%DIRECTIVE%\" must have \"zone\" parameter"));
    }
    args.zone(NAME, name, size)?;
    if let Some(zone) = zones.iter().find(|zone| zone.name == name) {
        let (name, key) = (text(name), text(&zone.text));
        return Err(Problem::new(format!("%DIRECTIVE% \"{name}\" is already bound to key \"{key}\"")));
    }
    zones.push(Zone { name: Bytes::copy_from_slice(name), key, text: Bytes::copy_from_slice(args.word(0)) });
    Ok(())
}

fn limit(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let (name, number) = (args.word(0), args.word(1));
    args.zone(NAME, name, 0).map_err(|problem| problem.at(0))?;
    if conf.limits.is_own() && conf.limits.iter().any(|(other, _)| other == name) {
        return Err(Problem::tail("is duplicate"));
    }
    let problem = || Problem::new(format!("invalid number of connections \"{}\"", text(number))).at(1);
    let most = units::number(number).filter(|&most| most > 0).ok_or_else(problem)?;
    if most > 65535 {
        return Err(Problem::new("connection limit must be less 65536").at(1));
    }
    conf.limits.push((Bytes::copy_from_slice(name), most));
    Ok(())
}

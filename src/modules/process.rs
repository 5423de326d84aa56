//! The process itself and its events: <https://nginx.org/en/docs/ngx_core_module.html>
//!
//! Tuning of nginx's event loop is checked and has no effect; `docs/DIFFERENCES.md` lists it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use parser::ast::Span;

use super::Seal;
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Contexts, Diag, Directive, Problem, many, on, units};

/// `ngx_core_module` and `ngx_events_module`.
pub struct Module;

/// The user of the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its group's; the user's where it is not said.
    pub group: Option<String>,
    /// Where it is said.
    pub at: Span,
}

/// What the directives outside of `http` say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field has the name of the directive that documents it")]
pub struct Process {
    pub daemon: bool,
    pub master_process: bool,
    pub pid: Option<PathBuf>,
    pub user: Option<User>,
    /// 0 is `auto`.
    pub worker_processes: u64,
    pub worker_connections: u64,
    pub worker_shutdown_timeout: Duration,
    pub working_directory: Option<PathBuf>,
    pub timer_resolution: Duration,
    pub worker_rlimit_nofile: Option<u64>,
    /// In bytes.
    pub worker_rlimit_core: Option<u64>,
    pub worker_priority: i32,
    /// Names to hand on, each with its value where `env` gives one.
    pub env: Vec<(OsString, Option<OsString>)>,
    pub worker_hardening: bool,
    pub checked: u64,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            daemon: true,
            master_process: true,
            pid: None,
            user: None,
            worker_processes: 1,
            worker_connections: 512,
            worker_shutdown_timeout: Duration::ZERO,
            working_directory: None,
            timer_resolution: Duration::ZERO,
            worker_rlimit_nofile: None,
            worker_rlimit_core: None,
            worker_priority: 0,
            env: Vec::new(),
            worker_hardening: true,
            checked: 0,
        }
    }
}

const MAIN: Contexts = Contexts::MAIN;
const EVENTS: Contexts = Contexts::EVENTS;

impl super::Module for Module {
    type Conf = ();
    type Main = Process;
    type Loc = ();

    const MAIN_DIRECTIVES: &'static [Directive<Process>] = &[
        many("load_module", MAIN, 1..=1, |_, a| load_module(a)),
        on("daemon", MAIN, 1..=1, |p, a| a.set(&mut p.daemon)),
        on("master_process", MAIN, 1..=1, |p, a| a.set(&mut p.master_process)),
        on("pid", MAIN, 1..=1, |p, a| {
            let mut path = PathBuf::new();
            a.set(&mut path)?;
            p.pid = (!a.word(0).is_empty()).then_some(path);
            Ok(())
        }),
        on("user", MAIN, 1..=2, |p, a| {
            let group = a.get(1).map(|group| text(group).into_owned());
            p.user = Some(User { name: text(a.word(0)).into_owned(), group, at: a.directive().end });
            Ok(())
        }),
        on("worker_processes", MAIN, 1..=1, |p, a| {
            if a.word(0) == b"auto" {
                p.worker_processes = 0;
                return Ok(());
            }
            p.worker_processes = units::number(a.word(0)).ok_or_else(|| Problem::tail("invalid value").at(0))?;
            match p.worker_processes {
                0 => Err(Problem::tail("invalid value").at(0)),
                _ => Ok(()),
            }
        }),
        on("worker_shutdown_timeout", MAIN, 1..=1, |p, a| a.set(&mut p.worker_shutdown_timeout)),
        on("working_directory", MAIN, 1..=1, |p, a| a.set(&mut p.working_directory)),
        on("timer_resolution", MAIN, 1..=1, |p, a| a.set(&mut p.timer_resolution)),
        on("worker_rlimit_nofile", MAIN, 1..=1, |p, a| a.set(&mut p.worker_rlimit_nofile)),
        on("worker_rlimit_core", MAIN, 1..=1, |p, a| {
            let size = units::size(a.word(0)).ok_or_else(|| Problem::tail("invalid value").at(0))?;
            p.worker_rlimit_core = Some(size);
            Ok(())
        }),
        on("worker_priority", MAIN, 1..=1, priority),
        on("worker_hardening", MAIN, 1..=1, |p, a| a.set(&mut p.worker_hardening)),
        on("worker_cpu_affinity", MAIN, 1..=255, |_, a| affinity(a)),
        on("pcre_jit", MAIN, 1..=1, |_, a| a.set(&mut false)),
        on("lock_file", MAIN, 1..=1, |_, a| a.set(&mut PathBuf::new())),
        many("env", MAIN, 1..=1, |p, a| {
            let word = OsStr::from_bytes(a.word(0));
            let mut parts = word.as_bytes().splitn(2, |&b| b == b'=').map(|part| OsStr::from_bytes(part).to_owned());
            p.env.push((parts.next().unwrap_or_default(), parts.next()));
            Ok(())
        }),
        on("worker_connections", EVENTS, 1..=1, |p, a| {
            let invalid = || Problem::new(format!("invalid number \"{}\"", text(a.word(0)))).at(0);
            p.worker_connections = units::number(a.word(0)).ok_or_else(invalid)?;
            Ok(())
        }),
        on("use", EVENTS, 1..=1, |_, a| {
            let method = text(a.word(0));
            match &*method {
                "epoll" | "poll" | "select" => Ok(()),
                _ => Err(Problem::new(format!("invalid event type \"{method}\"")).at(0)),
            }
        }),
        on("multi_accept", EVENTS, 1..=1, |_, a| a.set(&mut false)),
        on("accept_mutex", EVENTS, 1..=1, |_, a| a.set(&mut false)),
        on("accept_mutex_delay", EVENTS, 1..=1, |_, a| a.set(&mut Duration::default())),
        on("worker_aio_requests", EVENTS, 1..=1, |p, a| a.set(&mut p.checked)),
        many("debug_connection", EVENTS, 1..=1, |_, a| {
            let (what, how) = ("\"debug_connection\" is ignored, you need to", "rebuild nginx using --with-debug option to enable it");
            a.warn(format!("{what} {how}"));
            Ok(())
        }),
        on("debug_points", MAIN, 1..=1, |_, a| {
            one_of(a.word(0), &[("stop", ()), ("abort", ())]).map_err(|problem| problem.at(0))
        }),
    ];

    fn seal((): (), _: &Process, _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }
}

fn priority(process: &mut Process, args: &mut Args<'_>) -> Result<(), Problem> {
    let (minus, digits) = match args.word(0) {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    let number = units::number(digits).and_then(|number| i32::try_from(number).ok());
    process.worker_priority = minus * number.ok_or_else(|| Problem::tail("invalid number").at(0))?;
    Ok(())
}

/// Looks at the masks, which nobody uses.
fn affinity(args: &mut Args<'_>) -> Result<(), Problem> {
    const CPUS: usize = 1024;
    let auto = args.word(0) == b"auto";
    if auto && args.len() > 2 {
        return Err(Problem::new("invalid number of arguments in \"worker_cpu_affinity\" directive"));
    }
    for (index, mask) in args.words().enumerate().skip(usize::from(auto)) {
        if mask.len() > CPUS {
            return Err(Problem::new(format!("\"worker_cpu_affinity\" supports up to {CPUS} CPUs only")).at(index));
        }
        if let Some(&other) = mask.iter().rfind(|byte| !matches!(byte, b'0' | b'1' | b' ')) {
            let other = text(&[other]).into_owned();
            return Err(Problem::new(format!("invalid character \"{other}\" in \"worker_cpu_affinity\"")).at(index));
        }
    }
    Ok(())
}

/// What is built in needs no loading; nothing else can be loaded.
fn load_module(args: &mut Args<'_>) -> Result<(), Problem> {
    let word = args.word(0);
    let file = word.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let name = text(file.strip_suffix(b".so").unwrap_or(file)).into_owned();
    let bare = name.strip_prefix("ngx_http_").and_then(|name| name.strip_suffix("_module"));
    let bare = bare.map(|name| name.strip_suffix("_filter").unwrap_or(name));
    if bare.is_some_and(super::has) {
        return Ok(());
    }
    let path = args.env.full_name(word);
    Err(Problem::new(format!("dlopen() \"{}\" failed (the module \"{name}\" is not built in)", path.display())).at(0))
}

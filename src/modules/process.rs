//! The process itself and its events: <https://nginx.org/en/docs/ngx_core_module.html>
//!
//! Tuning of nginx's event loop is checked and has no effect; `docs/DIFFERENCES.md` lists it.

use std::path::PathBuf;
use std::time::Duration;

use super::Seal;
use crate::conf::args::text;
use crate::conf::field::one_of;
use crate::conf::{Args, Contexts, Diag, Directive, Problem, many, on, units};

/// `ngx_core_module` and `ngx_events_module`.
pub struct Module;

/// What the directives outside of `http` say.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field has the name of the directive that documents it")]
pub struct Process {
    pub daemon: bool,
    pub master_process: bool,
    pub pid: Option<PathBuf>,
    pub user: Option<(String, Option<String>)>,
    /// 0 is `auto`.
    pub worker_processes: u64,
    pub worker_connections: u64,
    pub worker_shutdown_timeout: Duration,
    pub working_directory: Option<PathBuf>,
    pub timer_resolution: Duration,
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
        on("daemon", MAIN, 1..=1, |p, a| a.set(&mut p.daemon)),
        on("master_process", MAIN, 1..=1, |p, a| a.set(&mut p.master_process)),
        on("pid", MAIN, 1..=1, |p, a| a.set(&mut p.pid)),
        on("user", MAIN, 1..=2, |p, a| {
            let group = a.get(1).map(|group| text(group).into_owned());
            p.user = Some((text(a.word(0)).into_owned(), group));
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
        on("worker_rlimit_nofile", MAIN, 1..=1, |p, a| a.set(&mut p.checked)),
        on("worker_priority", MAIN, 1..=1, |_, a| priority(a)),
        on("worker_cpu_affinity", MAIN, 1..=255, |_, _| Ok(())),
        on("pcre_jit", MAIN, 1..=1, |_, a| a.set(&mut false)),
        on("lock_file", MAIN, 1..=1, |_, a| a.set(&mut PathBuf::new())),
        many("env", MAIN, 1..=1, |_, _| Ok(())),
        on("worker_connections", EVENTS, 1..=1, |p, a| a.set(&mut p.worker_connections)),
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
        on("debug_points", MAIN, 1..=1, |_, a| {
            one_of(a.word(0), &[("stop", ()), ("abort", ())]).map_err(|problem| problem.at(0))
        }),
    ];

    fn seal((): (), _: &Process, _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }
}

fn priority(args: &mut Args<'_>) -> Result<(), Problem> {
    let digits = args.word(0).strip_prefix(b"-").unwrap_or(args.word(0));
    units::number(digits).map(drop).ok_or_else(|| Problem::tail("invalid value").at(0))
}

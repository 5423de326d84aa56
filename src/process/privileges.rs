//! What a worker may do: its user, its limits, and what it gives up for good.
//!
//! <https://nginx.org/en/docs/ngx_core_module.html#user>, prctl(2), capabilities(7), landlock(7).
#![allow(unsafe_code, reason = "setpriority has no safe form")]

use std::ffi::CString;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    Scope,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User};

use crate::modules::process::Process;
use crate::net::Level;
use crate::table::Table;

/// Who a worker is, where the master is root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: CString,
    /// Its user.
    pub user: Uid,
    /// Its group.
    pub group: Gid,
}

impl Identity {
    /// The identity that `user` names, or nginx's default; none where this process has no identity to give up.
    /// The error is nginx's sentence.
    pub fn of(process: &Process) -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let (name, groups) = match &process.user {
            Some(user) => (user.name.as_str(), vec![user.group.as_deref().unwrap_or(&user.name)]),
            None => ("nobody", vec!["nobody", "nogroup"]),
        };
        let user = User::from_name(name).ok().flatten();
        let user = user.ok_or_else(|| anyhow!("getpwnam(\"{name}\") failed"))?;
        let group = groups.iter().find_map(|group| Group::from_name(group).ok().flatten());
        let group = group.ok_or_else(|| anyhow!("getgrnam(\"{}\") failed", groups.concat()))?;
        Ok(Some(Self { name: CString::new(name)?, user: user.uid, group: group.gid }))
    }
}

/// Makes this process what a worker shall be. Comes before any thread starts: threads inherit it.
pub fn give_up(table: &Table, threads: usize) -> Result<()> {
    let (process, log) = (&table.process, &table.error_log);
    let complain = |what: String| log.write(Level::Alert, None, &what);
    if process.worker_priority != 0 {
        // SAFETY: plain numbers go in and out.
        let set = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, process.worker_priority) };
        if set == -1 {
            complain(format!("setpriority({}) failed ({})", process.worker_priority, last_error()));
        }
    }
    open_files(table, threads);
    if let Some(limit) = process.worker_rlimit_core
        && let Err(error) = setrlimit(Resource::RLIMIT_CORE, limit, limit)
    {
        complain(format!("setrlimit(RLIMIT_CORE, {limit}) failed ({}: {})", error as i32, error.desc()));
    }
    if let Some(identity) = Identity::of(process)? {
        become_user(&identity, table.transparent)?;
    }
    if process.worker_rlimit_core.is_some_and(|limit| limit > 0) {
        prctl::set_dumpable(true).context("prctl(PR_SET_DUMPABLE) failed")?;
    }
    if let Some(directory) = &process.working_directory {
        nix::unistd::chdir(directory).map_err(|error| {
            anyhow!("chdir(\"{}\") failed ({}: {})", directory.display(), error as i32, error.desc())
        })?;
    }
    if process.worker_hardening {
        harden().unwrap_or_else(|error| complain(format!("hardening the worker failed ({error:#})")));
    }
    Ok(())
}

/// Lets the worker open as many files as nginx's worker processes may together: the limit of one counts for a thread.
pub fn open_files(table: &Table, threads: usize) {
    static INHERITED: OnceLock<u64> = OnceLock::new();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let each = table.process.worker_rlimit_nofile.unwrap_or(*INHERITED.get_or_init(|| soft));
    let all = each.saturating_mul(threads as u64);
    let set = |limit: u64| setrlimit(Resource::RLIMIT_NOFILE, limit, hard.max(limit));
    let Err(error) = set(all) else { return };
    // More than the hard limit is for root to take.
    if set(all.min(hard)).is_err() || hard < each {
        let what = format!("setrlimit(RLIMIT_NOFILE, {each}) failed ({}: {})", error as i32, error.desc());
        table.error_log.write(Level::Alert, None, &what);
    }
}

/// Takes the identity on, with nothing left of root; but `transparent` needs the right to bind to foreign addresses.
fn become_user(identity: &Identity, transparent: bool) -> Result<()> {
    let Identity { name, user, group } = identity;
    nix::unistd::setgid(*group).with_context(|| format!("setgid({group}) failed"))?;
    nix::unistd::initgroups(name, *group)
        .with_context(|| format!("initgroups({}, {group}) failed", name.to_string_lossy()))?;
    if user.is_root() {
        return Ok(());
    }
    prctl::set_keepcaps(transparent).context("prctl(PR_SET_KEEPCAPS, 1) failed")?;
    nix::unistd::setuid(*user).with_context(|| format!("setuid({user}) failed"))?;
    if transparent {
        let kept = CapsHashSet::from([Capability::CAP_NET_RAW]);
        caps::set(None, CapSet::Effective, &kept).context("capset() failed")?;
        caps::set(None, CapSet::Permitted, &kept).context("capset() failed")?;
    }
    Ok(())
}

/// Gives up what no worker needs: new privileges, running programs, making devices, signals to others.
fn harden() -> Result<()> {
    prctl::set_no_new_privs().context("prctl(PR_SET_NO_NEW_PRIVS) failed")?;
    let denied = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo;
    // Moving a file to another directory is denied unless a rule allows it, which kernels before 5.19 have no means for.
    let moves = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer);
    let may_allow = moves.is_ok();
    // Kernels without landlock, or with an older one, do what they can.
    let rules = moves.unwrap_or_default().set_compatibility(CompatLevel::BestEffort);
    let rules = rules.handle_access(denied & AccessFs::from_all(ABI::V6))?.scope(Scope::Signal)?.create()?;
    let rules = match may_allow {
        true => rules.add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::Refer))?,
        false => rules,
    };
    rules.restrict_self()?;
    Ok(())
}

fn last_error() -> String {
    crate::conf::load::os_error(&std::io::Error::last_os_error())
}

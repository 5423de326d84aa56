//! What `ps` shows: `nginx: master process …`, `nginx: worker process`, as nginx's processes are called.
//!
//! A process's title is its first argument, so a process gets one by executing this program again under that name.
#![allow(unsafe_code, reason = "a running process can change its title only where the kernel keeps its arguments")]

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What a master's first argument begins with; the program's own follows.
const MASTER: &str = "nginx: master process ";
/// A worker's first argument.
const WORKER: &str = "nginx: worker process";
/// A worker that ends when its connections have.
const LEAVING: &str = "nginx: worker process is shutting down";

/// This very program, even where its file has been replaced.
const SELF: &str = "/proc/self/exe";

/// Whether this process was started as a worker.
pub fn is_worker() -> bool {
    std::env::args_os().next().is_some_and(|name| name == WORKER)
}

/// The name this program was called by.
pub fn program() -> OsString {
    let name = std::env::args_os().next().unwrap_or_default();
    let original = name.as_bytes().strip_prefix(MASTER.as_bytes()).map(<[u8]>::to_vec);
    original.map_or(name, OsString::from_vec)
}

/// Starts again under a master's title; returns where that has happened or cannot.
pub fn become_master() {
    let name = std::env::args_os().next().unwrap_or_default();
    if name.as_bytes().starts_with(MASTER.as_bytes()) {
        return;
    }
    // A master needs little memory; pages of 2 MB would round it up to several of them.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let title = [MASTER.as_bytes(), name.as_bytes()].concat();
    let _ = Command::new(SELF).arg0(OsString::from_vec(title)).args(std::env::args_os().skip(1)).exec();
}

/// The command that starts a worker: no arguments but room for a longer title.
pub fn worker() -> Command {
    let mut command = Command::new(SELF);
    command.arg0(WORKER).args(std::iter::repeat_n("", LEAVING.len() - WORKER.len()));
    command
}

/// Gives the process the short name by which start-stop-daemon(8) knows it: the one it was called by.
pub fn name_master() {
    name(Path::new(&program()).file_name().unwrap_or_default().as_bytes());
}

/// Gives a worker's process and its threads the master's name.
pub fn name_worker() {
    let name_of_parent = std::fs::read(format!("/proc/{}/comm", nix::unistd::getppid()));
    name(name_of_parent.unwrap_or_default().trim_ascii());
}

fn name(name: &[u8]) {
    if let Ok(name) = CString::new(name) {
        // A name is a courtesy.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Says in a worker's title that it is shutting down.
pub fn leave() {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields are counted behind the name, which may hold anything: 48 and 49 are where the arguments begin and end.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut places = fields.split_whitespace().skip(45).map_while(|field| field.parse::<usize>().ok());
    let (Some(start), Some(end)) = (places.next(), places.next()) else { return };
    if end.saturating_sub(start) > LEAVING.len() {
        // SAFETY: the kernel says that this process's arguments lie there, longer than what is written, and nothing
        // else reads or writes them: a worker looks at its arguments only when it begins.
        unsafe { std::ptr::copy_nonoverlapping(LEAVING.as_ptr(), start as *mut u8, LEAVING.len()) };
    }
}

//! Master and worker: rights, death and replacement, upgrades, what systemd hands over, Debian's service.
//!
//! <https://nginx.org/en/docs/control.html>. What needs root or a mount namespace says when it is left out.
#![cfg(test)]

mod kit;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kit::http::{Connection, get};
use kit::process::{Running, TempDir, free_port, until, wait_for_port};
use kit::server::nginx_rs;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

const SOON: Duration = Duration::from_secs(10);

struct Instance {
    dir: TempDir,
    port: u16,
    running: Running,
}

impl Instance {
    /// Runs `directives`, in which `%%DIR%%` and `%%PORT%%` are filled in, as `prepare` wants it.
    fn start(name: &str, directives: &str, prepare: impl FnOnce(&mut Command, &TempDir)) -> Self {
        let (dir, port) = (TempDir::new(name), free_port());
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("a directory of ours");
        write(&dir, port, directives);
        let mut command = command(&dir, "daemon off;");
        prepare(&mut command, &dir);
        let mut running = Running::start(&mut command);
        assert!(wait_for_port(port, &mut running), "it listens: {}", log(&dir));
        let instance = Self { dir, port, running };
        // Who answers has given its rights up.
        assert!(get(instance.port, "/").is_ok(), "a worker: {}", log(&instance.dir));
        instance
    }

    fn text(&self, path: &str) -> String {
        get(self.port, path).map(|response| response.text()).unwrap_or_default()
    }

    fn worker(&self) -> Option<Pid> {
        children(self.running.pid()).into_iter().find(|pid| title(*pid).starts_with("nginx: worker process"))
    }
}

fn write(dir: &TempDir, port: u16, directives: &str) {
    let path = dir.path().display().to_string();
    let text = directives.replace("%%PORT%%", &port.to_string()).replace("%%DIR%%", &path);
    std::fs::write(dir.path().join("nginx.conf"), text).expect("a writable prefix");
}

fn command(dir: &TempDir, globals: &str) -> Command {
    let mut command = Command::new(nginx_rs());
    command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "error.log", "-g"]);
    command.arg(format!("{globals} pid {}/nginx.pid; error_log {0}/error.log notice;", dir.path().display()));
    command
}

fn log(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default()
}

fn children(parent: Pid) -> Vec<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// What `ps` shows of a process.
fn title(pid: Pid) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.trim_end_matches('\0').replace('\0', " ")
}

/// A line of `/proc/PID/status`.
fn status(pid: Pid, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root_or_skip(part: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        kit::say(&format!("SKIPPED {part}: it needs root"));
    }
    root
}

const PLAIN: &str = "events {} http { server { listen 127.0.0.1:%%PORT%%; access_log %%DIR%%/access.log; \
                     location / { return 200 \"$pid\"; } } }";

#[test]
fn processes_are_called_as_nginx_calls_them() {
    let server = Instance::start("titles", PLAIN, |_, _| {});
    let master = title(server.running.pid());
    assert!(master.starts_with(&format!("nginx: master process {} -p ", nginx_rs().display())), "{master}");
    let worker = server.worker().expect("a worker");
    assert_eq!(title(worker), "nginx: worker process");
    assert_eq!((status(server.running.pid(), "Name"), status(worker, "Name")), ("nginx-rs".into(), "nginx-rs".into()));
    assert_eq!(server.text("/"), worker.to_string());
    let mut busy = Connection::open(server.port).expect("a connection");
    busy.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n").expect("half a head");
    std::thread::sleep(Duration::from_millis(50));
    server.running.signal(Signal::SIGQUIT);
    let leaving = || (title(worker) == "nginx: worker process is shutting down").then_some(());
    assert!(until(SOON, leaving).is_some(), "{}", title(worker));
}

#[test]
fn the_worker_of_root_has_no_rights_and_needs_none() {
    if !root_or_skip("the worker's rights") {
        return;
    }
    let conf = "user www-data; worker_processes 2; worker_rlimit_nofile 1728; env GREETING=hello; events {} http { include secret.conf; \
                access_log %%DIR%%/access.log; server { listen 127.0.0.1:%%PORT%%; \
                location / { root %%DIR%%; } location /secret { return 200 $secret; } } }";
    let server = Instance::start("rights", conf, |_, dir| {
        let secret = dir.path().join("secret.conf");
        std::fs::write(&secret, "map 1 $secret { default kept; }").expect("a writable prefix");
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("a file of ours");
    });
    let worker = server.worker().expect("a worker");
    let user = User::from_name("www-data").expect("a user database").expect("Debian's user www-data");
    let ids = |id: u32| [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join(" ");
    assert_eq!(status(worker, "Uid"), ids(user.uid.as_raw()));
    assert_eq!(status(worker, "Gid"), ids(user.gid.as_raw()));
    assert_eq!(status(worker, "Groups"), user.gid.to_string());
    assert_eq!(status(worker, "NoNewPrivs"), "1");
    assert_eq!(status(worker, "CapEff"), "0000000000000000");
    assert_eq!(status(worker, "CapPrm"), "0000000000000000");
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap_or_default();
    assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains("3456")), "{limits}");
    let environ = std::fs::read_to_string(format!("/proc/{worker}/environ")).unwrap_or_default();
    assert_eq!(
        environ.split('\0').filter(|one| !one.is_empty() && !one.starts_with("TZ=")).collect::<Vec<_>>(),
        ["GREETING=hello"]
    );
    assert_eq!(server.text("/secret"), "kept");
    let own = server.dir.path().join("own.html");
    std::fs::write(&own, "x").expect("a writable prefix");
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o600)).expect("a file of ours");
    assert_eq!(get(server.port, "/own.html").expect("an answer").status, 403, "root's files are not the worker's");

    write(&server.dir, server.port, &conf.replace("$secret;", "\"new $secret\";"));
    server.running.signal(Signal::SIGHUP);
    assert!(until(SOON, || (server.text("/secret") == "new kept").then_some(())).is_some(), "{}", log(&server.dir));
    assert_eq!(server.worker(), Some(worker), "the worker stays");

    let access = server.dir.path().join("access.log");
    std::fs::rename(&access, server.dir.path().join("access.log.1")).expect("a rename");
    server.running.signal(Signal::SIGUSR1);
    let owner = || std::fs::metadata(&access).ok().filter(|found| found.uid() == user.uid.as_raw());
    assert!(until(SOON, owner).is_some(), "the new log belongs to the worker's user");
    let logged = || {
        server.text("/after");
        std::fs::read_to_string(&access).ok().filter(|text| text.contains("GET /after ")).map(drop)
    };
    assert!(until(SOON, logged).is_some(), "the new log is written");
}

#[test]
fn another_user_needs_another_worker() {
    if !root_or_skip("another user") {
        return;
    }
    let server = Instance::start("users", &format!("user www-data; {PLAIN}"), |_, _| {});
    let old = server.worker().expect("a worker");
    write(&server.dir, server.port, &format!("user nobody nogroup; {PLAIN}"));
    server.running.signal(Signal::SIGHUP);
    let new = || server.worker().filter(|new| *new != old && server.text("/") == new.to_string());
    let new = until(SOON, new).unwrap_or_else(|| panic!("another worker: {}", log(&server.dir)));
    let nobody = User::from_name("nobody").expect("a user database").expect("nobody");
    assert!(status(new, "Uid").starts_with(&nobody.uid.to_string()), "{}", status(new, "Uid"));
    assert!(until(SOON, || kill(old, None).is_err().then_some(())).is_some(), "the old worker ends");
}

#[test]
fn a_killed_worker_is_replaced_while_requests_come() {
    let server = Instance::start("kill", PLAIN, |_, _| {});
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, answered, port) = (Arc::clone(&over), Arc::clone(&answered), server.port);
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    if get(port, "/").is_ok_and(|response| response.status == 200) {
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        // A worker that dies young is not replaced at once.
        std::thread::sleep(Duration::from_millis(2200));
        let old = server.worker().expect("a worker");
        kill(old, Signal::SIGKILL).expect("a worker of ours");
        let killed = Instant::now();
        let other = || (server.text("/") != old.to_string() && server.worker().is_some()).then_some(());
        assert!(until(SOON, other).is_some(), "{}", log(&server.dir));
        longest = longest.max(killed.elapsed());
    }
    over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("a client"));
    assert!(answered.load(Ordering::SeqCst) > 100, "requests were answered");
    assert!(log(&server.dir).contains("exited on signal 9"), "{}", log(&server.dir));
    kit::say(&format!("a killed worker was replaced within {longest:?}"));
    assert!(longest < Duration::from_secs(2), "replaced within {longest:?}");
}

#[test]
fn a_new_program_takes_over_and_gives_back() {
    let server = Instance::start("upgrade", PLAIN, |_, _| {});
    let pid_file = server.dir.path().join("nginx.pid");
    let number = |path: &Path| Some(Pid::from_raw(std::fs::read_to_string(path).ok()?.trim().parse().ok()?));
    let old = server.running.pid();
    server.running.signal(Signal::SIGUSR2);
    let new = until(SOON, || number(&pid_file).filter(|new| *new != old));
    let new = new.unwrap_or_else(|| panic!("a new master: {}", log(&server.dir)));
    assert_eq!(number(&pid_file.with_extension("pid.oldbin")), Some(old));
    assert!(until(SOON, || children(new).first().copied()).is_some(), "the new master has a worker");
    assert!(!server.text("/").is_empty(), "it is served");
    kill(new, Signal::SIGTERM).expect("a process of ours");
    assert!(until(SOON, || (number(&pid_file) == Some(old)).then_some(())).is_some(), "the old one steps back");
    assert_eq!(server.text("/"), server.worker().expect("a worker").to_string());

    server.running.signal(Signal::SIGUSR2);
    let new = until(SOON, || number(&pid_file).filter(|new| *new != old)).expect("a new master");
    let worker = until(SOON, || children(new).first().copied()).expect("its worker");
    server.running.signal(Signal::SIGQUIT);
    assert!(until(SOON, || (server.text("/") == worker.to_string()).then_some(())).is_some(), "the new one serves");
    kill(new, Signal::SIGTERM).expect("a process of ours");
    assert!(until(SOON, || (!pid_file.exists()).then_some(())).is_some(), "it ends");
}

#[test]
fn it_takes_the_sockets_systemd_opened_and_says_when_it_is_ready() {
    let ear = TempDir::new("notify");
    let ear_path = ear.path().join("notify");
    let socket = UnixDatagram::bind(&ear_path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("a socket");
    std::fs::set_permissions(&ear_path, PermissionsExt::from_mode(0o666)).expect("a file of ours");
    let (dir, port) = (TempDir::new("activation"), free_port());
    write(&dir, port, PLAIN);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor of ours");
    // The shell knows its number, which the program keeps, and moves the socket to where systemd puts the first one.
    let own = command(&dir, "daemon off;");
    let mut shell = Command::new("sh");
    let fd = listener.as_raw_fd();
    shell.args(["-c", &format!("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&{fd}")]).arg(own.get_program());
    shell.args(own.get_args()).env("NOTIFY_SOCKET", &ear_path);
    let running = Running::start(&mut shell);
    let mut told = [0; 256];
    let n = socket.recv(&mut told).unwrap_or_else(|error| panic!("{error}: {}", log(&dir)));
    assert_eq!(&told[..n], b"READY=1");
    drop(listener);
    assert!(get(port, "/").is_ok_and(|response| response.status == 200), "{}", log(&dir));
    running.signal(Signal::SIGHUP);
    let n = socket.recv(&mut told).expect("a message");
    assert!(told[..n].starts_with(b"RELOADING=1\nMONOTONIC_USEC="), "{}", String::from_utf8_lossy(&told[..n]));
    let n = socket.recv(&mut told).expect("a message");
    assert_eq!(&told[..n], b"READY=1");
    running.signal(Signal::SIGTERM);
    let n = socket.recv(&mut told).expect("a message");
    assert_eq!(&told[..n], b"STOPPING=1");
}

#[test]
fn debians_service_runs_it() {
    let (Some(unit), true) = (service_or_skip(), root_or_skip("Debian's service")) else { return };
    let port = free_port();
    let script = kit::root().join("tests/kit/service.sh");
    let mut command = Command::new("unshare");
    command.arg("-m").arg("sh").arg(script).arg(nginx_rs()).arg(&unit).arg(port.to_string());
    let output = command.output().expect("unshare runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("no mount namespace") {
        return kit::say("SKIPPED Debian's service: no mount namespace can be made here");
    }
    assert!(output.status.success(), "{said}");
}

fn service_or_skip() -> Option<PathBuf> {
    let unit = PathBuf::from("/lib/systemd/system/nginx.service");
    if !unit.exists() {
        kit::say("SKIPPED Debian's service: no nginx.service; install the Debian package nginx-common");
        return None;
    }
    Some(unit)
}

#[test]
fn an_ordinary_user_runs_it() {
    let (dir, port) = (TempDir::new("ordinary"), free_port());
    write(&dir, port, &format!("user www-data; {PLAIN}"));
    let program = dir.path().join("nginx");
    std::fs::copy(nginx_rs(), &program).expect("a copy");
    let prepare = |command: &mut Command| {
        if Uid::effective().is_root() {
            let nobody = User::from_name("nobody").expect("a user database").expect("nobody");
            let (user, group) = (nobody.uid.as_raw(), nobody.gid.as_raw());
            chown(dir.path(), Some(user), Some(group)).expect("a directory of ours");
            command.uid(user).gid(group);
        }
    };
    let run = |extra: &[&str]| {
        let like = command(&dir, "");
        let mut command = Command::new(&program);
        command.args(like.get_args()).args(extra).current_dir("/");
        prepare(&mut command);
        command.output().expect("the program runs")
    };
    let started = run(&[]);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(started.status.success(), "{said}");
    let only = "nginx: [warn] the \"user\" directive makes sense only if the master process runs with super-user privileges, ignored in";
    assert!(said.starts_with(only), "{said}");
    let answer = get(port, "/").expect("an answer");
    assert_eq!(answer.status, 200);
    let pid = || std::fs::read_to_string(dir.path().join("nginx.pid")).ok();
    let master = Pid::from_raw(pid().expect("a pid file").trim().parse().expect("a number"));
    assert_eq!(answer.text(), children(master).first().expect("a worker").to_string());
    let mut conf = std::fs::OpenOptions::new().append(true).open(dir.path().join("nginx.conf")).expect("a file");
    conf.write_all(b"# changed\n").expect("a write");
    assert!(run(&["-s", "reload"]).status.success());
    std::fs::rename(dir.path().join("access.log"), dir.path().join("access.log.1")).expect("a rename");
    assert!(run(&["-s", "reopen"]).status.success());
    assert!(until(SOON, || dir.path().join("access.log").exists().then_some(())).is_some(), "{}", log(&dir));
    assert!(run(&["-s", "quit"]).status.success());
    assert!(until(SOON, || pid().is_none().then_some(())).is_some(), "it ends");
}

//! A site file served by nginx-rs as it is, or by nginx inside a small whole configuration.
//! The options are those of https://nginx.org/en/docs/switches.html

use super::process::{Running, wait_for_port};
use nix::sys::signal::Signal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test: `$NGINX_RS`, otherwise the one cargo built.
pub fn nginx_rs() -> PathBuf {
    std::env::var_os("NGINX_RS").map_or_else(|| env!("CARGO_BIN_EXE_nginx-rs").into(), PathBuf::from)
}

/// The program compared with: `$NGINX`, otherwise Debian's.
pub fn nginx() -> Option<PathBuf> {
    std::env::var_os("NGINX")
        .map(PathBuf::from)
        .or_else(|| super::program_or_skip("nginx", "nginx-light", "comparison with nginx"))
}

/// A server that listens.
pub struct Server {
    /// The port that was waited for.
    pub port: u16,
    running: Running,
}

impl Server {
    /// Runs `program` in the foreground on `site`, a bare site file that listens on `port`; `prefix` takes whatever
    /// the server writes. Panics with what the server said if it does not come up.
    pub fn start(program: &Path, site: &Path, prefix: &Path, port: u16) -> Self {
        let conf = if is_nginx_rs(program) { site.to_owned() } else { wrap(site, prefix) };
        let said = prefix.join("stderr.log");
        let stderr = File::create(&said).unwrap_or_else(|e| panic!("{}: {e}", said.display()));
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let mut command = Command::new(program);
        // nginx takes a variable of this name for sockets it inherits.
        command.env_remove("NGINX");
        command.arg("-p").arg(prefix).arg("-c").arg(conf).arg("-e").arg(prefix.join("start.log"));
        command.arg("-g").arg(format!("daemon off; pid {}; {user}", prefix.join("nginx.pid").display()));
        let mut running = Running::start(command.stderr(stderr));
        if !wait_for_port(port, &mut running) {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            panic!("{} does not listen on port {port}:\n{said}", program.display());
        }
        Self { port, running }
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Bytes of memory that it and the processes it started have for themselves.
    pub fn memory(&self) -> usize {
        let own = usize::try_from(self.running.pid().as_raw()).unwrap_or(0);
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let status = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("status")).ok();
        let field = |status: &str, name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let ours = |status: &String| field(status, "Pid:") == own || field(status, "PPid:") == own;
        numbers.filter_map(status).filter(ours).map(|status| field(&status, "RssAnon:") * 1024).sum()
    }

    /// Ends the server gracefully, so that its logs are complete; false if it had to be killed.
    pub fn quit(mut self) -> bool {
        self.running.signal(Signal::SIGQUIT);
        self.running.wait_end().is_some()
    }
}

/// What an nginx says of a directive of `site` that it was built without, or does not have yet.
pub fn lacks(program: &Path, site: &Path, prefix: &Path) -> Option<String> {
    if is_nginx_rs(program) {
        return None;
    }
    let mut command = Command::new(program);
    command.arg("-t").arg("-p").arg(prefix).arg("-c").arg(wrap(site, prefix)).arg("-e").arg(prefix.join("start.log"));
    let output = command.output().expect("nginx");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().find(|line| line.contains("unknown directive")).map(str::to_owned)
}

fn is_nginx_rs(program: &Path) -> bool {
    let version = Command::new(program).arg("-v").output();
    let version = version.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    [version.stdout, version.stderr].iter().any(|out| String::from_utf8_lossy(out).contains("nginx-rs"))
}

/// Writes the whole configuration that nginx needs around a bare site file.
fn wrap(site: &Path, prefix: &Path) -> PathBuf {
    let conf = prefix.join("nginx.conf");
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {}/{what};\n", prefix.display()))
        .concat();
    let types = std::fs::read_to_string("/etc/nginx/mime.types").unwrap_or_default();
    let text = format!("events {{}}\nhttp {{\n{temp}{types}\n    include {};\n}}\n", site.display());
    std::fs::write(&conf, text).unwrap_or_else(|e| panic!("{}: {e}", conf.display()));
    conf
}

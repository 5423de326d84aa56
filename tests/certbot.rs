//! certbot's nginx plugin with our program in nginx's place, against the ACME server pebble (RFC 8555):
//! <https://eff-certbot.readthedocs.io/en/stable/using.html#nginx>.
#![cfg(test)]

mod kit;

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kit::http::get;
use kit::process::{Running, TempDir, free_port, until, wait_for_port};
use kit::server::nginx_rs;
use kit::tls::{self, Secure};

/// The plugin and, with it, the same version of certbot.
const PLUGIN: &str = "certbot-nginx==5.8.0";
const NAME: &str = "site.test";

/// pebble, and the name server that tells it where every name lives: here.
struct Authority {
    port: u16,
    _pebble: Running,
    _names: Running,
}

impl Authority {
    /// Starts both in `dir`; what is to be certified is asked for on the port `http`.
    fn start(dir: &Path, http: u16) -> Option<Self> {
        let part = "the test of certbot";
        let pebble = kit::program_or_skip("pebble", "pebble", part)?;
        let names = kit::program_or_skip("pebble-challtestsrv", "pebble", part)?;
        let (port, management, dns) = (free_port(), free_port(), free_udp_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": "localhost.crt",
            "privateKey": "localhost.key",
            "httpPort": http,
            "tlsPort": free_port(),
        }});
        fs::write(dir.join("pebble.json"), config.to_string()).expect("a writable directory");
        tls::certificate(dir, "localhost");
        let dns = format!("127.0.0.1:{dns}");
        let mut command = command(&names, dir, "names.log");
        command.args(["-dns01", &dns, "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ""]);
        let names = Running::start(command.args(["-defaultIPv6", ""]));
        let mut command = self::command(&pebble, dir, "pebble.log");
        command.args(["-config", "pebble.json", "-dnsserver", &dns]);
        // Without these it waits before it looks, and now and then refuses, to see whether clients try again.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let mut pebble = Running::start(&mut command);
        assert!(wait_for_port(port, &mut pebble), "{}", read(&dir.join("pebble.log")));
        Some(Self { port, _pebble: pebble, _names: names })
    }
}

#[test]
fn a_certificate_is_obtained_installed_and_renewed() {
    let (dir, http, https) = (TempDir::new("certbot"), free_port(), free_port());
    if kit::program_or_skip("openssl", "openssl", "the test of certbot").is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI has openssl");
        return;
    }
    let (Some(authority), Some(certbot)) = (Authority::start(dir.path(), http), certbot()) else {
        assert!(std::env::var_os("CI").is_none(), "CI has pebble and certbot");
        return;
    };
    let mut server = serve(dir.path(), http);
    let run = |args: &str| {
        let mut command = Command::new(&certbot);
        command.args(args.split_whitespace()).arg("--non-interactive").current_dir(dir.path()).stdin(Stdio::null());
        for (option, name) in [("--config-dir", "letsencrypt"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
            command.arg(option).arg(dir.path().join(name));
        }
        let done = command.env("REQUESTS_CA_BUNDLE", dir.path().join("localhost.crt")).output().expect("certbot");
        let said = [done.stdout, done.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
        let log = || [said.clone(), read(&dir.path().join("error.log"))].join("\n");
        assert!(done.status.success(), "certbot {args}: {}", log());
        // It warns where it does not know what -V says.
        assert!(!said.contains("not officially supported"), "{said}");
    };
    let (program, root) = (nginx_rs(), dir.path().display());
    run(&format!(
        "run --nginx --nginx-ctl {} --nginx-server-root {root} --server https://localhost:{}/dir -d {NAME} \
         --http-01-port {http} --https-port {https} --agree-tos --register-unsafely-without-email",
        program.display(),
        authority.port,
    ));
    let shown = || {
        let mut client = Secure::open(https, NAME).expect("a handshake");
        assert_eq!(client.get(NAME, "/").expect("an answer").text(), "hello over https");
        client.certificate()
    };
    let key = dir.path().join("letsencrypt/live").join(NAME).join("privkey.pem");
    assert_eq!(fs::metadata(&key).expect("a key").mode() & 0o777, 0o600);
    let (first, mut kept) = (shown(), Secure::open(https, NAME).expect("a handshake"));

    run("renew --force-renewal --no-random-sleep-on-renew");
    let renewed = until(Duration::from_secs(10), || (shown() != first).then_some(()));
    assert!(renewed.is_some(), "{}", read(&dir.path().join("error.log")));
    assert_eq!(kept.get(NAME, "/").expect("a connection that lives on").text(), "hello over https");
    assert_eq!(get(http, "/").expect("an answer").text(), "hello over http");
    assert!(server.alive());
}

/// Runs the program on a whole configuration as Debian would have it, in `dir`; where it may, with a worker without rights.
fn serve(dir: &Path, http: u16) -> Running {
    let user = if nix::unistd::geteuid().is_root() { "user nobody nogroup;" } else { "" };
    let home = dir.display();
    let conf = format!(
        "{user} pid {home}/nginx.pid; error_log {home}/error.log info; events {{ }}
http {{
    access_log off;
    include {home}/sites/*;
}}
"
    );
    let site = format!(
        "server {{
    listen {http};
    server_name {NAME};
    location / {{ return 200 \"hello over $scheme\"; }}
}}
"
    );
    fs::create_dir(dir.join("sites")).expect("a directory");
    fs::write(dir.join("nginx.conf"), conf).expect("a writable directory");
    fs::write(dir.join("sites/site"), site).expect("a writable directory");
    let mut command = command(&nginx_rs(), dir, "server.log");
    command.arg("-c").arg(dir.join("nginx.conf")).args(["-g", "daemon off;"]);
    let mut running = Running::start(&mut command);
    assert!(wait_for_port(http, &mut running), "{}", read(&dir.join("server.log")));
    running
}

/// certbot in a virtual environment of its own, which is made once; nothing without Python.
fn certbot() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(format!("venv-{}", PLUGIN.replace('=', "")));
    let script = "set -e
        exec 9>\"$1.lock\"; flock 9; [ ! -e \"$1/.complete\" ] || exit 0
        python3 -m venv --clear \"$1\"
        \"$1/bin/pip\" install -q --disable-pip-version-check \"$2\" >&2
        touch \"$1/.complete\"";
    let made = Command::new("sh").args(["-c", script, "sh"]).arg(&venv).arg(PLUGIN).output().expect("a shell");
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        kit::say(&format!("SKIPPED the test of certbot: it needs python3-venv and {PLUGIN} of PyPI: {why}"));
        return None;
    }
    Some(venv.join("bin/certbot"))
}

/// A command in `dir` that writes what it says into `log` there.
fn command(program: &Path, dir: &Path, log: &str) -> Command {
    let log = File::create(dir.join(log)).expect("a log");
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    command
}

fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("an address").port()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

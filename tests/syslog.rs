//! Log lines at a syslog server, as RFC 3164 has them: <https://nginx.org/en/docs/syslog.html>
#![cfg(test)]

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

mod kit;

use kit::http::get;
use kit::process::{TempDir, free_port};
use kit::server::{self, Server};

const SITE: &str = r#"
error_log syslog:server=unix:%DIR%/log,facility=user,tag=errors,nohostname info;
log_format short "$uri $status";
server {
    listen %PORT%;
    root %DIR%;
    access_log syslog:server=127.0.0.1:%UDP%,severity=debug short;
}
"#;

#[test]
fn both_logs_reach_it() {
    let (dir, port) = (TempDir::new("syslog"), free_port());
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let unix = UnixDatagram::bind(dir.path().join("log")).expect("a socket");
    udp.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    unix.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let number = udp.local_addr().expect("an address").port().to_string();
    let text = SITE.replace("%DIR%", &dir.path().display().to_string()).replace("%PORT%", &port.to_string());
    let site = dir.path().join("site.conf");
    std::fs::write(&site, text.replace("%UDP%", &number)).expect("a writable file");
    let server = Server::start(&server::nginx_rs(), &site, dir.path(), port);
    assert_eq!(get(port, "/none").expect("an answer").status, 404);
    let mut buf = [0; 4096];
    let length = udp.recv(&mut buf).expect("a line of the access log");
    let line = String::from_utf8_lossy(&buf[..length]).into_owned();
    let host = nix::unistd::gethostname().expect("a name").to_string_lossy().to_lowercase();
    assert!(line.starts_with("<191>") && line.ends_with(&format!(" {host} nginx: /none 404")), "{line}");
    let mut found = String::new();
    while !found.contains("/none\" failed (2: No such file or directory), client: 127.0.0.1,") {
        let length = unix.recv(&mut buf).expect("a line of the error log");
        found = String::from_utf8_lossy(&buf[..length]).into_owned();
    }
    assert!(found.starts_with("<11>") && found.contains(" errors: ") && found.contains(" [error] "), "{found}");
    // Nobody waits for a server that is gone.
    drop((udp, unix));
    assert!((0..5).all(|_| get(port, "/none").is_ok_and(|response| response.status == 404)));
    assert!(server.quit());
}

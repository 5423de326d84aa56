//! fail2ban's own filters for nginx find our log lines: <https://github.com/fail2ban/fail2ban>, fail2ban-regex(1).
#![cfg(test)]

use std::fs;
use std::process::Command;

mod kit;

use kit::http::Connection;
use kit::process::{TempDir, free_port};
use kit::server::{self, Server};

const SITE: &str = r#"
limit_req_zone $binary_remote_addr zone=one:1m rate=1r/m;
error_log %DIR%/error.log;
access_log %DIR%/access.log;
server {
    listen %PORT%;
    server_name localhost;
    root %DIR%;
    location /closed { auth_basic closed; auth_basic_user_file %DIR%/users; }
    location /slow { limit_req zone=one; try_files /none =204; }
}
"#;

#[test]
fn filters_match() {
    let Some(tool) = kit::program_or_skip("fail2ban-regex", "fail2ban", "fail2ban's filters") else {
        assert!(std::env::var_os("CI").is_none(), "CI has fail2ban");
        return;
    };
    let (dir, port) = (TempDir::new("fail2ban"), free_port());
    let site = dir.path().join("site.conf");
    let text = SITE.replace("%DIR%", &dir.path().display().to_string()).replace("%PORT%", &port.to_string());
    fs::write(&site, text).expect("a writable file");
    fs::write(dir.path().join("users"), "known:{PLAIN}open\n").expect("a writable file");
    let server = Server::start(&server::nginx_rs(), &site, dir.path(), port);
    let ask = |head: &str| {
        let mut connection = Connection::open(port).expect("a connection");
        connection.send(head.as_bytes()).expect("a request");
        connection.read_response(false).expect("an answer").status
    };
    let get = |path: &str, more: &str| ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"));
    let referer = "Referer: http://localhost/\r\n";
    assert_eq!(get("/closed", "Authorization: Basic a25vd246c2h1dA==\r\n"), 401);
    assert_eq!(get("/closed", &format!("Authorization: Basic bm9ib2R5OnNodXQ=\r\n{referer}")), 401);
    assert_eq!([get("/slow", ""), get("/slow", ""), get("/slow", referer)], [204, 503, 503]);
    assert_eq!(get("/phpmyadmin/index.php", ""), 404);
    assert_eq!(ask("GET /bad HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    assert!(server.quit());
    for (log, filter, wanted) in [
        ("error.log", "nginx-http-auth", 2),
        ("error.log", "nginx-limit-req", 2),
        ("error.log", "nginx-botsearch", 1),
        ("access.log", "nginx-botsearch", 1),
    ] {
        let path = dir.path().join(log);
        let output = Command::new(&tool).arg(&path).arg(filter).output().expect("fail2ban-regex");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = fs::read_to_string(&path).expect("a log");
        assert!(said.contains(&format!(" {wanted} matched,")), "{filter} on {log}:\n{lines}\n{said}");
    }
}

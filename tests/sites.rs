//! Ten sites as Django projects have them, with their upstreams and files stubbed, served by nginx and by nginx-rs.
//!
//! A fixture of `fixtures/sites` is a site file, `----`, and requests: `HOST METHOD TARGET`, then `!Header: value`,
//! `@user:password` or a body. Every answer must be nginx's, byte for byte but for dates and versions.
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use kit::http::Connection;
use kit::process::{Running, TempDir, free_port, wait_for_port};
use kit::server;

#[test]
fn sites_are_served_as_nginx_serves_them() {
    let Some(nginx) = server::nginx() else { return };
    let mut failed = Vec::new();
    let (mut sites, mut requests) = (0, 0);
    let mut fixtures: Vec<PathBuf> = std::fs::read_dir(kit::root().join("fixtures/sites"))
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    fixtures.sort();
    for fixture in fixtures {
        let site = Site::new(&fixture);
        let (theirs, ours) = (site.serve(&nginx), site.serve(&server::nginx_rs()));
        sites += 1;
        requests += theirs.len();
        for (request, (theirs, ours)) in site.requests.iter().zip(theirs.iter().zip(&ours)) {
            if theirs != ours {
                failed.push(format!("{}: {request}\n--- nginx\n{theirs}\n--- nginx-rs\n{ours}", fixture.display()));
            }
        }
    }
    kit::say(&format!("{sites} sites, {requests} requests, {} differences", failed.len()));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

struct Site {
    dir: TempDir,
    conf: String,
    requests: Vec<String>,
    upstream: u16,
}

impl Site {
    /// Lays out its files and starts its upstreams.
    fn new(fixture: &Path) -> Self {
        let text = std::fs::read_to_string(fixture).expect("a readable fixture");
        let (conf, requests) = text.split_once("\n----\n").expect("requests after ----");
        let dir = TempDir::new("site");
        std::os::unix::fs::chown(dir.path(), None, None).expect("a directory of ours");
        files(dir.path());
        let http = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let upstream = http.local_addr().expect("an address").port();
        let unix = UnixListener::bind(dir.path().join("http.sock")).expect("a socket");
        let uwsgi = UnixListener::bind(dir.path().join("uwsgi.sock")).expect("a socket");
        thread::spawn(move || http.incoming().flatten().for_each(|stream| drop(thread::spawn(|| answer_http(stream)))));
        thread::spawn(move || unix.incoming().flatten().for_each(|stream| drop(thread::spawn(|| answer_http(stream)))));
        thread::spawn(move || {
            uwsgi.incoming().flatten().for_each(|stream| drop(thread::spawn(|| answer_uwsgi(stream))))
        });
        Self { dir, conf: conf.to_owned(), requests: requests.lines().map(str::to_owned).collect(), upstream }
    }

    /// What `program` answers to each request.
    fn serve(&self, program: &Path) -> Vec<String> {
        let (port, tls) = (free_port(), free_port());
        let path = self.dir.path().display().to_string();
        let values = [("DIR", path.clone()), ("PORT", port.to_string()), ("TLS", tls.to_string())];
        let fill = |text: &str, port: &str| {
            let text = text.replace("%%HTTP%%", &self.upstream.to_string()).replace("%%BIG%%", &"x".repeat(2000));
            values.iter().fold(text, |text, (name, value)| {
                let value = if *name == "PORT" { port } else { value };
                text.replace(&format!("%%{name}%%"), value)
            })
        };
        let types = std::fs::read_to_string("/etc/nginx/mime.types").unwrap_or_default();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {path}/{what};\n"))
            .concat();
        let site = fill(&self.conf, &format!("127.0.0.1:{port}"));
        let conf = self.dir.path().join("nginx.conf");
        let text =
            format!("events {{}}\nhttp {{\n{temp}{types}\naccess_log off; error_log {path}/error.log;\n{site}\n}}\n");
        std::fs::write(&conf, text).expect("a writable directory");
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let mut command = Command::new(program);
        command.env_remove("NGINX").arg("-p").arg(self.dir.path()).arg("-c").arg(&conf);
        command.arg("-e").arg(self.dir.path().join("start.log"));
        command.args(["-g", &format!("daemon off; pid {path}/pid; {user}")]);
        let mut running = Running::start(&mut command);
        assert!(wait_for_port(port, &mut running), "{} serves {}", program.display(), conf.display());
        self.requests.iter().map(|request| exchange(port, &fill(request, &port.to_string()))).collect()
    }
}

/// Sends a request of a fixture and shows the answer as both servers must give it.
fn exchange(port: u16, line: &str) -> String {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (host, method, target, extra) = (word(), word(), word(), word());
    let (header, body) = match extra.split_at_checked(1) {
        Some(("!", header)) => (format!("{header}\r\n"), ""),
        Some(("@", "staff:secret")) => ("Authorization: Basic c3RhZmY6c2VjcmV0\r\n".to_owned(), ""),
        Some(("@", _)) => ("Authorization: Basic c3RhZmY6d3Jvbmc=\r\n".to_owned(), ""),
        _ => (String::new(), extra),
    };
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{header}{length}\r\n{body}");
    let answer = Connection::open(port).and_then(|mut connection| {
        connection.send(request.as_bytes())?;
        connection.read_response(method == "HEAD")
    });
    match answer {
        Ok(mut answer) => {
            if answer.header("Content-Encoding") == Some("gzip") {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_end(&mut plain).expect("gzip");
                answer.body = plain;
            }
            mask(&format!("{answer}{}", answer.text()), port)
        }
        Err(error) => format!("no answer: {error:?}"),
    }
}

/// Hides what two runs or two versions have of their own.
fn mask(text: &str, port: u16) -> String {
    let text = text.replace(&port.to_string(), "PORT");
    let lines = text.lines().filter(|line| !line.starts_with("Date: "));
    let timed = |line: &str| line.starts_with("Expires: ") && !line.contains("1970") && !line.contains("2037");
    let mut out = String::new();
    for line in lines {
        let line = if timed(line) { "Expires: LATER" } else { line };
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("nginx/1.") {
            out.push_str(before);
            out.push_str("nginx/VERSION");
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        }
        out.push_str(&boundary(rest));
        out.push('\n');
    }
    out
}

/// The boundaries of multipart answers are numbers of twenty digits.
fn boundary(line: &str) -> String {
    let run = |at: usize| line[at..].chars().take_while(char::is_ascii_digit).count();
    let starts = line.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at);
    match starts.into_iter().find(|at| run(*at) == 20) {
        Some(at) => format!("{}BOUNDARY{}", &line[..at], &line[at + 20..]),
        None => line.to_owned(),
    }
}

fn files(dir: &Path) {
    let script = "function hello(name) { return 'hello ' + name; }\n".repeat(20);
    for (name, text) in [
        ("public/index.html", "<!doctype html><p>index</p>\n"),
        ("public/robots.txt", "User-agent: *\n"),
        ("public/static/app.js", &script),
        ("public/static/style.css", "p { color: red }\n"),
        ("public/media/photo.txt", "a photo\n"),
        ("public/errors/500.html", "something broke\n"),
        ("public/errors/404.html", "nothing here\n"),
        ("public/maintenance/shut.test.html", "back soon\n"),
        ("public/big.txt", &"0123456789abcdef\n".repeat(400)),
        ("public/.git/config", "secret\n"),
        ("public/.well-known/acme-challenge/token", "token.key\n"),
        ("users", "staff:{PLAIN}secret\n"),
    ] {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a writable directory");
        std::fs::write(path, text).expect("a writable directory");
    }
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=example.test", "-days", "2", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output();
    assert!(made.is_ok_and(|made| made.status.success()), "openssl makes a certificate");
}

/// Shows the request in the body of its answer, unless its path asks for something else.
fn answer_http(mut stream: impl Read + Write) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap_or_default().rsplit_once(' ').map_or("", |(line, _)| line).to_owned();
    let mut fields: Vec<&str> = lines.filter(|field| !field.to_ascii_lowercase().starts_with("connection:")).collect();
    fields.sort_unstable();
    let length =
        fields.iter().find_map(|field| field.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let target = line.split(' ').nth(1).unwrap_or_default();
    let shown = format!("{line}\n{}\n\n{}\n", fields.join("\n"), String::from_utf8_lossy(&body));
    // A client that has gone away is no matter of ours.
    let _ = stream.write_all(reply(target, &shown, line.starts_with("HEAD")).as_bytes());
}

/// The same for uwsgi: four bytes of head, then pairs of strings behind their lengths.
fn answer_uwsgi(mut stream: impl Read + Write) {
    let mut head = [0; 4];
    if stream.read_exact(&mut head).is_err() {
        return;
    }
    let mut vars = vec![0; usize::from(u16::from_le_bytes([head[1], head[2]]))];
    if stream.read_exact(&mut vars).is_err() {
        return;
    }
    let mut rest = vars.as_slice();
    let mut texts = Vec::new();
    while let [low, high, after @ ..] = rest {
        let (text, after) = after.split_at(usize::from(u16::from_le_bytes([*low, *high])));
        texts.push(String::from_utf8_lossy(text).into_owned());
        rest = after;
    }
    let mut pairs: Vec<String> = texts.chunks(2).map(|pair| pair.join("=")).collect();
    pairs.sort_unstable();
    let value = |name: &str| pairs.iter().find_map(|pair| pair.strip_prefix(name)).unwrap_or_default().to_owned();
    let mut body = vec![0; value("CONTENT_LENGTH=").parse().unwrap_or(0)];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let shown = format!("{:?}\n{}\n\n{}\n", &head[..1], pairs.join("\n"), String::from_utf8_lossy(&body));
    let _ = stream.write_all(reply(&value("REQUEST_URI="), &shown, false).as_bytes());
}

fn reply(target: &str, shown: &str, bodiless: bool) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (status, extra) = match (parts.next(), parts.next()) {
        (Some("status"), Some(status)) => (format!("{status} Stub"), "X-Who: stub\r\n".to_owned()),
        (Some("redirect"), Some(to)) => ("302 Found".to_owned(), format!("Location: /{to}?from=stub\r\n")),
        (Some("accel"), Some(file)) => ("200 OK".to_owned(), format!("X-Accel-Redirect: /protected/{file}\r\n")),
        (Some("cookie"), _) => ("200 OK".to_owned(), "Set-Cookie: a=1; Path=/; Domain=localhost\r\n".to_owned()),
        _ => ("200 OK".to_owned(), String::new()),
    };
    let body = if bodiless { "" } else { shown };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nX-Powered-By: stub\r\n{extra}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        shown.len()
    )
}

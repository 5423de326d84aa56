//! A real FastCGI application, PHP's, behind nginx-rs and behind nginx: both get the same out of it.
//!
//! <https://nginx.org/en/docs/http/ngx_http_fastcgi_module.html>
#![cfg(test)]

mod kit;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kit::http::Connection;
use kit::process::{Running, TempDir, free_port, until};
use kit::server::{self, Server};

const SCRIPT: &str = r#"<?php
$body = file_get_contents("php://input");
if (isset($_GET["log"])) error_log("PHP says " . $_GET["log"]);
if (isset($_GET["status"])) http_response_code((int) $_GET["status"]);
if (isset($_GET["to"])) header("Location: " . $_GET["to"]);
if (isset($_GET["accel"])) { header("X-Accel-Redirect: /inside/file"); exit; }
if (isset($_GET["big"])) { header("Content-Length: " . $_GET["big"]); echo str_repeat("0123456789", $_GET["big"] / 10); exit; }
if (isset($_GET["flush"])) { foreach (range(1, 5) as $n) { echo "piece $n\n"; ob_flush(); flush(); usleep(20000); } exit; }
if (isset($_GET["cookies"])) { setcookie("a", "1"); setcookie("b", "2"); }
$seen = array_diff_key($_SERVER, array_flip(["REQUEST_TIME", "REQUEST_TIME_FLOAT", "REMOTE_PORT", "SERVER_PORT", "SERVER_SOFTWARE"]));
ksort($seen);
header("Content-Type: application/json");
echo json_encode([$seen, $_GET, $_POST, strlen($body), sha1($body)], JSON_PRETTY_PRINT);
"#;

const SITE: &str = r#"server {
    listen 127.0.0.1:%%PORT%%; root %%DIR%%/www; access_log off; error_log %%LOGS%%/error.log;
    client_max_body_size 0; client_body_temp_path %%LOGS%%/body; fastcgi_temp_path %%LOGS%%/temp;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param PATH_INFO $fastcgi_path_info;
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param HTTPS $https if_not_empty;
    fastcgi_index index.php;
    fastcgi_split_path_info ^(.+\.php)(.*)$;
    location / { fastcgi_pass unix:%%DIR%%/php.sock; }
    location /kept/ { rewrite ^/kept(.*)$ $1 break; fastcgi_keep_conn on; fastcgi_pass unix:%%DIR%%/php.sock; }
    location /stream/ { rewrite ^/stream(.*)$ $1 break; fastcgi_buffering off; fastcgi_request_buffering off;
        fastcgi_pass unix:%%DIR%%/php.sock; }
    location /caught/ { rewrite ^/caught(.*)$ $1 break; fastcgi_catch_stderr "PHP says caught"; fastcgi_pass unix:%%DIR%%/php.sock; }
    location /pages/ { rewrite ^/pages(.*)$ $1 break; fastcgi_intercept_errors on; error_page 404 500 =503 /inside/file;
        fastcgi_pass unix:%%DIR%%/php.sock; }
    location /inside/ { internal; alias %%DIR%%/; }
}
"#;

/// Paths that are asked for below each of the locations.
const PATHS: [&str; 12] = [
    "/",
    "/index.php?a=1&b[]=2",
    "/index.php/more/of%20it?x",
    "/missing.php",
    "/?status=404",
    "/?status=500&log=hello",
    "/?status=204",
    "/?log=caught",
    "/?to=/elsewhere",
    "/?big=3000000",
    "/?flush",
    "/?accel&cookies",
];

/// PHP's process manager with its socket in `dir`; nothing where it is not installed.
fn php(dir: &Path) -> Option<Running> {
    let known = ["php-fpm8.2", "php-fpm8.3", "php-fpm8.4"].into_iter().find_map(kit::program);
    let program = known.or_else(|| kit::program_or_skip("php-fpm", "php-fpm", "FastCGI with PHP"))?;
    let conf = dir.join("fpm.conf");
    let place = dir.display();
    let text = format!(
        "[global]\nerror_log = {place}/fpm.log\n[www]\nlisten = {place}/php.sock\nlisten.mode = 0666\npm = static\n\
         pm.max_children = 3\n"
    );
    fs::write(&conf, text).expect("a file");
    let mut command = Command::new(program);
    command.args(["-n", "-F", "-y"]).arg(&conf).stderr(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        command.arg("-R");
        let text = fs::read_to_string(&conf).expect("a file");
        fs::write(&conf, text + "user = root\n").expect("a file");
    }
    let running = Running::start(&mut command);
    until(Duration::from_secs(20), || dir.join("php.sock").exists().then_some(())).expect("PHP listens");
    Some(running)
}

/// What `program` answers to everything, and what it logs.
fn answers(dir: &TempDir, program: &Path, name: &str) -> Vec<(String, String)> {
    let (logs, port) = (dir.dir(name), free_port());
    let (site, template) = (logs.join("site.conf"), logs.join("template"));
    fs::write(&template, SITE).expect("a file");
    let (place, at) = (dir.path().display().to_string(), port.to_string());
    kit::fill(&template, &site, &[("PORT", &at), ("DIR", &place), ("LOGS", &logs.display().to_string())]);
    let server = Server::start(program, &site, &logs, port);
    let mut all = Vec::new();
    for place in ["", "/kept", "/stream", "/caught", "/pages"] {
        for path in PATHS {
            all.push(ask(
                port,
                &format!("GET {place}{path} HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\nConnection: close\r\n\r\n"),
            ));
        }
        for len in [0, 5, 100_000, 3_000_000] {
            let body = "a=b&".repeat(len / 4 + 1);
            let body = &body[..len];
            all.push(ask(
                port,
                &format!(
                    "POST {place}/?post HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                     Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
                ),
            ));
        }
    }
    assert!(server.quit());
    let log = fs::read_to_string(logs.join("error.log")).unwrap_or_default();
    let mut said: Vec<&str> = log.split("PHP message: ").skip(1).filter_map(|line| line.split('"').next()).collect();
    said.sort_unstable();
    all.push(("the error log".to_owned(), said.join("\n")));
    all
}

/// The request's line, and what came back but for dates and the server's name.
fn ask(port: u16, request: &str) -> (String, String) {
    let mut connection = Connection::open(port).expect("a connection");
    connection.send(request.as_bytes()).expect("a request");
    let line = request.lines().next().unwrap_or_default().to_owned();
    let Ok(mut answer) = connection.read_response(false) else { return (line, "nothing".to_owned()) };
    answer.headers.retain(|(name, _)| !matches!(&**name, "Date" | "Server" | "Last-Modified" | "ETag"));
    let body = answer.text();
    let page = body.contains("<center>nginx");
    let body = if page { "page".to_owned() } else { body };
    answer.headers.retain(|(name, _)| !page || name != "Content-Length");
    (line, format!("{answer}{body}"))
}

#[test]
fn php_answers_as_it_does_behind_nginx() {
    let dir = TempDir::new("php");
    fs::write(dir.dir("www").join("index.php"), SCRIPT).expect("a file");
    fs::write(dir.path().join("file"), "a file from inside").expect("a file");
    let Some(_php) = php(dir.path()) else { return };
    let ours = answers(&dir, &server::nginx_rs(), "ours");
    let good = ours.iter().filter(|(_, answer)| answer.starts_with("HTTP/1.1 200"));
    assert!(good.count() > ours.len() / 2, "{ours:#?}");
    assert!(ours.last().is_some_and(|(_, log)| log.contains("PHP says hello")), "{:?}", ours.last());
    let Some(nginx) = server::nginx() else { return };
    let theirs = answers(&dir, &nginx, "theirs");
    let mut wrong = String::new();
    for ((line, ours), (_, theirs)) in ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs) {
        let cut = |text: &str| text.chars().take(1500).collect::<String>();
        wrong += &format!("{line}\n--- nginx\n{}\n--- nginx-rs\n{}\n", cut(theirs), cut(ours));
    }
    assert!(wrong.is_empty(), "{wrong}");
    kit::say(&format!("PHP: {} answers, none differs", ours.len()));
}

//! TLS with real clients: openssl(1), curl(1) and rustls
//! (<https://nginx.org/en/docs/http/ngx_http_ssl_module.html>, RFC 8446).
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kit::http::get;
use kit::process::{Running, TempDir, free_port, until, wait_for_port};
use kit::server::nginx_rs;
use nix::sys::signal::Signal;

struct Site {
    dir: TempDir,
    port: u16,
    running: Running,
}

impl Site {
    /// Serves `conf`, in which `%%PORT%%` and `%%PLAIN%%` are filled in, with the certificates a test made in `dir`.
    fn start(dir: TempDir, conf: &str) -> Self {
        let (port, plain) = (free_port(), free_port());
        let conf = conf.replace("%%PORT%%", &port.to_string()).replace("%%PLAIN%%", &plain.to_string());
        // Tests that have a plain server as well ask that one.
        let port = if conf.contains(&format!("listen {plain};")) { plain } else { port };
        std::fs::write(dir.path().join("site.conf"), conf).expect("a writable directory");
        dir.dir("logs");
        let mut command = Command::new(nginx_rs());
        command.arg("-p").arg(dir.path()).args(["-c", "site.conf", "-e", "error.log", "-g"]);
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let files = dir.path().display();
        command.arg(format!("daemon off; {user} pid {files}/nginx.pid; error_log {files}/error.log info;"));
        let mut running = Running::start(&mut command);
        assert!(wait_for_port(port, &mut running), "it listens: {}", log(&dir));
        Self { dir, port, running }
    }

    fn curl(&self, args: &[&str], port: u16, path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["-sk", "-m", "20"]).args(args).arg(format!("https://localhost:{port}{path}"));
        command.current_dir(self.dir.path());
        String::from_utf8_lossy(&command.output().expect("curl").stdout).into_owned()
    }

    fn log(&self) -> String {
        log(&self.dir)
    }
}

fn log(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default()
}

fn tools() -> bool {
    let has = |name, package| kit::program_or_skip(name, package, "tests of TLS").is_some();
    has("openssl", "openssl") && has("curl", "curl")
}

fn openssl(dir: &Path, args: &str) -> Output {
    let mut command = Command::new("openssl");
    command.args(args.split_whitespace()).current_dir(dir).stdin(Stdio::null()).output().expect("openssl")
}

/// A self-signed certificate `name.crt` with its key.
fn certificate(dir: &TempDir, name: &str) {
    kit::tls::certificate(dir.path(), name);
}

/// What `openssl s_client` says of a connection.
fn s_client(site: &Site, port: u16, args: &str) -> String {
    let done = openssl(site.dir.path(), &format!("s_client -connect localhost:{port} {args}"));
    [done.stdout, done.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat()
}

#[test]
fn the_name_of_the_handshake_chooses_the_server() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("sni");
    ["a", "b"].iter().for_each(|name| certificate(&dir, name));
    let site = Site::start(
        dir,
        "server { listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; return 200 default; }
         server { listen %%PORT%% ssl; server_name b; ssl_certificate b.crt; ssl_certificate_key b.key; return 200 b; }
         server { listen %%PORT%% ssl; server_name nobody; ssl_reject_handshake on; }",
    );
    let port = site.port;
    assert!(s_client(&site, port, "-noservername").contains("subject=CN = a"));
    assert!(s_client(&site, port, "-servername b").contains("subject=CN = b"));
    assert!(s_client(&site, port, "-servername elsewhere").contains("subject=CN = a"));
    assert!(s_client(&site, port, "-servername nobody").contains("unrecognized name"));
    assert_eq!(site.curl(&["--connect-to", "::localhost:", "-H", "Host: b"], port, "/"), "b");
    assert!(site.log().contains("SSL_do_handshake() failed (SSL: error:0A0000EA:SSL routines::callback failed)"));
}

#[test]
fn plain_requests_are_told_so() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("plain");
    certificate(&dir, "a");
    let site = Site::start(
        dir,
        "server { listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; return 200 $scheme$https; }",
    );
    let answer = get(site.port, "/").expect("an answer");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("The plain HTTP request was sent to HTTPS port"));
    assert_eq!(site.curl(&[], site.port, "/"), "httpson");
}

#[test]
fn clients_show_their_certificates() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("clients");
    ["a", "friend", "stranger"].iter().for_each(|name| certificate(&dir, name));
    let site = Site::start(
        dir,
        "ssl_certificate a.crt; ssl_certificate_key a.key; ssl_client_certificate friend.crt;
         server { listen %%PORT%% ssl; ssl_verify_client on; return 200 $ssl_client_verify:$ssl_client_s_dn; }",
    );
    let curl = |name: &str| {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        site.curl(&["--cert", &cert, "--key", &key], site.port, "/")
    };
    assert!(site.curl(&[], site.port, "/").contains("No required SSL certificate was sent"));
    assert!(curl("stranger").contains("The SSL certificate error"));
    assert_eq!(curl("friend"), "SUCCESS:CN=friend");
    assert!(site.log().contains("client SSL certificate verify error: (18:self-signed certificate)"));
}

#[test]
fn sessions_and_keys_go_through_a_reload() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("reload");
    certificate(&dir, "a");
    let site = Site::start(
        dir,
        "ssl_session_cache shared:S:1m;
         server { listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; return 200 ok; }",
    );
    let port = site.port;
    for (kind, flags) in [("ticket", "-tls1_2"), ("number", "-tls1_2 -no_ticket")] {
        assert!(s_client(&site, port, &format!("{flags} -sess_out {kind}")).contains("New, TLSv1.2"));
        assert!(s_client(&site, port, &format!("{flags} -sess_in {kind}")).contains("Reused, TLSv1.2"), "{kind}");
    }
    let same = s_client(&site, port, "-noservername");
    site.running.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    for (kind, flags) in [("ticket", "-tls1_2"), ("number", "-tls1_2 -no_ticket")] {
        assert!(s_client(&site, port, &format!("{flags} -sess_in {kind}")).contains("Reused, TLSv1.2"), "{kind}");
    }
    certificate(&site.dir, "a");
    site.running.signal(Signal::SIGHUP);
    let body = |text: &str| text.split("-----BEGIN").nth(1).unwrap_or_default().to_owned();
    let renewed = || (body(&s_client(&site, port, "-noservername")) != body(&same)).then_some(());
    assert!(until(Duration::from_secs(10), renewed).is_some(), "{}", site.log());
}

#[test]
fn keys_are_exchanged_so_that_quantum_computers_learn_nothing() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("hybrid");
    certificate(&dir, "a");
    let site = Site::start(
        dir,
        "server { listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; return 200 $ssl_curve; }",
    );
    let pem = std::fs::read(site.dir.path().join("a.crt")).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    for cert in nginx_rs::net::tls::key::certificates(&pem).expect("a certificate") {
        // A certificate that is no CA will not do as a root; then nothing is left to ask.
        let _ = roots.add(cert);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = "a".try_into().expect("a name");
    let mut conn = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut socket = TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
    let mut stream = rustls::Stream::new(&mut conn, &mut socket);
    // Whether the certificate pleases is not the question here: the group is agreed on before.
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let group = conn.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
}

#[test]
fn early_data_is_told_apart() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("early");
    certificate(&dir, "a");
    std::fs::write(dir.path().join("request"), "GET / HTTP/1.0\r\n\r\n").expect("a writable directory");
    let site = Site::start(
        dir,
        "server { listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; ssl_early_data on;
                  return 200 [$ssl_early_data$ssl_session_reused]; }",
    );
    let ask = |args: &str| {
        let command = format!("openssl s_client -connect localhost:{} -ign_eof {args}", site.port);
        let shell = Command::new("sh").args(["-c", &command]).current_dir(site.dir.path()).output().expect("a shell");
        String::from_utf8_lossy(&shell.stdout).into_owned()
    };
    assert!(ask("-sess_out session < request").contains("[.]"));
    let again = ask("-sess_in session -early_data request < /dev/null");
    assert!(again.contains("Early data was accepted") && again.contains("[1r]"), "{again}");
}

#[test]
fn large_bodies_come_and_go_whole() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("large");
    certificate(&dir, "a");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from((n * 7 + n / 251) % 256).unwrap_or(0)).collect();
    std::fs::write(dir.path().join("big"), &bytes).expect("a writable directory");
    let root = dir.path().display().to_string();
    let site = Site::start(
        dir,
        &format!(
            "server {{ listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; root {root};
             client_max_body_size 0; location /up {{ proxy_pass https://127.0.0.1:%%PORT%%/length; }}
             location /length {{ proxy_pass https://127.0.0.1:%%PORT%%/said; }}
             location /said {{ return 200 $content_length; }} location /down {{ proxy_pass https://127.0.0.1:%%PORT%%/big; }} }}"
        ),
    );
    for path in ["/big", "/down"] {
        site.curl(&["-o", "got"], site.port, path);
        assert!(std::fs::read(site.dir.path().join("got")).is_ok_and(|got| got == bytes), "{path}");
    }
    assert_eq!(site.curl(&["--data-binary", "@big"], site.port, "/up"), "3000000");
}

#[test]
fn upstream_servers_are_looked_at() {
    if !tools() {
        return;
    }
    let dir = TempDir::new("upstream");
    ["a", "other", "client"].iter().for_each(|name| certificate(&dir, name));
    let site = Site::start(
        dir,
        "server { listen %%PORT%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; ssl_verify_client optional_no_ca;
                  return 200 \"$ssl_server_name $ssl_client_s_dn\"; }
         server { listen %%PLAIN%%; proxy_ssl_name a;
            location /any { proxy_pass https://127.0.0.1:%%PORT%%; }
            location /right { proxy_pass https://127.0.0.1:%%PORT%%; proxy_ssl_verify on; proxy_ssl_trusted_certificate a.crt; }
            location /wrong { proxy_pass https://127.0.0.1:%%PORT%%; proxy_ssl_verify on; proxy_ssl_trusted_certificate other.crt; }
            location /name { proxy_pass https://127.0.0.1:%%PORT%%; proxy_ssl_verify on; proxy_ssl_trusted_certificate a.crt;
                             proxy_ssl_name b; }
            location /says { proxy_pass https://127.0.0.1:%%PORT%%; proxy_ssl_server_name on;
                             proxy_ssl_certificate client.crt; proxy_ssl_certificate_key client.key; } }",
    );
    let ask = |path| get(site.port, path).map(|answer| (answer.status, answer.text())).expect("an answer");
    assert_eq!(ask("/any"), (200, " ".to_owned()));
    assert_eq!(ask("/right").0, 200);
    assert_eq!(ask("/wrong").0, 502);
    assert_eq!(ask("/name").0, 502);
    assert_eq!(ask("/says"), (200, "a CN=client".to_owned()));
    let log = site.log();
    assert!(log.contains(
        "upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream"
    ));
    assert!(log.contains("upstream SSL certificate does not match \"b\" while SSL handshaking to upstream"));
}

//! Names of upstream servers that are looked up while the server runs, and clients that stay with their servers.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#resolve>
#![cfg(test)]

mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::dns::{Dns, Record};
use kit::http::{exchange, get};
use kit::process::{TempDir, free_port, until};
use kit::server::{Server, nginx_rs};

/// Servers on one port of several addresses of this machine, each answering with the last byte of its own. A request for
/// `/slow` is answered after a second.
struct Servers {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Servers {
    fn start(last_bytes: &[u8]) -> Self {
        let (port, connections) = (free_port(), Arc::new(AtomicUsize::new(0)));
        for &last in last_bytes {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).expect("a free port");
            let connections = Arc::clone(&connections);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    connections.fetch_add(1, Ordering::SeqCst);
                    thread::spawn(move || converse(stream, last));
                }
            });
        }
        Self { port, connections }
    }
}

fn converse(mut stream: TcpStream, last: u8) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..n]);
        if !bytes.ends_with(b"\r\n\r\n") {
            continue;
        }
        if bytes.starts_with(b"GET /slow") {
            thread::sleep(Duration::from_secs(1));
        }
        bytes.clear();
        let body = last.to_string();
        let head = format!("HTTP/1.1 200 OK\r\nSet-Cookie: sid={last}\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

/// nginx-rs with these lines in front of its `server`.
fn front(name: &str, lines: &str, location: &str) -> (TempDir, Server) {
    let (dir, port) = (TempDir::new(name), free_port());
    let site = dir.path().join("site.conf");
    let text = format!(
        "{lines}\nerror_log {}/error.log info;\nserver {{ listen 127.0.0.1:{port}; access_log off;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; location / {{ {location} }} }}\n",
        dir.path().display()
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    (dir, server)
}

fn ask(server: &Server) -> String {
    get(server.port, "/").expect("a response").text()
}

/// Asks until `wanted` comes.
fn wait_for(server: &Server, wanted: impl Fn(u16, &str) -> bool) {
    let begun = Instant::now();
    loop {
        let answer = get(server.port, "/").expect("a response");
        if wanted(answer.status, &answer.text()) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{} {}", answer.status, answer.text());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn addresses_come_and_go_and_nothing_else_is_lost() {
    let (dns, servers) = (Dns::start(), Servers::start(&[2, 3]));
    dns.addresses("app.example", &[2]);
    let lines = format!(
        "upstream app {{ zone app 64k; resolver 127.0.0.1:{} valid=1s; resolver_timeout 1s;\n\
         server app.example:{} resolve; }}",
        dns.port, servers.port
    );
    let (_dir, server) = front("come-and-go", &lines, "proxy_pass http://app;");
    wait_for(&server, |status, text| (status, text) == (200, "2"));
    let port = server.port;
    let slow = thread::spawn(move || get(port, "/slow").expect("a response").text());
    thread::sleep(Duration::from_millis(100));
    dns.addresses("app.example", &[2, 3]);
    wait_for(&server, |_, text| text == "3");
    assert_eq!(slow.join().expect("no panic"), "2");
    let opened = servers.connections.load(Ordering::SeqCst);
    let turns: String = (0..6).map(|_| ask(&server)).collect();
    assert!(turns == "232323" || turns == "323232", "{turns}");
    assert!(servers.connections.load(Ordering::SeqCst) <= opened + 2, "idle connections were lost");
    dns.addresses("app.example", &[3]);
    thread::sleep(Duration::from_secs(4));
    assert_eq!((0..4).map(|_| ask(&server)).collect::<String>(), "3333");
    dns.set("app.example", vec![Record::Failure]);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(ask(&server), "3");
    dns.addresses("app.example", &[]);
    wait_for(&server, |status, _| status == 502);
}

#[test]
fn services_have_priorities_ports_and_weights() {
    let (dns, servers) = (Dns::start(), Servers::start(&[2, 3, 4]));
    for last in [2, 3, 4] {
        dns.addresses(&format!("s{last}.example"), &[last]);
    }
    let port = servers.port;
    let record = |priority, weight, name| Record::Service(priority, weight, port, name);
    let all = vec![record(1, 2, "s2.example"), record(1, 1, "s3.example"), record(9, 1, "s4.example")];
    dns.set("_http._tcp.app.example", all);
    let lines = format!(
        "resolver 127.0.0.1:{} valid=1s; upstream app {{ zone app 64k; server app.example service=http resolve; }}",
        dns.port
    );
    let (_dir, server) = front("service", &lines, "proxy_pass http://app;");
    wait_for(&server, |status, _| status == 200);
    let mut turns: Vec<String> = (0..9).map(|_| ask(&server)).collect();
    turns.sort();
    assert_eq!(turns.concat(), "222222333");
    dns.set("_http._tcp.app.example", vec![record(1, 1, "gone.example"), record(9, 1, "s4.example")]);
    wait_for(&server, |_, text| text == "4");
}

#[test]
fn a_server_starts_without_its_upstream_and_finds_it_later() {
    let (dns, servers) = (Dns::start(), Servers::start(&[2]));
    let lines = format!("resolver 127.0.0.1:{} valid=1s; upstream_start_unresolved on;", dns.port);
    let (dir, server) =
        front("unresolved", &lines, &format!("proxy_pass http://later-nginx-rs.invalid:{};", servers.port));
    assert_eq!(get(server.port, "/").expect("a response").status, 502);
    let log = |name| std::fs::read_to_string(dir.path().join(name)).expect("a log");
    // It has looked, and says so, before there is anything to find.
    let looked = || log("start.log").contains("could not be resolved").then_some(());
    assert!(until(Duration::from_secs(10), looked).is_some(), "{}", log("start.log"));
    dns.addresses("later-nginx-rs.invalid", &[2]);
    wait_for(&server, |status, text| (status, text) == (200, "2"));
    assert!(log("stderr.log").contains("[warn] host not found in upstream \"later-nginx-rs.invalid\""));
    let own = log("start.log");
    assert!(own.contains("later-nginx-rs.invalid could not be resolved (3: Host not found)"), "{own}");
    assert!(log("error.log").contains("no live upstreams while connecting to upstream"));
    // What is known stays although the name is not found any more.
    dns.addresses("later-nginx-rs.invalid", &[]);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(ask(&server), "2");
}

#[test]
fn an_upstream_may_have_the_name_of_its_own_host() {
    let servers = Servers::start(&[1]);
    let lines = format!("upstream localhost {{ server localhost:{}; }}", servers.port);
    let (_dir, server) = front("own-host", &lines, "proxy_pass http://localhost;");
    assert_eq!(ask(&server), "1");
}

#[test]
fn clients_stay_with_their_servers() {
    let servers = Servers::start(&[2, 3]);
    let all = format!("server 127.0.0.2:{0} route=a; server 127.0.0.3:{0} route=b;", servers.port);
    let table = [
        ("cookie", "sticky cookie srv expires=max path=/;", "srv=b"),
        ("route", "sticky route $arg_r $cookie_r;", "r=b"),
        ("learn", "sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=s:64k;", "sid=3"),
    ];
    for (name, sticky, cookie) in table {
        let (_dir, server) = front(name, &format!("upstream app {{ {all} {sticky} }}"), "proxy_pass http://app;");
        let first = get(server.port, "/").expect("a response");
        assert_eq!(first.text(), "2", "{name}");
        if name == "cookie" {
            let lines: Vec<&str> = first.all("Set-Cookie").collect();
            let own = "srv=a; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000; path=/";
            assert_eq!(lines, [own, "sid=2"]);
        }
        assert_eq!(ask(&server), "3", "{name}");
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        for _ in 0..4 {
            assert_eq!(exchange(server.port, request.as_bytes()).expect("a response").text(), "3", "{name}");
        }
    }
}

#[test]
fn a_zone_of_sessions_that_is_full_forgets_the_oldest_and_says_so() {
    let servers = Servers::start(&[2]);
    let sticky = "sticky learn create=$arg_s lookup=$cookie_s zone=s:32k;";
    let lines = format!("upstream app {{ server 127.0.0.2:{}; {sticky} }}", servers.port);
    let (dir, server) = front("full", &lines, "proxy_pass http://app;");
    let full = "could not allocate node in sticky session zone \"s\", expiring least recently used session";
    let told = || std::fs::read_to_string(dir.path().join("error.log")).expect("a log").contains(full);
    // Five pages of 32 sessions each.
    for number in 0..=160 {
        assert!(!told(), "{number}");
        assert_eq!(get(server.port, &format!("/?s={number}")).expect("a response").text(), "2");
    }
    assert!(until(Duration::from_secs(5), || told().then_some(())).is_some());
}

#[test]
fn the_main_log_tells_what_is_wrong_with_a_name_server() {
    let (garbage, refuses) = (UdpSocket::bind("127.0.0.1:0").expect("a port"), free_port());
    let asked = garbage.local_addr().expect("an address").port();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = garbage.recv_from(&mut query) {
            // It sends the question back.
            let _ = garbage.send_to(&query[..length], from);
        }
    });
    let (dir, port) = (TempDir::new("main-log"), free_port());
    let site = dir.path().join("nginx.conf");
    let location = |name: &str, at: u16| {
        format!(
            "location /{name} {{ resolver 127.0.0.1:{at} ipv6=off; resolver_timeout 300ms; set $name {name}.test; \
             proxy_pass http://$name; }}"
        )
    };
    let text = format!(
        "events {{}} error_log {0}/main.log; http {{ server {{ listen 127.0.0.1:{port}; access_log off; \
         error_log {0}/own.log; {1} {2} }} }}",
        dir.path().display(),
        location("garbage", asked),
        location("refuses", refuses),
    );
    std::fs::write(&site, text).expect("a writable prefix");
    let server = Server::start(&nginx_rs(), &site, dir.path(), port);
    for path in ["/garbage", "/refuses"] {
        assert_eq!(get(server.port, path).expect("a response").status, 502);
    }
    server.quit();
    let log = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a log");
    let (main, own) = (log("main.log"), log("own.log"));
    assert!(main.contains(": invalid UDP DNS response ") && main.contains(" fl:0100\n"), "{main}");
    let refused = format!("recv() failed (111: Connection refused) while resolving, resolver: 127.0.0.1:{refuses}\n");
    assert!(main.contains(&refused), "{main}");
    assert!(
        !own.contains("DNS") && own.contains("garbage.test could not be resolved (110: Operation timed out)"),
        "{own}"
    );
}

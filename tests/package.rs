//! The Debian package, taking nginx's place, and the conventions of nginx's container image.
#![cfg(test)]

mod kit;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kit::http::get;
use kit::process::{Running, TempDir, free_port, wait_for_port};
use kit::server::nginx_rs;
use nix::sys::signal::Signal;

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_debian_package_takes_nginxs_place_and_gives_it_back() {
    if kit::program_or_skip("dpkg-deb", "dpkg", "the Debian package").is_none() {
        return;
    }
    let (dir, root) = (TempDir::new("deb"), TempDir::new("deb-root"));
    let built = run(Command::new("sh").arg(kit::root().join("docs/package/deb.sh")).arg(nginx_rs()).arg(dir.path()));
    let package = said(&built).trim().to_owned();
    assert!(built.status.success() && package.ends_with(".deb"), "{package}");
    assert!(run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root.path())).status.success());
    let at = |path: &str| root.path().join(path);
    for file in ["usr/sbin/nginx-rs", "usr/share/man/man8/nginx-rs.8.gz", "lib/systemd/system/nginx-rs.service"] {
        assert!(at(file).is_file(), "{file} is in the package");
    }
    for dir in ["updates", "info"] {
        root.dir(&format!("var/lib/dpkg/{dir}"));
    }
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/diversions"] {
        std::fs::write(at(file), "").expect("a writable root");
    }
    std::fs::write(at("usr/sbin/nginx"), "the old one").expect("a writable root");
    let takeover = |word: &str| {
        let mut command = Command::new("sh");
        command.arg(at("usr/sbin/nginx-rs-takeover")).arg(word).env("ROOT", root.path());
        let done = run(&mut command);
        assert!(done.status.success(), "{word}: {}", said(&done));
        said(&done)
    };
    assert!(takeover("status").contains("is not nginx-rs"));
    takeover("on");
    assert_eq!(std::fs::read_link(at("usr/sbin/nginx")).expect("a link"), Path::new("nginx-rs"));
    assert_eq!(std::fs::read_to_string(at("usr/sbin/nginx.nginx")).expect("the old one"), "the old one");
    assert!(at("etc/nginx/nginx.conf").is_file(), "a configuration where there was none");
    assert!(takeover("status").contains("nginx is nginx-rs"));
    takeover("off");
    assert_eq!(std::fs::read_to_string(at("usr/sbin/nginx")).expect("the old one"), "the old one");
    assert!(!at("etc/nginx").exists(), "nothing is left");
}

#[test]
fn in_a_container_it_logs_to_its_standard_output_and_stops_with_sigquit() {
    let (dir, port) = (TempDir::new("container"), free_port());
    symlink("/dev/stdout", dir.path().join("access.log")).expect("a link");
    symlink("/dev/stderr", dir.path().join("error.log")).expect("a link");
    let path = dir.path().display().to_string();
    let site = format!(
        "user root; pid {path}/pid; error_log {path}/error.log notice; events {{}} \
         http {{ access_log {path}/access.log; server {{ listen 127.0.0.1:{port}; root /nowhere; }} }}"
    );
    std::fs::write(dir.path().join("nginx.conf"), site).expect("a writable prefix");
    let mut command = Command::new(nginx_rs());
    command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-g", "daemon off;"]);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert!(wait_for_port(port, &mut running), "it listens");
    let (out, err) = (running.child().stdout.take().expect("a pipe"), running.child().stderr.take().expect("a pipe"));
    assert_eq!(get(port, "/hello").expect("an answer").status, 404);
    running.signal(Signal::SIGQUIT);
    assert_eq!(running.wait_end().and_then(|status| status.code()), Some(0));
    let lines = |pipe: &mut dyn BufRead| pipe.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    let out = lines(&mut BufReader::new(out));
    assert!(out.contains("\"GET /hello HTTP/1.1\" 404"), "{out}");
    let err = lines(&mut BufReader::new(err));
    assert!(err.contains("open() \"/nowhere/hello\" failed (2: No such file or directory)"), "{err}");
    assert!(err.contains("gracefully shutting down"), "{err}");
}

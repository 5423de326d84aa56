//! The command line: <https://nginx.org/en/docs/switches.html>, exit codes and words as nginx has them.
#![cfg(test)]

mod kit;

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use kit::process::TempDir;
use kit::server::nginx_rs;

fn run(args: &[&str]) -> Output {
    Command::new(nginx_rs()).args(args).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A prefix with a configuration in it.
fn prefix(name: &str, conf: &str) -> (TempDir, String) {
    let dir = TempDir::new(name);
    std::fs::write(dir.path().join("nginx.conf"), conf).expect("a writable prefix");
    let path = dir.path().display().to_string();
    (dir, path)
}

const GOOD: &str = "error_log stderr; events {} http { access_log off; include sites/*; server { listen 1; } }";

#[test]
fn versions_are_printed() {
    let plain = stderr(&run(&["-v"]));
    assert!(plain.starts_with("nginx version: nginx/1.31.5 (nginx-rs "), "{plain}");
    let build = stderr(&run(&["-V"]));
    assert!(build.contains("\nconfigure arguments: --prefix="), "{build}");
    assert!(build.contains("--without-http_ssi_module") && !build.contains("--without-http_map_module"), "{build}");
    let help = stderr(&run(&["-?"]));
    assert!(help.contains("Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]\n"), "{help}");
    assert_eq!(help, stderr(&run(&["-h"])));
}

#[test]
fn it_is_nginx_under_that_name() {
    let dir = TempDir::new("argv0");
    let name = dir.path().join("nginx");
    symlink(nginx_rs(), &name).expect("a link");
    let output = Command::new(&name).arg("-v").output().expect("the program runs");
    assert_eq!(stderr(&output), stderr(&run(&["-v"])));
}

#[test]
fn wrong_options_are_named() {
    let table = [
        (&["-x"][..], "nginx: invalid option: \"x\"\n"),
        (&["-c"], "nginx: option \"-c\" requires file name\n"),
        (&["-p"], "nginx: option \"-p\" requires directory name\n"),
        (&["-g"], "nginx: option \"-g\" requires parameter\n"),
        (&["-s", "hup"], "nginx: invalid option: \"-s hup\"\n"),
        (&["conf"], "nginx: invalid option: \"conf\"\n"),
    ];
    for (args, want) in table {
        let output = run(args);
        assert_eq!((stderr(&output).as_str(), output.status.code()), (want, Some(1)), "{args:?}");
    }
}

#[test]
fn a_good_configuration_passes() {
    let (_dir, path) = prefix("good", GOOD);
    let output = run(&["-t", "-p", &path, "-c", "nginx.conf"]);
    let want = format!(
        "nginx: the configuration file {path}/nginx.conf syntax is ok\n\
         nginx: configuration file {path}/nginx.conf test is successful\n"
    );
    assert_eq!((stderr(&output), output.status.code()), (want, Some(0)));
    let quiet = run(&["-tq", "-p", &path, "-c", "nginx.conf"]);
    assert_eq!((stderr(&quiet).as_str(), quiet.status.code()), ("", Some(0)));
}

#[test]
fn every_error_is_reported_and_the_first_in_nginx_words() {
    let conf = "events {}\nhttp {\n    sendfile maybe;\n    server { lisen 80; }\n    server { root a b; }\n}\n";
    let (_dir, path) = prefix("bad", conf);
    let output = run(&["-t", "-p", &path, "-c", "nginx.conf", "-e", "stderr"]);
    let text = stderr(&output);
    let first = format!(
        "nginx: [emerg] invalid value \"maybe\" in \"sendfile\" directive, it must be \"on\" or \"off\" in {path}/nginx.conf:3\n"
    );
    assert!(text.starts_with(&first), "{text}");
    assert!(text.contains("unknown directive \"lisen\"") && text.contains("did you mean \"listen\"?"), "{text}");
    assert!(text.contains("invalid number of arguments in \"root\" directive"), "{text}");
    assert!(text.contains("3 |     sendfile maybe;\n  |              ^^^^^\n"), "{text}");
    assert!(text.ends_with(&format!("nginx: configuration file {path}/nginx.conf test failed\n")), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_dump_holds_every_file() {
    let (dir, path) = prefix("dump", GOOD);
    std::fs::write(dir.dir("sites").join("b"), "server { listen 3; }").expect("a file");
    std::fs::write(dir.path().join("sites/a"), "server { listen 2; }").expect("a file");
    let output = run(&["-T", "-p", &path, "-c", "nginx.conf"]);
    let want = format!(
        "# configuration file {path}/nginx.conf:\n{GOOD}\n\
         # configuration file {path}/sites/a:\nserver {{ listen 2; }}\n\
         # configuration file {path}/sites/b:\nserver {{ listen 3; }}\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), want);
}

#[test]
fn a_bare_site_file_is_a_configuration() {
    let (_dir, path) = prefix("bare", "upstream app { server 127.0.0.1:1; }\nserver { listen 1; access_log off; }\n");
    assert_eq!(run(&["-t", "-q", "-p", &path, "-c", "nginx.conf", "-e", "stderr"]).status.code(), Some(0));
    let (_dir, path) = prefix("events", "events {}\nserver { listen 1; }\n");
    let output = run(&["-t", "-p", &path, "-c", "nginx.conf", "-e", "stderr"]);
    assert!(stderr(&output).contains("\"server\" directive is not allowed here"), "{}", stderr(&output));
}

#[test]
fn devices_and_pipes_are_not_read_without_end() {
    let (dir, path) = prefix("devices", "events {}\ninclude /dev/full;\n");
    let test = |conf: &str| run(&["-t", "-p", &path, "-c", conf, "-e", "stderr"]);
    assert_eq!(test("nginx.conf").status.code(), Some(0), "an empty file, as in nginx");
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for conf in ["/dev/full", "/dev/zero", "/dev/null", "fifo"] {
        let output = test(conf);
        let want = "nginx: [emerg] no \"events\" section in configuration\n";
        assert!(stderr(&output).starts_with(want), "{conf}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(1));
    }
    let certificate = "http { server { listen 1 ssl; ssl_certificate /dev/full; ssl_certificate_key /dev/full; } }";
    let pid = format!("pid {};", fifo.display());
    for (conf, want) in [(certificate, "cannot load certificate \"/dev/full\""), (pid.as_str(), "")] {
        std::fs::write(dir.path().join("nginx.conf"), format!("events {{}} {conf}")).expect("a file");
        let output = test("nginx.conf");
        assert!(stderr(&output).contains(want), "{}", stderr(&output));
        assert_eq!(output.status.code(), Some(i32::from(!want.is_empty())), "{}", stderr(&output));
    }
    let writer = fifo.clone();
    std::thread::spawn(move || std::fs::write(writer, "events {}"));
    let made = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        test("fifo").status.code() == Some(0)
    });
    assert!(made, "a pipe may hold a configuration");
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["-t", "-c", "/nowhere/nginx.conf", "-e", "stderr"]);
    let want = "nginx: [emerg] open() \"/nowhere/nginx.conf\" failed (2: No such file or directory)\n";
    assert!(stderr(&output).starts_with(want), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

//! A real Django deployment behind nginx-rs, compared request by request with nginx.
//! https://nginx.org/en/docs/http/ngx_http_proxy_module.html
//!
//! `NGINX_RS` and `NGINX` choose other binaries; `KEEP=1` keeps the working directory with the logs.

#[cfg(test)]
mod django {
    pub(crate) mod browser;
    pub(crate) mod cases;
    pub(crate) mod compare;
    pub(crate) mod demo;
    pub(crate) mod masks;
    pub(crate) mod requests;
    pub(crate) mod testssl;
    pub(crate) mod websocket;
}
#[cfg(test)]
mod kit;

use django::{browser, compare, demo::Demo, testssl, websocket};
use kit::{program_or_skip, say, server};

/// One test, because its parts share the servers of one Django.
#[test]
fn django_is_served_as_nginx_serves_it() {
    let Some(demo) = Demo::start() else {
        say("SKIPPED the Django test: no python3 with venv; install the Debian packages python3 and python3-venv");
        return;
    };
    let ours = server::nginx_rs();
    let theirs = server::nginx();

    let (ways, mut found) = (demo.ways(), Vec::new());
    for &way in &ways {
        let Some(theirs) = &theirs else { break };
        let expected = compare::run(&demo, theirs, "nginx", way);
        let differences = expected.differences(&compare::run(&demo, &ours, "nginx-rs", way));
        say(&format!("django over {}: {} requests, {} differences", way.socket, expected.len(), differences.len()));
        found.extend(differences);
    }

    demo.reset();
    for &way in ways.iter().filter(|way| way.socket == way.channels) {
        let server = demo.serve(&ours, &format!("websocket-{}", way.channels), way);
        let heard = websocket::talk(server.port).expect("a conversation through nginx-rs");
        if let Some(theirs) = &theirs {
            let reference = demo.serve(theirs, &format!("nginx-websocket-{}", way.channels), way);
            let expected = websocket::talk(reference.port).expect("a conversation through nginx");
            assert_eq!(heard, expected, "{}", way.channels);
        }
    }
    let way = *ways.first().expect("gunicorn");
    let server = demo.serve(&ours, "browser", way);
    let secure = demo.serve_securely(&ours, "secure", way);
    let look = program_or_skip("openssl", "openssl", "testssl.sh")
        .and_then(|_| program_or_skip("testssl", "testssl.sh", "testssl.sh"))
        .map(|testssl| testssl::start(secure.port, &testssl, &demo.logs("secure")));

    let part = "the browser test";
    if let Some(chromedriver) = program_or_skip("chromedriver", "chromium-driver", part)
        && let Some(chromium) = program_or_skip("chromium", "chromium", part)
    {
        browser::log_in("http", server.port, &chromedriver, &chromium);
        browser::log_in("https", secure.port, &chromedriver, &chromium);
    }
    if let Some(look) = look {
        let complaints = look.complaints();
        assert!(complaints.is_empty(), "testssl.sh: {complaints:#?}");
    }

    assert!(found.is_empty(), "nginx (-) and nginx-rs (+) differ in {} places:\n{}", found.len(), found.join("\n"));
}

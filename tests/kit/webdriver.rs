//! Headless Chromium through chromedriver (W3C WebDriver, https://www.w3.org/TR/webdriver2/, section 6: HTTP and JSON).

use super::http::Connection;
use super::process::{Running, TempDir, free_port, wait_for_port};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The key under which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const SWITCHES: [&str; 9] = [
    "--headless",
    // Certificates of tests are their own authorities.
    "--ignore-certificate-errors",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one window.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Running,
    _profile: TempDir,
}

impl Browser {
    /// Starts `chromium` with a fresh profile under `chromedriver`; panics with the driver's message on failure.
    pub fn start(chromedriver: &Path, chromium: &Path) -> Self {
        let port = free_port();
        let profile = TempDir::new("chromium");
        let mut command = Command::new(chromedriver);
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut driver = Running::start(&mut command);
        assert!(wait_for_port(port, &mut driver), "chromedriver does not listen");

        let data = format!("--user-data-dir={}", profile.path().display());
        let args: Vec<&str> = SWITCHES.into_iter().chain([data.as_str()]).collect();
        let options = json!({ "binary": chromium, "args": args });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let value = call(port, "POST", "/session", &wanted);
        let session = value["sessionId"].as_str().expect("a session").to_owned();
        Self { port, session, _driver: driver, _profile: profile }
    }

    /// Loads `url` and waits for its load event.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Types into the first element that matches the CSS `selector`.
    pub fn write(&self, selector: &str, text: &str) {
        let path = format!("/element/{}/value", self.element(selector));
        self.post(&path, &json!({ "text": text }));
    }

    /// Waits for the page of this title, which a click may have asked a busy application for; panics with what is there instead.
    pub fn wait_for_title(&self, title: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.run("return document.title") != title {
            let shown = || self.run("return document.title + '\\n' + document.body.innerText");
            assert!(Instant::now() < end, "no page \"{title}\", but {}", shown());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks the first element that matches.
    pub fn click(&self, selector: &str) {
        let path = format!("/element/{}/click", self.element(selector));
        self.post(&path, &json!({}));
    }

    /// Runs the body of a function; with `done` in it, one that ends by calling `done(value)`.
    pub fn run(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        let kind = if script.contains("done(") { "async" } else { "sync" };
        self.post(&format!("/execute/{kind}"), &json!({ "script": script, "args": [] }))
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        call(self.port, "POST", &format!("/session/{}{path}", self.session), body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Not `call`: a second panic while a failed test unwinds would abort.
        let _ = request(self.port, "DELETE", &format!("/session/{}", self.session), &Value::Null);
    }
}

fn call(port: u16, method: &str, path: &str, body: &Value) -> Value {
    match request(port, method, path, body) {
        Ok(answer) if answer["value"]["error"].is_null() => answer["value"].clone(),
        Ok(answer) => panic!("{method} {path}: {}", answer["value"]),
        Err(why) => panic!("{method} {path}: {why}"),
    }
}

fn request(port: u16, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = Connection::open(port)?;
    connection.send(head.as_bytes())?;
    connection.send(body.as_bytes())?;
    Ok(serde_json::from_slice(&connection.read_response(false)?.body)?)
}

//! The admin in headless Chromium (https://docs.djangoproject.com/en/5.2/ref/contrib/admin/).

use crate::kit::webdriver::Browser;
use std::path::Path;

/// Logs in to the admin on `port` over `scheme`, with styles and scripts at work, and talks over a WebSocket.
pub(crate) fn log_in(scheme: &str, port: u16, chromedriver: &Path, chromium: &Path) {
    let browser = Browser::start(chromedriver, chromium);
    let site = format!("{scheme}://127.0.0.1:{port}");

    browser.open(&format!("{site}/"));
    assert_eq!(browser.run("return getComputedStyle(document.body).color"), "rgb(34, 51, 68)", "our own style sheet");
    assert_eq!(browser.run("return document.documentElement.dataset.scripted"), "yes", "our own script");

    let spoken = browser.run("return performance.getEntriesByType('navigation')[0].nextHopProtocol");
    assert_eq!(spoken, if scheme == "https" { "h2" } else { "http/1.1" });

    browser.open(&format!("{site}/admin/"));
    browser.write("#id_username", "admin");
    browser.write("#id_password", "admin");
    browser.click("[type=submit]");
    browser.wait_for_title("Site administration | Django site admin");
    let header = "return getComputedStyle(document.querySelector('#header')).backgroundColor";
    assert_eq!(browser.run(header), "rgb(65, 118, 144)", "the admin's style sheet");
    let sheets = "return [...document.styleSheets].every(sheet => sheet.cssRules.length > 0)";
    assert_eq!(browser.run(sheets), true, "every style sheet of the admin");

    let echo = "const socket = new WebSocket(`${location.protocol.replace('http', 'ws')}//${location.host}/ws/echo/`); const heard = [];
        socket.onmessage = event => { heard.push(event.data); if (heard.length == 2) { socket.close(); done(heard); } };
        socket.onopen = () => socket.send('from Chromium'); socket.onerror = () => done('error');";
    let greeting = format!("hello 127.0.0.1:{port} 127.0.0.1");
    assert_eq!(browser.run(echo), serde_json::json!([greeting, "from Chromium"]));
}

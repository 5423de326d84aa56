//! The TLS handshake that stands before the first request of a connection
//! (<https://nginx.org/en/docs/http/configuring_https_servers.html>).

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::server::ClientHello;

use super::build;
use super::head::Head;
use crate::http::{Client, Scope, host};
use crate::modules::ssl;
use crate::net::stream::make_room;
use crate::net::timer::within;
use crate::net::tls::handshake::{self, Chosen, Failure};
use crate::net::tls::openssl;
use crate::net::{Level, clock};
use crate::table::{Listen, Server};

/// Bytes that are read before it is known what they are.
const FIRST: usize = 4096;

/// Shakes hands; nothing when the connection must end. A client that speaks plain HTTP is left to be told so.
pub async fn handshake(client: &Rc<Client>, listen: &Listen) -> Option<()> {
    let limit = listen.default.root.loc.core.server.client_header_timeout;
    let started = clock::instant();
    let shaking = async {
        if client.input.borrow().is_empty() {
            let mut input = std::mem::take(&mut *client.input.borrow_mut());
            make_room(&mut input, FIRST);
            let n = client.stream.read(&mut input, FIRST).await?;
            if n == 0 {
                log(client, listen, Level::Info, "client closed connection while SSL handshaking");
                return Err(Failure::Closed);
            }
            *client.input.borrow_mut() = input;
        }
        if !client.input.borrow().first().is_some_and(|first| handshake::begins(*first)) {
            return Ok(());
        }
        let first = std::mem::take(&mut *client.input.borrow_mut());
        let choose = async |hello: &ClientHello<'_>| choose(client, listen, hello, started);
        match handshake::accept(&client.stream, &first, choose).await {
            Ok(session) => {
                client.stream.secure(session);
                ask(client, listen, started).await;
                Ok(())
            }
            Err(failure) => {
                report(client, listen, &failure);
                Err(failure)
            }
        }
    };
    match within(limit, pin!(shaking)).await {
        Some(done) => done.ok(),
        None => {
            log(client, listen, Level::Info, "client timed out (110: Connection timed out) while SSL handshaking");
            None
        }
    }
}

/// The server that the client's name finds, or the default one.
fn choose(client: &Rc<Client>, listen: &Listen, hello: &ClientHello<'_>, started: Instant) -> Result<Chosen, Failure> {
    let (server, named) = server(listen, hello.server_name());
    renew(server);
    let own = &server.root.loc;
    // A server without certificates of its own answers with the default one's, as in nginx.
    let shakes = own.ssl.as_ref().is_some_and(|settings| settings.shakes_hands());
    let settings = if shakes { &own.ssl } else { &listen.default.root.loc.ssl };
    if own.core.tcp_nodelay {
        client.stream.set_nodelay(true);
    }
    let mut request = build::blank(client, listen, &Head::default(), started);
    request.scope = Arc::clone(&server.root) as Arc<dyn Scope>;
    ssl::choose(settings, &request, named, listen.http2 || own.v2.enabled)
}

/// The server of the name the client asked for, or the default one.
fn server<'a>(listen: &'a Listen, name: Option<&str>) -> (&'a Arc<Server>, bool) {
    let name = name.and_then(|name| host::valid(name.as_bytes()));
    let found = name.and_then(|name| listen.servers.find(&name.name)).map(|(server, _)| server);
    (found.unwrap_or(&listen.default), found.is_some())
}

/// Asks the authority of the client's certificate about it, where the server wants to know.
async fn ask(client: &Rc<Client>, listen: &Listen, started: Instant) {
    let Some(session) = client.stream.tls() else { return };
    let (server, _) = server(listen, client.stream.asked());
    let Some(clients) = server.root.loc.ssl.as_ref().and_then(|settings| settings.ocsp.as_ref()) else { return };
    let mut request = build::blank(client, listen, &Head::default(), started);
    request.scope = Arc::clone(&server.root) as Arc<dyn Scope>;
    // Few ask, and what that takes nobody else shall hold.
    if let Some(status) = Box::pin(clients.ask(session, &request)).await {
        // A session is asked about once.
        let _ = session.facts.status.set(status);
    }
}

/// Has the status of certificates asked for, whose turn it is.
fn renew(server: &Arc<Server>) {
    for slot in server.root.loc.ssl.iter().flat_map(|settings| settings.due()) {
        let (slot, root) = (Arc::clone(slot), Arc::clone(&server.root));
        tokio::task::spawn_local(async move {
            let core = &root.loc.core;
            if let Err(problem) = slot.renew(core.resolver.as_deref()).await {
                core.error_log.write(Level::Error, None, &problem);
            }
        });
    }
}

fn report(client: &Client, listen: &Listen, failure: &Failure) {
    let text = match failure {
        Failure::Closed => "peer closed connection in SSL handshake while SSL handshaking".to_owned(),
        Failure::Io(error) => {
            let text = crate::conf::load::os_error(error);
            format!("SSL_do_handshake() failed ({text}) while SSL handshaking")
        }
        other => format!("SSL_do_handshake() failed (SSL: {}) while SSL handshaking", openssl::words(other)),
    };
    log(client, listen, Level::Info, &text);
}

fn log(client: &Client, listen: &Listen, level: Level, text: &str) {
    let peer = String::from_utf8_lossy(&client.peer_text);
    let text = format!("{text}, client: {peer}, server: {}", listen.addr);
    listen.default.root.loc.core.error_log.write(level, Some(client.number), &text);
}

//! TLS towards clients: <https://nginx.org/en/docs/http/ngx_http_ssl_module.html>

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parser::ast::Span;

use super::Seal;
use crate::conf::field::{Seconds, Size, one_of};
use crate::conf::{Contexts, Diag, Directive, List, many, on};
use crate::http::identities::Limits;
use crate::http::tls::{Common, command, file, passwords};
use crate::http::{Request, Variable};
use crate::net::Level;
use crate::net::tls::Kept;

mod build;
pub mod ocsp;
mod read;
mod server;
mod variables;

pub use server::{Server, choose};

/// `ngx_http_ssl_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    common: Common,
    certificates: List<read::Name>,
    keys: List<read::Name>,
    passwords: Option<Arc<Vec<Vec<u8>>>>,
    cache: Option<Limits>,
    compression: bool,
    dhparam: Option<Bytes>,
    record: Option<u64>,
    verify: Verify,
    verify_depth: Option<u64>,
    client_certificate: Option<Bytes>,
    trusted_certificate: Option<Bytes>,
    crl: Option<Bytes>,
    own_order: bool,
    sessions: Option<read::Sessions>,
    no_tickets: bool,
    ticket_keys: List<(PathBuf, Span)>,
    timeout: Option<u64>,
    early_data: bool,
    reject: bool,
    stapling: Stapling,
    ocsp: OcspConf,
    /// What the server around was sealed to; its locations share it.
    sealed: Option<Arc<OnceLock<Result<Loc, Diag>>>>,
}

/// What requests read: nothing where the server takes no TLS.
pub type Loc = Option<Arc<Server>>;

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// They are not asked.
    #[default]
    Off,
    /// They must.
    On,
    /// They may, one that is trusted.
    Optional,
    /// They may, any.
    OptionalNoCa,
}

#[derive(Clone, Default)]
struct Stapling {
    on: bool,
    file: Option<Bytes>,
    responder: Option<Bytes>,
    verify: bool,
}

#[derive(Clone, Default)]
struct OcspConf {
    asked: ocsp::Asked,
    responder: Option<Bytes>,
    cache: Option<String>,
}

const SERVERS: Contexts = Contexts::SERVERS;

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Loc;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        // Certificates.
        many("ssl_certificate", SERVERS, 1..=1, |c, a| read::name(&mut c.certificates, a)),
        many("ssl_certificate_key", SERVERS, 1..=1, |c, a| read::name(&mut c.keys, a)),
        on("ssl_password_file", SERVERS, 1..=1, |c, a| {
            c.passwords = Some(passwords(a)?);
            Ok(())
        }),
        on("ssl_certificate_cache", SERVERS, 1..=3, |c, a| {
            c.cache = Limits::read(a)?;
            Ok(())
        }),
        on("ssl_certificate_compression", SERVERS, 1..=1, |c, a| a.set(&mut c.compression)),
        on("ssl_stapling", SERVERS, 1..=1, |c, a| a.set(&mut c.stapling.on)),
        on("ssl_stapling_file", SERVERS, 1..=1, |c, a| {
            file(&mut c.stapling.file, a);
            Ok(())
        }),
        on("ssl_stapling_responder", SERVERS, 1..=1, |c, a| a.set(&mut c.stapling.responder)),
        on("ssl_stapling_verify", SERVERS, 1..=1, |c, a| a.set(&mut c.stapling.verify)),
        many("ssl_ech_file", SERVERS, 1..=1, read::ech_file),
        on("ssl_engine", Contexts::MAIN, 1..=1, read::engine),
        // Files are read once a reload; none is taken over unread.
        on("ssl_object_cache_inheritable", Contexts::MAIN, 1..=1, |_, a| a.set(&mut false)),
        // The handshake.
        many("ssl_protocols", SERVERS, 1..=255, |c, a| c.common.versions.read(a)),
        on("ssl_ciphers", SERVERS, 1..=1, |c, a| read::text(a, &mut c.common.ciphers)),
        on("ssl_prefer_server_ciphers", SERVERS, 1..=1, |c, a| a.set(&mut c.own_order)),
        on("ssl_ecdh_curve", SERVERS, 1..=1, |c, a| read::text(a, &mut c.common.curves)),
        on("ssl_dhparam", SERVERS, 1..=1, |c, a| {
            file(&mut c.dhparam, a);
            Ok(())
        }),
        many("ssl_conf_command", SERVERS, 2..=2, |c, a| command(&mut c.common.commands, a)),
        on("ssl_reject_handshake", SERVERS, 1..=1, |c, a| a.set(&mut c.reject)),
        on("ssl_early_data", SERVERS, 1..=1, |c, a| a.set(&mut c.early_data)),
        on("ssl_buffer_size", SERVERS, 1..=1, |c, a| {
            let mut size = Size(0);
            a.set(&mut size)?;
            c.record = Some(size.0);
            Ok(())
        }),
        // Clients' certificates.
        on("ssl_verify_client", SERVERS, 1..=1, |c, a| {
            let values = [
                ("off", Verify::Off),
                ("on", Verify::On),
                ("optional", Verify::Optional),
                ("optional_no_ca", Verify::OptionalNoCa),
            ];
            c.verify = one_of(a.word(0), &values).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        on("ssl_verify_depth", SERVERS, 1..=1, |c, a| a.set(&mut c.verify_depth)),
        on("ssl_client_certificate", SERVERS, 1..=1, |c, a| {
            file(&mut c.client_certificate, a);
            Ok(())
        }),
        on("ssl_trusted_certificate", SERVERS, 1..=1, |c, a| {
            file(&mut c.trusted_certificate, a);
            Ok(())
        }),
        on("ssl_crl", SERVERS, 1..=1, |c, a| {
            file(&mut c.crl, a);
            Ok(())
        }),
        on("ssl_ocsp", SERVERS, 1..=1, |c, a| {
            let values = [("off", ocsp::Asked::Off), ("on", ocsp::Asked::On), ("leaf", ocsp::Asked::Leaf)];
            c.ocsp.asked = one_of(a.word(0), &values).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        on("ssl_ocsp_responder", SERVERS, 1..=1, |c, a| a.set(&mut c.ocsp.responder)),
        on("ssl_ocsp_cache", SERVERS, 1..=1, |c, a| {
            c.ocsp.cache = read::ocsp_cache(a)?;
            Ok(())
        }),
        // Resumption.
        many("ssl_session_cache", SERVERS, 1..=2, |c, a| {
            c.sessions = Some(read::sessions(a)?);
            Ok(())
        }),
        on("ssl_session_tickets", SERVERS, 1..=1, |c, a| {
            let mut on = true;
            a.set(&mut on)?;
            c.no_tickets = !on;
            Ok(())
        }),
        many("ssl_session_ticket_key", SERVERS, 1..=1, |c, a| {
            let path = a.env.conf_full_name(a.word(0));
            c.ticket_keys.push((path, a.directive().end));
            Ok(())
        }),
        on("ssl_session_timeout", SERVERS, 1..=1, |c, a| {
            let mut time = Seconds(0);
            a.set(&mut time)?;
            c.timeout = Some(time.0);
            Ok(())
        }),
    ];

    const VARIABLES: &'static [Variable<Loc>] = variables::VARIABLES;

    fn seal(conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Loc, Diag> {
        let Some(cell) = conf.sealed.clone() else { return Ok(None) };
        cell.get_or_init(|| build::server(&conf, cx).map_err(|trouble| trouble.0)).clone()
    }
}

/// Gives a server a place for what it is sealed to.
pub fn complete(conf: &mut Conf) {
    conf.sealed = Some(Arc::default());
}

/// What a request is refused with before it is looked at: it came without TLS, or with a certificate that will not do.
pub fn refuse(loc: &Loc, request: &Request, at_tls: bool) -> Option<u16> {
    if !at_tls {
        return None;
    }
    let Some(session) = request.client.stream.tls() else {
        request.log(Level::Info, "client sent plain HTTP request to HTTPS port while reading client request headers");
        return Some(497);
    };
    let server = loc.as_ref().filter(|server| server.verify != Verify::Off)?;
    let reading = "while reading client request headers";
    match session.facts.verdict() {
        Some(Err(unfit)) if server.verify != Verify::OptionalNoCa || !unfit.is_unknown_authority() => {
            let text = format!("client SSL certificate verify error: ({}:{}) {reading}", unfit.0, unfit.1);
            request.log(Level::Info, &text);
            Some(495)
        }
        Some(Ok(())) if session.facts.status.get().is_some() => {
            let status = session.facts.status.get().copied().unwrap_or_default();
            request.log(Level::Info, &format!("client SSL certificate verify error: {status} {reading}"));
            Some(495)
        }
        None if server.verify == Verify::On => {
            request.log(Level::Info, &format!("client sent no required SSL certificate {reading}"));
            Some(496)
        }
        _ => None,
    }
}

/// Whether a request for another name than the handshake's must not be served by `loc`'s server.
pub fn is_misdirected(loc: &Loc, request: &Request) -> bool {
    let asked = request.client.stream.tls().map(|session| &session.facts).filter(|facts| facts.named);
    let asked = asked.and_then(|facts| facts.server_name.as_deref());
    let other = asked.is_some_and(|asked| !asked.as_bytes().eq_ignore_ascii_case(&request.host));
    other && loc.as_ref().is_some_and(|server| server.verify != Verify::Off)
}

/// How long a session may be resumed.
fn timeout(conf: &Conf) -> Duration {
    Duration::from_secs(conf.timeout.unwrap_or(300))
}

/// The caches that a reload takes over.
pub type Caches = Kept;

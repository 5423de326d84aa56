//! The variables of a TLS connection: <https://nginx.org/en/docs/http/ngx_http_ssl_module.html#variables>

use rustls::{Connection, HandshakeKind, ProtocolVersion};

use super::Loc;
use crate::http::variable::variable;
use crate::http::{Request, Variable};
use crate::net::tls::{Session, names, show};

/// All rows.
pub const VARIABLES: &[Variable<Loc>] = &[
    variable("ssl_protocol", |_, r, _, out| of(r, out, |s| s.with(protocol))),
    variable("ssl_cipher", |_, r, _, out| {
        let name = |conn: &Connection| conn.negotiated_cipher_suite().map(|suite| names::suite(suite.suite().into()));
        of(r, out, |s| s.with(name))
    }),
    variable("ssl_ciphers", |_, r, _, out| of(r, out, |s| list(&s.facts.offered.ciphers, names::suite))),
    variable("ssl_curve", |_, r, _, out| {
        let name = |conn: &Connection| conn.negotiated_key_exchange_group().map(|group| names::group(group.name().into()));
        of(r, out, |s| s.with(name))
    }),
    variable("ssl_curves", |_, r, _, out| of(r, out, |s| list(&s.facts.offered.groups, names::group))),
    variable("ssl_sigalg", |_, _, _, _| false),
    variable("ssl_sigalgs", |_, r, _, out| of(r, out, |s| list(&s.facts.offered.schemes, names::scheme))),
    variable("ssl_session_id", |_, r, _, out| of(r, out, session_id)),
    variable("ssl_session_reused", |_, r, _, out| {
        let reused = |conn: &Connection| conn.handshake_kind() == Some(HandshakeKind::Resumed);
        of(r, out, |s| Some(if s.with(reused) { "r" } else { "." }))
    }),
    variable("ssl_early_data", |_, r, _, out| of(r, out, |s| s.with(|conn| conn.is_handshaking()).then_some("1"))),
    variable("ssl_server_name", |_, r, _, out| {
        let asked = r.client.stream.asked();
        put(out, asked.map(str::as_bytes))
    }),
    variable("ssl_alpn_protocol", |_, r, _, out| put(out, r.client.stream.alpn())),
    variable("ssl_ech_status", |_, _, _, _| false),
    variable("ssl_ech_outer_server_name", |_, _, _, _| false),
    // The client's certificate.
    variable("ssl_client_cert", |_, r, _, out| certificate(r, out, |der| Some(show::pem(der).replace('\n', "\n\t")))),
    variable("ssl_client_raw_cert", |_, r, _, out| certificate(r, out, |der| Some(show::pem(der) + "\n"))),
    variable("ssl_client_escaped_cert", |_, r, _, out| {
        certificate(r, out, |der| {
            let mut escaped = Vec::new();
            let text = format!("{}\n", show::pem(der));
            crate::http::escape::escape(text.as_bytes(), crate::http::escape::Set::Component, &mut escaped);
            Some(escaped)
        })
    }),
    variable("ssl_client_s_dn", |_, r, _, out| certificate(r, out, |der| show::name(der, show::Who::Subject, false))),
    variable("ssl_client_i_dn", |_, r, _, out| certificate(r, out, |der| show::name(der, show::Who::Issuer, false))),
    variable("ssl_client_s_dn_legacy", |_, r, _, out| certificate(r, out, |der| show::name(der, show::Who::Subject, true))),
    variable("ssl_client_i_dn_legacy", |_, r, _, out| certificate(r, out, |der| show::name(der, show::Who::Issuer, true))),
    variable("ssl_client_serial", |_, r, _, out| certificate(r, out, show::serial)),
    variable("ssl_client_fingerprint", |_, r, _, out| certificate(r, out, |der| Some(show::fingerprint(der)))),
    variable("ssl_client_verify", |_, r, _, out| of(r, out, |s| Some(verified(s)))),
    variable("ssl_client_v_start", |_, r, _, out| certificate(r, out, |der| Some(show::validity(der)?.0))),
    variable("ssl_client_v_end", |_, r, _, out| certificate(r, out, |der| Some(show::validity(der)?.1))),
    variable("ssl_client_v_remain", |_, r, _, out| certificate(r, out, |der| Some(show::validity(der)?.2.to_string()))),
    variable("ssl_client_sigalg", |_, _, _, _| false),
];

/// Appends what the session says; an empty value is none.
fn of<T: AsRef<[u8]>>(request: &Request, out: &mut Vec<u8>, get: impl FnOnce(&Session) -> Option<T>) -> bool {
    put(out, request.client.stream.tls().and_then(get))
}

fn put<T: AsRef<[u8]>>(out: &mut Vec<u8>, value: Option<T>) -> bool {
    let Some(value) = value else { return false };
    out.extend_from_slice(value.as_ref());
    !value.as_ref().is_empty()
}

fn certificate<T: AsRef<[u8]>>(request: &Request, out: &mut Vec<u8>, get: impl FnOnce(&[u8]) -> Option<T>) -> bool {
    of(request, out, |session| get(session.facts.peer.as_ref()?.first()?))
}

fn protocol(conn: &Connection) -> Option<&'static str> {
    match conn.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        _ => Some("TLSv1.3"),
    }
}

/// A number of this session's own; the one that resumes it has another.
fn session_id(session: &Session) -> Option<String> {
    let number = session.with(|conn| conn.export_keying_material([0u8; 32], b"EXPERIMENTAL session id", None)).ok()?;
    Some(data_encoding::HEXLOWER.encode(&number))
}

fn list(numbers: &[u16], name: fn(u16) -> String) -> Option<String> {
    Some(numbers.iter().map(|number| name(*number)).collect::<Vec<_>>().join(":"))
}

fn verified(session: &Session) -> String {
    match session.facts.verdict() {
        None => "NONE".to_owned(),
        Some(Ok(())) => "SUCCESS".to_owned(),
        Some(Err(unfit)) => format!("FAILED:{}", unfit.1),
    }
}

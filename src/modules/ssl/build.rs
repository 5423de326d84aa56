//! From `ssl_*` settings to a server that can shake hands: files are read, and what is wrong with them is said in nginx's words.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls::sign::CertifiedKey;

use super::server::Server;
use super::read::Name;
use super::{Conf, Loc, Verify, ocsp, timeout};
use crate::conf::Diag;
use crate::conf::args::text;
use crate::conf::load::cannot_open;
use crate::http::Value;
use crate::http::identities::Named;
use crate::http::tls::{self, Reads};
use crate::modules::Seal;
use crate::net::tls::store::{Cache, Key, Keys, Tickets, View};
use crate::net::tls::{Identity, Trust, config, key, pem};

/// Bytes of a record unless `ssl_buffer_size` says otherwise.
const RECORD: u64 = 16384;
/// Bytes of early data a client may send.
const EARLY: u32 = 16384;

/// A finding, made of nginx's sentence where it has no place.
pub struct Trouble(pub Diag);

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self(Diag::general(text, None))
    }
}

/// Seals a server's settings.
pub fn server(conf: &Conf, cx: &mut Seal<'_>) -> Result<Loc, Trouble> {
    if conf.certificates.is_empty() && !conf.reject {
        // It answers with another server's certificate, and still says what it wants of clients.
        return Ok((conf.verify != Verify::Off).then(|| Arc::new(Server::mute(conf.verify))));
    }
    if conf.keys.len() < conf.certificates.len() {
        let last = conf.certificates.last().map(|(name, _)| text(name).into_owned()).unwrap_or_default();
        return Err(format!("no \"ssl_certificate_key\" is defined for certificate \"{last}\"").into());
    }
    let (choices, warnings) = conf.common.choices()?;
    let pairs = pairs(conf, cx).map_err(Trouble)?;
    let dynamic = pairs.iter().any(|(cert, key)| cert.as_literal().is_none() || key.as_literal().is_none());
    let mut identities = Vec::new();
    if !dynamic {
        let passwords = conf.passwords.as_deref().map_or(&[][..], Vec::as_slice);
        for ((cert, _), (key, _)) in conf.certificates.iter().zip(conf.keys.iter()) {
            let identity = tls::identity((cert, key), passwords, &*cx.env, "SSL_CTX_use_PrivateKey")?;
            // Of several for one kind of key the last one counts.
            identities.retain(|other: &Identity| other.key.algorithm() != identity.key.algorithm());
            identities.push(identity);
        }
        if let (Some(cert), Some(key)) = (conf.common.command("certificate"), conf.common.command("privatekey")) {
            identities = vec![tls::identity((cert.as_bytes(), key.as_bytes()), passwords, &*cx.env, "SSL_CTX_use_PrivateKey")?];
        }
    }
    let trust = trust(conf, cx)?;
    dhparam(conf, cx)?;
    let hints = hints(conf, cx)?;
    let staple = staple(conf, cx)?;
    if let Some(response) = staple {
        identities = identities.iter().map(|identity| stapled(identity, &response)).collect();
    }
    for warning in warnings {
        let diag = Diag::general(warning, None).warning();
        if !cx.env.warnings.contains(&diag) {
            cx.env.warnings.push(diag);
        }
    }
    let context = context(conf, &identities, hints.as_deref());
    let (sessions, tickets) = resumption(conf, &context, cx)?;
    let slots = ocsp::slots(conf, &identities, cx)?;
    let stapled = slots.clone();
    let clients = ocsp::clients(conf, cx)?;
    let no_certificates = identities.is_empty() && !dynamic;
    let made = config::server(config::Server {
        choices,
        identities: slots,
        hints,
        own_order: conf.common.option("ServerPreference").unwrap_or(conf.own_order),
        record: usize::try_from(conf.record.unwrap_or(RECORD)).unwrap_or(usize::MAX),
        sessions,
        tickets,
        early_data: if conf.early_data { EARLY } else { 0 },
        compress: conf.compression,
    })
    .map_err(|error| format!("{error}"))?;
    let dynamic = dynamic.then(|| Named {
        pairs,
        passwords: conf.passwords.clone().unwrap_or_default(),
        cache: conf.cache,
        prefix: cx.env.conf_prefix.clone(),
    });
    let server = Server::new(made, conf.verify, trust, conf.reject, (no_certificates, dynamic));
    Ok(Some(Arc::new(server.asking(stapled, clients))))
}

/// The names of certificates and their keys.
fn pairs(conf: &Conf, cx: &Seal<'_>) -> Result<Vec<(Value, Value)>, Diag> {
    let known = |name: &Name| {
        let value = name.1.clone().map_err(|problem| cx.env.inherited(problem, None))?;
        cx.know([&value]).map(|()| value)
    };
    conf.certificates.iter().zip(conf.keys.iter()).map(|(cert, key)| Ok((known(cert)?, known(key)?))).collect()
}

/// What clients' certificates are held to.
fn trust(conf: &Conf, cx: &mut Seal<'_>) -> Result<Option<Arc<Trust>>, String> {
    let unnamed = conf.client_certificate.is_none() && conf.trusted_certificate.is_none();
    if unnamed && !matches!(conf.verify, Verify::Off | Verify::OptionalNoCa) {
        return Err("no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client".to_owned());
    }
    let mut roots = Vec::new();
    if let Some(name) = conf.client_certificate.as_ref().filter(|_| conf.verify != Verify::Off) {
        roots.extend(tls::certificates(name, &*cx.env)?);
    }
    if let Some(name) = &conf.trusted_certificate {
        roots.extend(tls::certificates(name, &*cx.env)?);
    }
    let crls = conf.crl.as_ref().map(|name| tls::crls(name, &*cx.env)).transpose()?.unwrap_or_default();
    let depth = usize::try_from(conf.verify_depth.unwrap_or(1)).unwrap_or(usize::MAX);
    Ok((conf.verify != Verify::Off).then(|| Arc::new(Trust::new(roots, crls, depth))))
}

/// The authorities that clients are told of.
fn hints(conf: &Conf, cx: &mut Seal<'_>) -> Result<Option<Vec<rustls::DistinguishedName>>, String> {
    if conf.verify == Verify::Off {
        return Ok(None);
    }
    let Some(name) = &conf.client_certificate else { return Ok(Some(Vec::new())) };
    Ok(Some(config::subjects(&tls::certificates(name, &*cx.env)?)))
}

/// `ssl_dhparam` is checked, and then without effect: rustls has no such key exchange.
fn dhparam(conf: &Conf, cx: &mut Seal<'_>) -> Result<(), String> {
    let Some(name) = &conf.dhparam else { return Ok(()) };
    let path = cx.env.path(name);
    let shown = path.display();
    let read = cx.env.read(&path).map_err(|error| format!("BIO_new_file(\"{shown}\") failed {}", key::not_opened(&path, &error, "r")))?;
    let found = pem::blocks(&read).is_ok_and(|blocks| blocks.iter().any(|block| block.label.ends_with("DH PARAMETERS")));
    if found {
        return Ok(());
    }
    let why = "error:0480006C:PEM routines::no start line:Expecting: DH PARAMETERS";
    Err(format!("PEM_read_bio_DHparams(\"{shown}\") failed (SSL: {why})"))
}

/// A response about the certificate's status that goes out with it (RFC 6066 §8).
fn staple(conf: &Conf, cx: &mut Seal<'_>) -> Result<Option<Vec<u8>>, String> {
    if !conf.stapling.on {
        return Ok(None);
    }
    if conf.compression {
        return Err("\"ssl_stapling\" is incompatible with \"ssl_certificate_compression\"".to_owned());
    }
    let Some(name) = &conf.stapling.file else { return Ok(None) };
    let path = cx.env.path(name);
    let shown = path.display();
    let read = cx.env.read(&path).map_err(|error| format!("BIO_new_file(\"{shown}\") failed {}", key::not_opened(&path, &error, "rb")))?;
    match pem::element(&read) {
        Some((0x30, _, [])) => Ok(Some(read.to_vec())),
        _ => Err(format!("d2i_OCSP_RESPONSE_bio(\"{shown}\") failed (SSL: error:0680008E:asn1 encoding routines::not enough data)")),
    }
}

fn stapled(identity: &Identity, response: &[u8]) -> Identity {
    Arc::new(CertifiedKey {
        cert: identity.cert.clone(),
        key: Arc::clone(&identity.key),
        ocsp: Some(response.to_vec()),
    })
}

/// What sessions are for: the certificates, by their names where they are not known yet, and the authorities asked for.
fn context(conf: &Conf, identities: &[Identity], hints: Option<&[rustls::DistinguishedName]>) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    identities.iter().filter_map(|one| one.cert.first()).for_each(|cert| hash.update(cert));
    if identities.is_empty() {
        conf.certificates.iter().for_each(|(name, _)| hash.update(name));
    }
    hints.into_iter().flatten().for_each(|name| hash.update(name.as_ref()));
    hash.finish().as_ref().to_vec()
}

type Resumption = (Option<Arc<dyn StoresServerSessions>>, Option<Arc<dyn ProducesTickets>>);

/// Who keeps sessions: this side, the client, or both.
fn resumption(conf: &Conf, context: &[u8], cx: &mut Seal<'_>) -> Result<Resumption, Trouble> {
    let context = context.to_vec();
    let timeout = timeout(conf);
    let settings = conf.sessions.as_ref();
    let shared = settings.and_then(|settings| settings.shared.as_ref()).map(|(name, size)| cx.tls.shared(name, *size));
    let builtin = settings.and_then(|settings| settings.builtin).map(|room| {
        Arc::new(Cache::new(usize::try_from(room).unwrap_or(usize::MAX)))
    });
    // Early data needs sessions that can be used once only, which those that clients keep cannot be.
    let own = || Arc::new(Cache::new(1024));
    let cache = shared.as_ref().map(|shared| Arc::clone(&shared.cache)).or(builtin).or_else(|| conf.early_data.then(own));
    let view = cache.map(|cache| Arc::new(View { cache, context: context.clone(), timeout }) as Arc<dyn StoresServerSessions>);
    let mut keys = Vec::new();
    for (path, at) in conf.ticket_keys.iter() {
        let trouble = |text: String| Trouble(cx.env.inherited(text, Some(*at)));
        let bytes = Reads::read(&*cx.env, path).map_err(|error| trouble(cannot_open(path, &error)))?;
        let key = Key::of_file(&bytes).filter(|_| matches!(bytes.len(), 48 | 80));
        keys.push(Arc::new(key.ok_or_else(|| trouble(format!("\"{}\" must be 48 or 80 bytes", path.display())))?));
    }
    let wanted = conf.common.option("SessionTicket").unwrap_or(!conf.no_tickets);
    if !wanted || conf.early_data {
        return Ok((view, None));
    }
    let keys = match (keys.is_empty(), shared) {
        (false, _) => Keys::Fixed(keys),
        (true, Some(shared)) => Keys::Shared(shared),
        (true, None) => Keys::Fixed(Key::random().map(Arc::new).into_iter().collect()),
    };
    Ok((view, Some(Arc::new(Tickets { keys, context, timeout }))))
}

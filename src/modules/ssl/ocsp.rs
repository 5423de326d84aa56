//! Asking authorities about certificates: our own, to send the answer along, and clients'
//! (<https://nginx.org/en/docs/http/ngx_http_ssl_module.html#ssl_stapling>, `#ssl_ocsp`).

use std::sync::Arc;

use super::Conf;
use crate::conf::Diag;
use crate::conf::args::text;
use crate::http::Request;
use crate::http::tls;
use crate::modules::Seal;
use crate::net::Level;
use crate::net::timer::within;
use crate::net::tls::ocsp::{Answers, PATIENCE, Question, Responder, Status};
use crate::net::tls::staple::{Slot, address};
use crate::net::tls::trust::{Purpose, issuer_among};
use crate::net::tls::{Identity, Session};

/// What clients' certificates are asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Off,
    /// Every one of the chain but the authority's own.
    On,
    /// The first one.
    Leaf,
}

/// How clients' certificates are asked about.
#[derive(Debug)]
pub struct Clients {
    asked: Asked,
    responder: Option<Responder>,
    cache: Option<Arc<Answers>>,
}

/// The certificates of a server with the places their status is asked for.
pub fn slots(conf: &Conf, identities: &[Identity], cx: &mut Seal<'_>) -> Result<Vec<Arc<Slot>>, String> {
    let asks = conf.stapling.on && conf.stapling.file.is_none();
    if !asks {
        return Ok(identities.iter().cloned().map(Slot::plain).collect());
    }
    let trusted = match &conf.trusted_certificate {
        Some(name) => tls::certificates(name, &*cx.env)?,
        None => Vec::new(),
    };
    let mut slots = Vec::new();
    for (identity, (name, _)) in identities.iter().zip(conf.certificates.iter()) {
        let shown = tls::Reads::path(&*cx.env, name).display().to_string();
        match slot(conf, identity, &trusted, &shown) {
            Ok(slot) => slots.push(slot),
            Err(why) => {
                cx.env.warnings.push(Diag::general(format!("\"ssl_stapling\" ignored, {why}"), None).warning());
                slots.push(Slot::plain(Arc::clone(identity)));
            }
        }
    }
    Ok(slots)
}

type Der = rustls::pki_types::CertificateDer<'static>;

fn slot(conf: &Conf, identity: &Identity, trusted: &[Der], shown: &str) -> Result<Arc<Slot>, String> {
    let chain = &identity.cert;
    let (cert, rest) = chain.split_first().ok_or("no certificate")?;
    let issuer = issuer_among(cert, rest).or_else(|| issuer_among(cert, trusted));
    let issuer = issuer.ok_or_else(|| format!("issuer certificate not found for certificate \"{shown}\""))?;
    let url = conf.stapling.responder.as_ref().map(|url| text(url).into_owned()).or_else(|| Responder::of(cert));
    let url = url.ok_or_else(|| format!("no OCSP responder URL in the certificate \"{shown}\""))?;
    let invalid = || format!("invalid URL prefix in OCSP responder \"{url}\" in the certificate \"{shown}\"");
    let responder = Responder::parse(&url).ok_or_else(invalid)?;
    let question = Question::about(cert, issuer).ok_or_else(|| format!("the certificate \"{shown}\" is malformed"))?;
    Ok(Slot::stapled(Arc::clone(identity), question, responder, !conf.stapling.verify))
}

/// How a server asks about its clients' certificates.
pub fn clients(conf: &Conf, cx: &mut Seal<'_>) -> Result<Option<Clients>, String> {
    if conf.ocsp.asked == Asked::Off {
        return Ok(None);
    }
    if conf.verify == super::Verify::OptionalNoCa {
        return Err("\"ssl_ocsp\" is incompatible with \"ssl_verify_client optional_no_ca\"".to_owned());
    }
    let responder = match &conf.ocsp.responder {
        Some(url) => {
            let url = text(url).into_owned();
            let invalid = || format!("invalid URL prefix in OCSP responder \"{url}\" in \"ssl_ocsp_responder\"");
            Some(Responder::parse(&url).ok_or_else(invalid)?)
        }
        None => None,
    };
    let cache = conf.ocsp.cache.as_ref().map(|name| cx.tls.answers(name));
    Ok(Some(Clients { asked: conf.ocsp.asked, responder, cache }))
}

impl Clients {
    /// Asks about the certificates of a session that are trusted so far; what is wrong with them.
    pub async fn ask(&self, session: &Session, request: &Request) -> Option<&'static str> {
        let (Some(peer), Some(trust)) = (&session.facts.peer, &session.facts.trust) else { return None };
        let path = trust.path_of(peer, Purpose::Client)?;
        for (at, pair) in path.windows(2).enumerate() {
            if at > 0 && self.asked == Asked::Leaf {
                break;
            }
            let [cert, issuer] = pair else { break };
            match self.status(cert, issuer, request).await {
                Ok(Status::Good) => {}
                Ok(Status::Revoked) => return Some("certificate revoked"),
                Ok(Status::Unknown) => return Some("certificate status request failed"),
                Err(problem) => {
                    request.log(Level::Error, &format!("{problem} while requesting certificate status"));
                    return Some("certificate status request failed");
                }
            }
        }
        None
    }

    async fn status(&self, cert: &[u8], issuer: &[u8], request: &Request) -> Result<Status, String> {
        let question = Question::about(cert, issuer).ok_or("the certificate is malformed")?;
        if let Some(status) = self.cache.as_ref().and_then(|cache| cache.get(&question.id)) {
            return Ok(status);
        }
        let responder = match &self.responder {
            Some(responder) => responder.clone(),
            None => {
                let url = Responder::of(cert).ok_or("no OCSP responder URL in certificate")?;
                let invalid = || format!("invalid URL prefix in OCSP responder \"{url}\" in certificate");
                Responder::parse(&url).ok_or_else(invalid)?
            }
        };
        let asking = async {
            let at = address(&responder, request.core().resolver.as_deref(), false).await?;
            question.read(&question.ask(&responder, at).await?, false)
        };
        let late = || Err("OCSP responder timed out (110: Connection timed out)".to_owned());
        let (status, until) = within(PATIENCE, asking).await.unwrap_or_else(late)?;
        if let (Some(cache), Some(until)) = (&self.cache, until) {
            cache.put(question.id, status, until);
        }
        Ok(status)
    }
}

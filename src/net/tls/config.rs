//! From settings to what rustls works with, for both sides of a handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, StoresServerSessions};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use x509_parser::prelude::*;

use super::key::Identity;
use super::names;
use super::trust::{self, PublicKey};

/// Bytes that a record has around its content, as rustls counts them.
const RECORD: usize = 5;

/// What both sides of a handshake choose from.
#[derive(Clone)]
pub struct Choices {
    /// Versions.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Suites of TLS 1.2 and 1.3.
    pub suites: Vec<SupportedCipherSuite>,
    /// Key exchange groups; those of the provider where there are none.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
}

impl Choices {
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = names::provider();
        provider.cipher_suites.clone_from(&self.suites);
        if !self.groups.is_empty() {
            provider.kx_groups.clone_from(&self.groups);
        }
        Arc::new(provider)
    }
}

/// A server's side.
pub struct Server {
    /// What it chooses from.
    pub choices: Choices,
    /// Its certificates.
    pub identities: Vec<Identity>,
    /// The subjects of the authorities a client's certificate should be of; nothing where none is asked for.
    pub hints: Option<Vec<DistinguishedName>>,
    /// Whether its own order of suites counts.
    pub own_order: bool,
    /// Bytes of content in a record.
    pub record: usize,
    /// Sessions it keeps.
    pub sessions: Option<Arc<dyn StoresServerSessions>>,
    /// Sessions its clients keep.
    pub tickets: Option<Arc<dyn ProducesTickets>>,
    /// Bytes of early data it takes.
    pub early_data: u32,
    /// Whether certificates are compressed.
    pub compress: bool,
}

/// Makes a server's configuration.
pub fn server(settings: Server) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(settings.choices.provider())
        .with_protocol_versions(&settings.choices.versions)?;
    let builder = match settings.hints {
        Some(hints) => builder.with_client_cert_verifier(Arc::new(Anybody { hints })),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Identities(settings.identities)));
    config.ignore_client_order = settings.own_order;
    config.max_fragment_size = Some(settings.record.clamp(64, 16384) + RECORD);
    config.max_early_data_size = settings.early_data;
    config.send_half_rtt_data = settings.early_data > 0;
    let resumes = settings.sessions.is_some() || settings.tickets.is_some();
    config.session_storage = settings.sessions.unwrap_or_else(|| Arc::new(NoServerSessionStorage {}));
    if let Some(tickets) = settings.tickets {
        config.ticketer = tickets;
    }
    config.send_tls13_tickets = if resumes { 2 } else { 0 };
    if !settings.compress {
        config.cert_compressors = Vec::new();
    }
    Ok(config)
}

/// The subjects of certificates, as a client is told them.
pub fn subjects(certificates: &[CertificateDer<'_>]) -> Vec<DistinguishedName> {
    let subject = |der| Some(X509Certificate::from_der(der).ok()?.1.subject().as_raw().to_vec());
    let mut found: Vec<Vec<u8>> = Vec::new();
    for name in certificates.iter().filter_map(|der| subject(der)) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found.into_iter().map(DistinguishedName::from).collect()
}

/// Several certificates of one server; the client's taste decides.
#[derive(Debug)]
pub struct Identities(pub Vec<Identity>);

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = self.0.as_slice() {
            return Some(Arc::clone(only));
        }
        let usable = |scheme: SignatureScheme| {
            let mark = if scheme.as_str().is_some_and(|name| name.contains("RSA")) { "_RSA_" } else { "_ECDSA_" };
            let suits = |suite: &str| suite.starts_with("TLS13") || suite.contains(mark);
            hello.cipher_suites().iter().any(|suite| suite.as_str().is_some_and(suits))
        };
        let schemes = hello.signature_schemes().iter().copied().filter(|scheme| usable(*scheme));
        let mut fitting =
            schemes.filter_map(|scheme| self.0.iter().find(|one| one.key.choose_scheme(&[scheme]).is_some()));
        fitting.next().or(self.0.first()).cloned()
    }
}

/// Takes any client's certificate that its owner has the key to; whether it is trusted is asked when a request comes.
#[derive(Debug)]
struct Anybody {
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        trust::algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        trust::algorithms().supported_schemes()
    }
}

/// Whether the owner of `cert` has its key. In TLS 1.3 a scheme names its curve; before, the key does.
fn signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    strict: bool,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = || Error::InvalidCertificate(rustls::CertificateError::BadSignature);
    let malformed = || Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|_| malformed())?;
    let key = PublicKey::of(parsed.public_key().raw).ok_or_else(malformed)?;
    let mapping = trust::algorithms().mapping;
    let known = mapping.iter().find(|(scheme, _)| *scheme == signed.scheme).map_or(&[][..], |(_, known)| *known);
    let known = known.iter().take(if strict { 1 } else { usize::MAX });
    let mut fits = known.map(|known| key.verifies(*known, message, signed.signature()));
    if fits.any(|fits| fits) { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
}

/// A client's side.
pub struct Client {
    /// What it chooses from.
    pub choices: Choices,
    /// Its certificate.
    pub identity: Option<Identity>,
    /// Whether it says which name it wants.
    pub names_server: bool,
    /// Whether sessions are resumed.
    pub resumes: bool,
    /// The protocols it offers.
    pub alpn: Vec<Vec<u8>>,
}

/// Makes a client's configuration; whom it talks to is looked at after the handshake.
pub fn client(settings: Client) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(settings.choices.provider())
        .with_protocol_versions(&settings.choices.versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody { hints: Vec::new() }))
        .with_no_client_auth();
    if let Some(identity) = settings.identity {
        config.client_auth_cert_resolver = Arc::new(Own(identity));
    }
    config.enable_sni = settings.names_server;
    config.alpn_protocols = settings.alpn;
    if !settings.resumes {
        config.resumption = Resumption::disabled();
    }
    config.cert_compressors = Vec::new();
    Ok(config)
}

#[derive(Debug)]
struct Own(Identity);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

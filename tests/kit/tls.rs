//! A TLS client that asks for a certificate and checks its key, but trusts whoever shows it (RFC 8446).

use super::http::{Connection, Response};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A connection whose handshake is done.
pub struct Secure(Connection<StreamOwned<ClientConnection, TcpStream>>);

impl Secure {
    /// Shakes hands with whoever listens on `port` and asks for `name`, without a session of an earlier connection.
    pub fn open(port: u16, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, Connection::open(port)?.into_inner());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(Connection::over(stream)))
    }

    /// GETs `path` of `host`; the connection stays open.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.0.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.0.read_response(false)
    }

    /// The server's own certificate, as DER.
    pub fn certificate(&self) -> Vec<u8> {
        let chain = self.0.inner().conn.peer_certificates().unwrap_or_default();
        chain.first().map(|cert| cert.to_vec()).unwrap_or_default()
    }
}

/// Makes a self-signed P-256 certificate `dir/name.crt` for the host `name`, with its key `dir/name.key`.
pub fn certificate(dir: &Path, name: &str) {
    let args = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
         -addext subjectAltName=DNS:{name} -days 2 -keyout {name}.key -out {name}.crt"
    );
    let mut command = Command::new("openssl");
    let made = command.args(args.split_whitespace()).current_dir(dir).stdin(Stdio::null()).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn config() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Anyone(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    Arc::new(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Trusts anyone who has the key of the certificate shown.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

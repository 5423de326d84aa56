//! A handshake with a server, and whether it is the one that was meant (RFC 6125).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::handshake::{self, Failure};
use super::openssl;
use super::trust::{Purpose, Trust, is_for};
use crate::net::Stream;

/// How to talk TLS with a server.
#[derive(Debug)]
pub struct Dial {
    /// What is offered.
    pub config: Arc<ClientConfig>,
    /// What its certificate is held to.
    pub trust: Option<Arc<Trust>>,
    /// `https://` or its like, for the error log.
    pub scheme: &'static str,
    /// The server's name.
    pub name: String,
    /// What must be the same for connections to be shared.
    pub tag: u64,
}

/// Why there is no session.
#[derive(Debug)]
pub enum Refusal {
    /// The socket failed.
    Io(io::Error),
    /// The two could not agree, or it is not the server that was meant: nginx's sentence.
    Words(String),
}

impl Dial {
    /// Shakes hands over `stream` with the server at `peer`, and looks whom it met.
    pub async fn shake(&self, stream: &Stream, peer: Option<IpAddr>) -> Result<(), Refusal> {
        let local = || ServerName::from(peer.unwrap_or(IpAddr::from([127, 0, 0, 1])));
        let name = ServerName::try_from(self.name.clone()).unwrap_or_else(|_| local());
        let session = handshake::connect(stream, Arc::clone(&self.config), name).await.map_err(refusal)?;
        if let Some(trust) = &self.trust {
            let chain = session.facts.peer.as_deref().unwrap_or_default();
            if let Err(unfit) = trust.judge(chain, Purpose::Server) {
                let text = format!("upstream SSL certificate verify error: ({}:{})", unfit.0, unfit.1);
                return Err(Refusal::Words(text));
            }
            if !chain.first().is_some_and(|cert| is_for(cert, &self.name)) {
                return Err(Refusal::Words(format!("upstream SSL certificate does not match \"{}\"", self.name)));
            }
        }
        stream.secure(session);
        Ok(())
    }
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Io(error) => Refusal::Io(error),
        Failure::Closed => Refusal::Words("peer closed connection in SSL handshake".to_owned()),
        other => Refusal::Words(format!("SSL_do_handshake() failed (SSL: {})", openssl::words(&other))),
    }
}

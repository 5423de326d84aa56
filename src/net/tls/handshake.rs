//! Handshakes of both sides, over a stream that goes on as the session they make (RFC 8446 §4).

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor, ClientHello};
use rustls::{ClientConfig, ClientConnection, Connection, Error, ProtocolVersion, ServerConfig};

use super::facts::{Facts, Offered};
use super::session::Session;
use super::trust::Trust;
use crate::net::Stream;

/// Why there is no session.
#[derive(Debug)]
pub enum Failure {
    /// The peer left.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// The two could not agree.
    Tls(Error),
    /// There is no server of that name here.
    Rejected,
    /// No certificate could be loaded; that was logged.
    NoCertificate,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The server a client asked for.
pub struct Chosen {
    /// Its configuration.
    pub config: Arc<ServerConfig>,
    /// What clients' certificates are held to.
    pub trust: Option<Arc<Trust>>,
    /// Whether it was found by the name the client sent.
    pub named: bool,
}

/// An alert of the first handshake message: nobody of that name is here (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];
/// The same for an error of our own.
const INTERNAL_ERROR: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

const PIECE: usize = 16 << 10;

/// Answers a client's handshake; `first` came already. `choose` says what to answer with, or why not to.
pub async fn accept(
    stream: &Stream,
    first: &[u8],
    choose: impl AsyncFnOnce(&ClientHello<'_>) -> Result<Chosen, Failure>,
) -> Result<Session, Failure> {
    let mut acceptor = Acceptor::default();
    let mut pending = first.to_vec();
    let accepted = loop {
        let mut left = pending.as_slice();
        let found = step(&mut acceptor, &mut left);
        pending = left.to_vec();
        match found {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, alert)) => {
                // Who cannot be told is gone.
                let _ = stream.write_all(&alert).await;
                return Err(Failure::Tls(error));
            }
        }
        if pending.is_empty() && receive(stream, &mut pending).await? == 0 {
            return Err(Failure::Closed);
        }
    };
    let offered = Offered::of(&accepted.client_hello());
    if let Some(name) = accepted.client_hello().server_name() {
        stream.ask(name);
    }
    let chosen = match choose(&accepted.client_hello()).await {
        Ok(chosen) => chosen,
        Err(failure) => {
            let alert = if matches!(failure, Failure::Rejected) { UNRECOGNIZED_NAME } else { INTERNAL_ERROR };
            let _ = stream.write_all(&alert).await;
            return Err(failure);
        }
    };
    let server_name = accepted.client_hello().server_name().map(Into::into);
    let mut conn = match accepted.into_connection(chosen.config) {
        Ok(conn) => Connection::Server(conn),
        Err((error, mut alert)) => {
            let mut bytes = Vec::new();
            let _ = alert.write_all(&mut bytes);
            let _ = stream.write_all(&bytes).await;
            return Err(Failure::Tls(error));
        }
    };
    drive(stream, &mut conn, &pending).await?;
    let facts = Facts { server_name, named: chosen.named, offered, trust: chosen.trust, ..Facts::default() };
    Ok(finish(conn, facts))
}

/// Feeds the acceptor; an error comes with the alert that tells the client.
fn step(acceptor: &mut Acceptor, bytes: &mut &[u8]) -> Result<Option<Accepted>, (Error, Vec<u8>)> {
    while !bytes.is_empty() {
        if acceptor.read_tls(bytes).is_err() {
            return Err((Error::HandshakeNotComplete, Vec::new()));
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Err((error, mut alert)) => {
                let mut told = Vec::new();
                let _ = alert.write_all(&mut told);
                return Err((error, told));
            }
        }
    }
    Ok(None)
}

/// Begins a handshake with a server.
pub async fn connect(
    stream: &Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Session, Failure> {
    let mut conn = Connection::Client(ClientConnection::new(config, name).map_err(Failure::Tls)?);
    drive(stream, &mut conn, &[]).await?;
    Ok(finish(conn, Facts::default()))
}

fn finish(conn: Connection, facts: Facts) -> Session {
    let peer = conn.peer_certificates().map(|chain| chain.iter().map(|cert| cert.clone().into_owned()).collect());
    Session::new(conn, Facts { peer, ..facts })
}

/// Exchanges messages until the handshake is over, or early data has come.
async fn drive(stream: &Stream, conn: &mut Connection, first: &[u8]) -> Result<(), Failure> {
    let mut input = first.to_vec();
    loop {
        let processed = feed(conn, &input);
        if processed.is_ok() && !conn.is_handshaking() && !is_awaited(conn) {
            return Ok(());
        }
        send(stream, conn).await?;
        processed.map_err(Failure::Tls)?;
        let early = match conn {
            Connection::Server(server) => server.early_data().is_some(),
            Connection::Client(_) => false,
        };
        if !conn.is_handshaking() || early {
            return Ok(());
        }
        input.clear();
        if receive(stream, &mut input).await? == 0 {
            return Err(Failure::Closed);
        }
    }
}

/// Whether the peer needs the handshake's last words before it goes on. Tickets and a client's own last words need not leave at
/// once: they go out with the first bytes that are written, or when the session waits.
fn is_awaited(conn: &Connection) -> bool {
    matches!(conn, Connection::Server(_)) && conn.protocol_version() != Some(ProtocolVersion::TLSv1_3)
}

fn feed(conn: &mut Connection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        if conn.read_tls(&mut bytes).is_err() {
            return Err(Error::General("received too much".to_owned()));
        }
        conn.process_new_packets()?;
    }
    conn.process_new_packets().map(|_| ())
}

async fn send(stream: &Stream, conn: &mut Connection) -> io::Result<()> {
    while conn.wants_write() {
        let mut out = Vec::with_capacity(4096);
        while conn.wants_write() {
            conn.write_tls(&mut out)?;
        }
        stream.write_all(&out).await?;
    }
    Ok(())
}

async fn receive(stream: &Stream, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut buf = bytes::BytesMut::with_capacity(PIECE);
    let n = stream.read(&mut buf, PIECE).await?;
    into.extend_from_slice(&buf);
    Ok(n)
}

/// Whether what came first is the beginning of a handshake.
pub fn begins(first: u8) -> bool {
    first == 0x16 || first & 0x80 != 0
}

//! Connecting to a server of a group.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::Conf;
use super::pool::{self, Connection};
use crate::conf::args::text;
use crate::conf::field::Size;
use crate::conf::{Args, Field, Problem};
use crate::http::flow::Side;
use crate::http::{Cause, Fault, Request, Stage, Value};
use crate::net::addr::{self, Endpoint};
use crate::net::clock;
use crate::net::counts::{self, Open};
use crate::net::timer::within;
use crate::net::tls::dial::{Dial, Refusal};
use crate::net::{Level, Stream};

/// The local address of connections: `*_bind`.
#[derive(Clone, Debug)]
pub struct Bind {
    address: Value,
    /// Whether it need not be one of this machine.
    transparent: bool,
}

/// A local address, and whether it need not be one of this machine.
pub type Local = (SocketAddr, bool);

impl Bind {
    /// Reads the arguments of the directive.
    pub fn read(field: &mut Option<Self>, args: &mut Args<'_>) -> Result<(), Problem> {
        if args.len() == 1 && args.word(0) == b"off" {
            *field = None;
            return Ok(());
        }
        let address = Value::read(args.word(0), args)?;
        if address.as_literal().is_some_and(|literal| addr::literal(literal).is_none()) {
            return Err(Problem::new(format!("invalid address \"{}\"", text(args.word(0)))).at(0));
        }
        let transparent = match args.get(1) {
            None => false,
            Some(b"transparent") => {
                args.env.transparent = true;
                true
            }
            Some(other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(1)),
        };
        *field = Some(Self { address, transparent });
        Ok(())
    }

    /// The address for this request.
    pub fn local(&self, request: &Request) -> Option<Local> {
        let address = self.address.get(request);
        if address.is_empty() {
            return None;
        }
        let found = addr::literal(&address);
        if found.is_none() {
            request.log(Level::Error, &format!("invalid local address \"{}\"", text(&address)));
        }
        Some((found?, self.transparent))
    }
}

/// Opens a connection within `connect_timeout`.
pub async fn connect(
    conf: &Conf,
    at: &Endpoint,
    bind: Option<Local>,
    secure: Option<&Dial>,
) -> Result<Connection, Fault> {
    let full =
        |limit| Fault { side: Side::Here, stage: Stage::Connect, cause: Cause::Protocol(counts::not_enough(limit)) };
    let again = |_| {
        pool::make_room();
        Open::new()
    };
    let open = Open::new().or_else(again).map_err(full)?;
    let opening = async {
        Ok::<Stream, io::Error>(match at {
            Endpoint::Unix(path) => UnixStream::connect(path).await?.into(),
            Endpoint::Inet(addr) => {
                let stream = tcp(conf, *addr, bind).await?;
                if conf.socket_keepalive {
                    socket2::SockRef::from(&stream).set_keepalive(true)?;
                }
                stream.into()
            }
        })
    };
    let limit: Duration = conf.connect_timeout;
    match within(limit, pin!(opening)).await {
        Some(Ok(stream)) => {
            if let Some(secure) = secure {
                // Requests on plain or kept connections have no room for it.
                Box::pin(shake(secure, &stream, at, limit)).await?;
            }
            Ok(Connection { stream: Rc::new(stream), opened: clock::instant(), requests: 0, open, h2: None })
        }
        Some(Err(error)) => Err(Fault::upstream(Stage::Connect, Cause::Io(error))),
        None => Err(Fault::upstream(Stage::Connect, Cause::TimedOut)),
    }
}

async fn shake(secure: &Dial, stream: &Stream, at: &Endpoint, limit: Duration) -> Result<(), Fault> {
    // The last message of the handshake and the request leave one behind the other.
    stream.set_nodelay(true);
    let peer = match at {
        Endpoint::Inet(addr) => Some(addr.ip()),
        Endpoint::Unix(_) => None,
    };
    let cause = match within(limit, secure.shake(stream, peer)).await {
        Some(Ok(())) => return Ok(()),
        Some(Err(Refusal::Io(error))) => Cause::Io(error),
        Some(Err(Refusal::Words(words))) => Cause::Protocol(words),
        None => Cause::TimedOut,
    };
    Err(Fault::upstream(Stage::Handshake, cause))
}

async fn tcp(conf: &Conf, addr: SocketAddr, bind: Option<Local>) -> io::Result<TcpStream> {
    let (receive, send) = (conf.socket_rcvbuf, conf.socket_sndbuf);
    if bind.is_none() && receive.is_none() && send.is_none() {
        return TcpStream::connect(addr).await;
    }
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let size = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = send {
        socket.set_send_buffer_size(size(bytes))?;
    }
    if let Some((local, transparent)) = bind {
        if transparent {
            let socket = socket2::SockRef::from(&socket);
            if local.is_ipv4() { socket.set_ip_transparent_v4(true)? } else { socket.set_ip_transparent_v6(true)? }
        }
        socket.set_reuseaddr(true)?;
        socket.bind(local)?;
    }
    socket.connect(addr).await
}

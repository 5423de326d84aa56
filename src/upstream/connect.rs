//! Connecting to a server of a group.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Type};
use tokio::net::{TcpStream, UnixStream};

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
    let fault = |error| Fault::upstream(Stage::Connect, Cause::Io(error));
    let mut stream = begin(conf, at, bind).map_err(fault)?;
    let limit: Duration = conf.connect_timeout;
    match within(limit, stream.connected()).await {
        Some(Ok(())) => {}
        Some(Err(error)) => return Err(fault(error)),
        None => return Err(Fault::upstream(Stage::Connect, Cause::TimedOut)),
    }
    if let Some(secure) = secure {
        // Requests on plain or kept connections have no room for it.
        Box::pin(shake(secure, &stream, at, limit)).await?;
    }
    Ok(Connection { stream: Rc::new(stream), opened: clock::instant(), requests: 0, open, h2: None })
}

/// Begins to connect.
fn begin(conf: &Conf, at: &Endpoint, bind: Option<Local>) -> io::Result<Stream> {
    let (domain, address) = match at {
        Endpoint::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Endpoint::Inet(addr) => (Domain::for_address(*addr), SockAddr::from(*addr)),
    };
    let socket = socket2::Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    let is_unix = domain == Domain::UNIX;
    if !is_unix {
        adjust(&socket, conf, bind)?;
        // The request acknowledges the handshake as well: a packet less, and a server that waits wakes once.
        socket.set_tcp_quickack(false)?;
    }
    match socket.connect(&address) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    if is_unix {
        return UnixStream::from_std(OwnedFd::from(socket).into()).map(Stream::from);
    }
    TcpStream::from_std(socket.into()).map(Stream::from)
}

async fn shake(secure: &Dial, stream: &Stream, at: &Endpoint, limit: Duration) -> Result<(), Fault> {
    // The last message of the handshake and the request leave one behind the other.
    stream.set_nodelay(true);
    let peer = match at {
        Endpoint::Inet(addr) => Some(addr.ip()),
        Endpoint::Unix(_) => None,
    };
    let cause = match within(limit, secure.shake(stream, peer)).await {
        Some(Ok(())) => {
            stream.acknowledge_quickly();
            return Ok(());
        }
        Some(Err(Refusal::Io(error))) => Cause::Io(error),
        Some(Err(Refusal::Words(words))) => Cause::Protocol(words),
        None => Cause::TimedOut,
    };
    Err(Fault::upstream(Stage::Handshake, cause))
}

fn adjust(socket: &socket2::Socket, conf: &Conf, bind: Option<Local>) -> io::Result<()> {
    let size = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    if conf.socket_keepalive {
        socket.set_keepalive(true)?;
    }
    if let Some(bytes) = conf.socket_rcvbuf {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = conf.socket_sndbuf {
        socket.set_send_buffer_size(size(bytes))?;
    }
    if let Some((local, transparent)) = bind {
        if transparent {
            if local.is_ipv4() { socket.set_ip_transparent_v4(true)? } else { socket.set_ip_transparent_v6(true)? }
        }
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
    }
    Ok(())
}

//! Connecting to a server of a group.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;
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

/// Opens a connection within `connect_timeout`, and sends what fits of `first` if the server is there at once; says how much.
pub async fn connect(
    conf: &Conf,
    at: &Endpoint,
    bind: Option<Local>,
    secure: Option<&Dial>,
    first: [&[u8]; 2],
) -> Result<(Connection, usize), Fault> {
    let full =
        |limit| Fault { side: Side::Here, stage: Stage::Connect, cause: Cause::Protocol(counts::not_enough(limit)) };
    let again = |_| {
        pool::make_room();
        Open::new()
    };
    let open = Open::new().or_else(again).map_err(full)?;
    let fault = |error| Fault::upstream(Stage::Connect, Cause::Io(error));
    let first = if secure.is_none() { first } else { [&[][..]; 2] };
    let speaks = first.iter().any(|part| !part.is_empty());
    let mut socket = Socket::connect(conf, at, bind, speaks).map_err(fault)?;
    let sent = if speaks { socket.send(first).await.map_err(fault)? } else { 0 };
    let connected = socket.connected;
    let stream = socket.register().map_err(fault)?;
    let limit: Duration = conf.connect_timeout;
    if !connected {
        match within(limit, stream.connected()).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(fault(error)),
            None => return Err(Fault::upstream(Stage::Connect, Cause::TimedOut)),
        }
    }
    if let Some(secure) = secure {
        // Requests on plain or kept connections have no room for it.
        Box::pin(shake(secure, &stream, at, limit)).await?;
    }
    Ok((Connection { stream: Rc::new(stream), opened: clock::instant(), requests: 0, open, h2: None }, sent))
}

/// A socket on its way to a server, which the event loop does not know yet.
struct Socket {
    inner: socket2::Socket,
    is_unix: bool,
    connected: bool,
}

impl Socket {
    /// Begins to connect; `speaks` says that something is sent as soon as that is done.
    fn connect(conf: &Conf, at: &Endpoint, bind: Option<Local>, speaks: bool) -> io::Result<Self> {
        let (is_unix, domain, address) = match at {
            Endpoint::Unix(path) => (true, Domain::UNIX, SockAddr::unix(path)?),
            Endpoint::Inet(addr) => (false, Domain::for_address(*addr), SockAddr::from(*addr)),
        };
        let inner = socket2::Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), None)?;
        if !is_unix {
            adjust(&inner, conf, bind)?;
        }
        if !is_unix && speaks {
            // What is sent acknowledges the handshake as well: a packet less, and a server that waits wakes once.
            inner.set_tcp_quickack(false)?;
        }
        let connected = match inner.connect(&address) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => false,
            Err(error) => return Err(error),
        };
        Ok(Self { inner, is_unix, connected })
    }

    /// Sends what it can, which is nothing as long as the server is not there; one on this machine already is.
    async fn send(&mut self, parts: [&[u8]; 2]) -> io::Result<usize> {
        // What else connects in this turn does so first: a server that the first of their requests wakes finds them all.
        yield_turn().await;
        let sent = match parts {
            [whole, []] => self.inner.send(whole),
            parts => self.inner.send_vectored(&parts.map(IoSlice::new)),
        };
        match sent {
            Ok(sent) => {
                self.connected = true;
                Ok(sent)
            }
            // Where there is a connection, it is sending that fails, and fails again.
            Err(error) if self.connected || error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn register(self) -> io::Result<Stream> {
        if self.is_unix {
            return UnixStream::from_std(OwnedFd::from(self.inner).into()).map(Stream::from);
        }
        TcpStream::from_std(self.inner.into()).map(Stream::from)
    }
}

/// Lets every task run that is ready; unlike the runtime's own, this does not ask the kernel what else is.
async fn yield_turn() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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

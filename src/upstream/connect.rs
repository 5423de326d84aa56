//! Connecting to a server of a group.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::Conf;
use super::pool::Connection;
use crate::http::flow::Side;
use crate::http::{Cause, Fault, Stage};
use crate::net::Stream;
use crate::net::addr::Endpoint;
use crate::net::clock;
use crate::net::counts::{self, Open};
use crate::net::timer::within;

/// Opens a connection within `connect_timeout`.
pub async fn connect(conf: &Conf, at: &Endpoint, bind: Option<SocketAddr>) -> Result<Connection, Fault> {
    let full =
        |limit| Fault { side: Side::Here, stage: Stage::Connect, cause: Cause::Protocol(counts::not_enough(limit)) };
    let open = Open::new().map_err(full)?;
    let opening = async {
        Ok::<Stream, io::Error>(match at {
            Endpoint::Unix(path) => UnixStream::connect(path).await?.into(),
            Endpoint::Inet(addr) => {
                let stream = tcp(*addr, bind).await?;
                if conf.socket_keepalive {
                    socket2::SockRef::from(&stream).set_keepalive(true)?;
                }
                if conf.socket_rcvbuf > 0 {
                    socket2::SockRef::from(&stream).set_recv_buffer_size(size(conf.socket_rcvbuf))?;
                }
                if conf.socket_sndbuf > 0 {
                    socket2::SockRef::from(&stream).set_send_buffer_size(size(conf.socket_sndbuf))?;
                }
                stream.into()
            }
        })
    };
    let limit: Duration = conf.connect_timeout;
    match within(limit, opening).await {
        Some(Ok(stream)) => {
            Ok(Connection { stream: Rc::new(stream), opened: clock::instant(), requests: 0, open, h2: None })
        }
        Some(Err(error)) => Err(Fault::upstream(Stage::Connect, Cause::Io(error))),
        None => Err(Fault::upstream(Stage::Connect, Cause::TimedOut)),
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

async fn tcp(addr: SocketAddr, bind: Option<SocketAddr>) -> io::Result<TcpStream> {
    let Some(local) = bind else { return TcpStream::connect(addr).await };
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(local)?;
    socket.connect(addr).await
}

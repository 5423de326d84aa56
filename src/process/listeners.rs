//! Listening sockets: one a thread for TCP, opened or inherited once, and kept across reloads.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::order::Slot;
use crate::conf::load::os_error;
use crate::net::addr::Endpoint;
use crate::net::addr::Options;
use crate::table::{Listen, listen};

/// nginx's length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 511;

/// The sockets of every address.
#[derive(Default)]
pub struct Listeners {
    open: BTreeMap<Endpoint, Vec<Socket>>,
    inherited: BTreeMap<Endpoint, Vec<Socket>>,
}

/// Sockets that a reload no longer needs. They may still hold connections that nobody has accepted.
pub struct Retired(BTreeMap<Endpoint, Vec<Socket>>);

impl Listeners {
    /// None are open; what stands at an address of `inherited` is used for it.
    pub fn inheriting(inherited: Vec<OwnedFd>) -> Self {
        let mut listeners = Self::default();
        for socket in inherited.into_iter().map(Socket::from) {
            let at = socket.local_addr().ok().and_then(|addr| match addr.as_socket() {
                Some(addr) => Some(Endpoint::Inet(addr)),
                None => addr.as_pathname().map(|path| Endpoint::Unix(path.to_owned())),
            });
            if let (Some(at), Ok(())) = (at, socket.set_nonblocking(true)) {
                listeners.inherited.entry(at).or_default().push(socket);
            }
        }
        listeners
    }

    /// Opens what `listens` want and is not open, for `threads` threads; nothing changes where that fails.
    pub fn update(&mut self, listens: &[Arc<Listen>], threads: usize) -> Result<Retired> {
        let wanted = listen::sockets(listens);
        let mut opened = BTreeMap::new();
        for listen in &wanted {
            let known = self.open.get(&listen.addr).or_else(|| self.inherited.get(&listen.addr));
            let sockets = known.map(|known| more(listen, known, threads)).unwrap_or_else(|| open(listen, threads))?;
            opened.insert(listen.addr.clone(), sockets);
        }
        self.inherited.clear();
        let old = std::mem::replace(&mut self.open, opened);
        Ok(Retired(old.into_iter().filter(|(at, _)| !self.open.contains_key(at)).collect()))
    }

    /// Every socket with its place.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, BorrowedFd<'_>)> {
        let numbered = |(at, sockets): (&Endpoint, &'_ Vec<Socket>)| (at.clone(), sockets.len());
        let all: Vec<(Endpoint, usize)> = self.open.iter().map(numbered).collect();
        let numbers = all.into_iter().flat_map(|(at, count)| (0..count).map(move |number| (at.clone(), number)));
        numbers.zip(self.open.values().flatten().map(AsFd::as_fd))
    }

    /// The descriptors of all sockets, for a successor.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        self.open.values().flatten().map(AsRawFd::as_raw_fd)
    }

    /// Removes the files of unix sockets.
    pub fn clean(&self) {
        self.open.keys().for_each(remove_unix);
    }
}

impl Retired {
    /// Closes them, once nobody accepts from them any more.
    pub fn close(self) {
        self.0.keys().for_each(remove_unix);
    }
}

/// The sockets that are open already, and more where there are more threads.
fn more(listen: &Listen, known: &[Socket], threads: usize) -> Result<Vec<Socket>> {
    let mut sockets = known.iter().map(Socket::try_clone).collect::<io::Result<Vec<_>>>()?;
    while let (Some(first), true) = (sockets.first(), sockets.len() < threads) {
        let own = match &listen.addr {
            Endpoint::Inet(_) => first.set_reuse_port(true).and_then(|()| bind(listen, true)).ok(),
            Endpoint::Unix(_) => None,
        };
        let own = own.filter(|own| own.listen(listen.options.backlog.unwrap_or(BACKLOG)).is_ok());
        let next = own.map_or_else(|| first.try_clone(), Ok)?;
        sockets.push(next);
    }
    Ok(sockets)
}

fn open(listen: &Listen, threads: usize) -> Result<Vec<Socket>> {
    let mut tries = 0;
    let first = loop {
        match bind(listen, false) {
            Ok(socket) => break socket,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 4 => {
                eprintln!("nginx: [emerg] {}", sentence(listen, &error));
                tries += 1;
                std::thread::sleep(Duration::from_millis(500));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                eprintln!("nginx: [emerg] {}", sentence(listen, &error));
                bail!("still could not bind()");
            }
            Err(error) => bail!(sentence(listen, &error)),
        }
    };
    let single = threads == 1 && !listen.options.reuseport;
    if single || matches!(listen.addr, Endpoint::Unix(_)) {
        first.listen(listen.options.backlog.unwrap_or(BACKLOG))?;
        return (0..threads).map(|_| Ok(first.try_clone()?)).collect();
    }
    // The address is free; threads share it through sockets of their own.
    drop(first);
    let socket = |_| -> Result<Socket> {
        let socket = bind(listen, true).map_err(|error| anyhow::anyhow!(sentence(listen, &error)))?;
        socket.listen(listen.options.backlog.unwrap_or(BACKLOG))?;
        Ok(socket)
    };
    (0..threads).map(socket).collect()
}

fn sentence(listen: &Listen, error: &io::Error) -> String {
    format!("bind() to {} failed ({})", listen.addr, os_error(error))
}

fn bind(listen: &Listen, share: bool) -> io::Result<Socket> {
    let (domain, addr) = match &listen.addr {
        Endpoint::Inet(addr) => (Domain::for_address(*addr), SockAddr::from(*addr)),
        Endpoint::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match &listen.addr {
        Endpoint::Inet(addr) => {
            socket.set_reuse_address(true)?;
            if addr.is_ipv6() {
                socket.set_only_v6(listen.options.ipv6only.unwrap_or(true))?;
            }
            if share {
                socket.set_reuse_port(true)?;
            }
        }
        Endpoint::Unix(path) => clear_stale(path),
    }
    options(&socket, &listen.options)?;
    socket.bind(&addr)?;
    if let Endpoint::Unix(path) = &listen.addr {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    }
    Ok(socket)
}

fn options(socket: &Socket, options: &Options) -> io::Result<()> {
    if let Some(size) = options.rcvbuf {
        socket.set_recv_buffer_size(usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    if let Some(size) = options.sndbuf {
        socket.set_send_buffer_size(usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    if let Some((on, [idle, interval, count])) = options.so_keepalive {
        socket.set_keepalive(on)?;
        let seconds = |n: u32| Duration::from_secs(n.into());
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = idle {
            keepalive = keepalive.with_time(seconds(idle));
        }
        if let Some(interval) = interval {
            keepalive = keepalive.with_interval(seconds(interval));
        }
        if let Some(count) = count {
            keepalive = keepalive.with_retries(count);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Removes a socket file that nobody listens on any more, as a crash leaves it.
fn clear_stale(path: &Path) {
    let is_socket = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

fn remove_unix(addr: &Endpoint) {
    if let Endpoint::Unix(path) = addr {
        let _ = std::fs::remove_file(path);
    }
}

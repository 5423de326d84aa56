//! Listening sockets: opened once, one a thread for TCP, kept across reloads.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::conf::load::os_error;
use crate::net::addr::Endpoint;
use crate::net::addr::Options;
use crate::table::{Listen, Table};

/// nginx's length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 511;

/// The sockets of every address, one for each thread.
#[derive(Default)]
pub struct Listeners {
    open: HashMap<Endpoint, Vec<Socket>>,
}

/// What a reload changes.
#[derive(Default)]
pub struct Change {
    /// Sockets to serve from now on: a list for each thread.
    pub added: Vec<Vec<(Endpoint, Socket)>>,
    /// Addresses to serve no longer.
    pub removed: Vec<Endpoint>,
}

impl Listeners {
    /// Opens what `table` wants and is not open, for `threads` threads; nothing changes where that fails.
    pub fn update(&mut self, table: &Table, threads: usize) -> Result<Change> {
        let wanted = sockets(&table.listens);
        let mut change = Change { added: (0..threads).map(|_| Vec::new()).collect(), removed: Vec::new() };
        let mut opened = HashMap::new();
        for listen in &wanted {
            if !self.open.contains_key(&listen.addr) {
                opened.insert(listen.addr.clone(), open(listen, threads)?);
            }
        }
        for (addr, sockets) in &opened {
            for (thread, socket) in change.added.iter_mut().zip(sockets) {
                thread.push((addr.clone(), socket.try_clone()?));
            }
        }
        change.removed =
            self.open.keys().filter(|addr| !wanted.iter().any(|listen| listen.addr == **addr)).cloned().collect();
        for addr in &change.removed {
            self.open.remove(addr);
            remove_unix(addr);
        }
        self.open.extend(opened);
        Ok(change)
    }

    /// Removes the files of unix sockets.
    pub fn clean(&self) {
        self.open.keys().for_each(remove_unix);
    }
}

/// The addresses that need a socket: one that a wildcard of its port covers needs none of its own.
fn sockets(listens: &[std::sync::Arc<Listen>]) -> Vec<&Listen> {
    let covered = |listen: &Listen| {
        let Endpoint::Inet(addr) = &listen.addr else { return false };
        let wildcard = |other: &Listen| match &other.addr {
            Endpoint::Inet(any) => {
                any.ip().is_unspecified() && any.port() == addr.port() && any.is_ipv4() == addr.is_ipv4()
            }
            Endpoint::Unix(_) => false,
        };
        !addr.ip().is_unspecified() && listens.iter().any(|other| wildcard(other))
    };
    listens.iter().map(AsRef::as_ref).filter(|listen| !covered(listen)).collect()
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

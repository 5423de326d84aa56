//! Log lines as datagrams to a syslog server (RFC 3164): <https://nginx.org/en/docs/syslog.html>
//!
//! Nobody waits for the server: what it does not take at once is lost.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, PoisonError};

use super::addr::Endpoint;
use super::clock;

/// Facilities by number.
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp", "ntp",
    "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// A syslog server and how it is spoken to.
#[derive(Debug)]
pub struct Syslog {
    /// Where it is.
    pub server: Endpoint,
    /// The number of the facility, 0 to 23.
    pub facility: u8,
    /// The severity of lines that have none of their own, 0 to 7.
    pub severity: u8,
    /// What the lines begin with.
    pub tag: String,
    /// Our name, where it is sent.
    pub hostname: Option<String>,
    /// The socket, made when it is needed and after a failure.
    pub socket: Mutex<Option<Socket>>,
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// UDP.
    Udp(UdpSocket),
    /// A unix socket.
    Unix(UnixDatagram),
}

impl Syslog {
    /// Sends one line without its newline; false if it is lost.
    pub fn send(&self, severity: u8, line: &[u8]) -> bool {
        let (priority, texts) = (self.facility * 8 + severity, clock::now().1);
        let host = self.hostname.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        let mut message = format!("<{priority}>{} {host}{}: ", texts.syslog, self.tag).into_bytes();
        message.extend_from_slice(line);
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.is_none() {
            *socket = Socket::connect(&self.server).ok();
        }
        let sent = socket.as_ref().map(|socket| socket.send(&message));
        if matches!(&sent, Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock) {
            *socket = None;
        }
        matches!(sent, Some(Ok(_)))
    }
}

impl Socket {
    fn connect(server: &Endpoint) -> io::Result<Self> {
        match server {
            Endpoint::Inet(server) => {
                let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                socket.connect(server)?;
                Ok(Socket::Udp(socket))
            }
            Endpoint::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Ok(Socket::Unix(socket))
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Udp(socket) => socket.send(message),
            Socket::Unix(socket) => socket.send(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_server_that_goes_and_comes() {
        let path = std::env::temp_dir().join(format!("nginx-rs-syslog-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let log = Syslog {
            server: Endpoint::Unix(path.clone()),
            facility: 23,
            severity: 6,
            tag: "a".to_owned(),
            hostname: None,
            socket: Mutex::default(),
        };
        assert!(!log.send(6, b"lost"));
        for _ in 0..2 {
            let server = UnixDatagram::bind(&path).unwrap();
            let mut buf = [0; 100];
            // What a server that went left behind is noticed with the first line.
            log.send(3, b"one");
            assert!(log.send(6, b"two"));
            let mut found = String::new();
            while !found.ends_with(" a: two") {
                let length = server.recv(&mut buf).unwrap();
                found = String::from_utf8(buf[..length].to_vec()).unwrap();
            }
            assert!(found.starts_with("<190>"), "{found}");
            drop(server);
            std::fs::remove_file(&path).unwrap();
        }
    }
}

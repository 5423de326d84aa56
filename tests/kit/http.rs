//! A raw HTTP/1.1 client (RFC 9112): sends the bytes it is given, keeps the order and case of the headers it gets.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest silence of a peer.
const SILENCE: Duration = Duration::from_secs(15);

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The line without its CRLF, such as `HTTP/1.1 200 OK`.
    pub status_line: String,
    /// 100–599, or 0 where the line has none.
    pub status: u16,
    /// In the order and case of the wire.
    pub headers: Vec<(String, String)>,
    /// Chunks joined.
    pub body: Vec<u8>,
    /// Statuses of interim responses before this one.
    pub interim: Vec<u16>,
}

impl Response {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All headers of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text, with replacement characters for what is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for status in &self.interim {
            writeln!(f, "(interim {status})")?;
        }
        writeln!(f, "{}", self.status_line)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        writeln!(f)
    }
}

/// One connection to a server on 127.0.0.1, plain unless said otherwise.
pub struct Connection<S = TcpStream> {
    stream: BufReader<S>,
}

impl Connection {
    /// Connects; reads and writes fail after fifteen seconds of silence.
    pub fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Does the peer close without sending more? Waits a moment for it.
    pub fn closed_within(&mut self, limit: Duration) -> bool {
        let set = self.stream.get_ref().set_read_timeout(Some(limit));
        let end = matches!(self.stream.fill_buf(), Ok([]));
        set.is_ok() && self.stream.get_ref().set_read_timeout(Some(SILENCE)).is_ok() && end
    }

    /// The socket, for what runs over it.
    pub fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }
}

impl<S: Read + Write> Connection<S> {
    /// A connection over what is open already.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// What it runs over.
    pub fn inner(&self) -> &S {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Exactly `length` bytes.
    pub fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The head of a response, interim ones before it noted; `UnexpectedEof` if the peer closed first.
    pub fn read_head(&mut self) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.read_one_head()?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                response.interim = interim;
                return Ok(response);
            }
            interim.push(response.status);
        }
    }

    /// A whole response; `bodiless` says that it answers HEAD.
    pub fn read_response(&mut self, bodiless: bool) -> io::Result<Response> {
        let mut response = self.read_head()?;
        if bodiless || matches!(response.status, 101 | 204 | 304) {
            return Ok(response);
        }
        response.body = if response.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            self.read_chunks()?
        } else if let Some(length) = response.header("Content-Length") {
            self.take(length.parse().map_err(invalid)?)?
        } else {
            let mut rest = Vec::new();
            self.stream.read_to_end(&mut rest)?;
            rest
        };
        Ok(response)
    }

    fn read_one_head(&mut self) -> io::Result<Response> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(line.as_str()))?;
            headers.push((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()));
        }
        Ok(Response { status_line, status, headers, body: Vec::new(), interim: Vec::new() })
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let digits = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(digits, 16).map_err(invalid)?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.append(&mut self.take(size)?);
            if !self.read_line()?.is_empty() {
                return Err(invalid("a chunk is longer than its size"));
            }
        }
    }

    /// A line ended by CRLF, without it.
    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.iter().copied().map(char::from).collect()),
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(invalid("a line without CRLF")),
        }
    }
}

/// Sends `request` on a new connection and reads the answer.
pub fn exchange(port: u16, request: &[u8]) -> io::Result<Response> {
    let mut connection = Connection::open(port)?;
    connection.send(request)?;
    connection.read_response(request.starts_with(b"HEAD "))
}

/// GET `path` with `Host: localhost`.
pub fn get(port: u16, path: &str) -> io::Result<Response> {
    exchange(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
}

fn invalid<E: Into<Box<dyn std::error::Error + Send + Sync>>>(why: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

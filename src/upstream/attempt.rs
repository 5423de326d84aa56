//! One try at one server: connect, send, read the head.

use std::pin::{Pin, pin};
use std::time::Instant;

use bytes::BytesMut;

use super::balance::Choice;
use super::conf::NextUpstream;
use super::connect::connect;
use super::exchange::{Failed, Tried};
use super::pool::{self, Connection};
use super::protocol::{Length, Outgoing, Protocol, ReplyHead};
use super::{Conf, Shared, h2, report};
use crate::conf::load::os_error;
use crate::http::flow::Side;
use crate::http::h1::write::{self, Rate, Writer};
use crate::http::request::{Attempt, Client, Version};
use crate::http::{Body, Cause, Fault, Headers, Request, Stage, Value};
use crate::net::addr::Endpoint;
use crate::net::clock;
use crate::net::stream::make_room;
use crate::net::timer::within;
use crate::net::tls::Dial;
use crate::net::{Level, Stream};

/// Tries the server that `choice` holds.
pub async fn run<P: Protocol>(
    protocol: &mut P,
    shared: &Shared,
    choice: &mut Choice,
    outgoing: &Outgoing,
    request: &mut Request,
) -> Result<Tried, Failed> {
    let started = clock::instant();
    let (at, name) = match choice.peer() {
        Some(peer) => (peer.address.clone(), peer.name.clone()),
        None => return Err(Failed::new(NextUpstream::ERROR, Stage::Connect)),
    };
    request.upstream.attempts.borrow_mut().push(Attempt { addr: name.clone(), ..Attempt::default() });
    let pooled = pool::take(choice.pool_key(), protocol.is_http2());
    let secure = choice.secure.clone();
    let scheme = secure.as_ref().map_or(P::SCHEME, |secure| secure.scheme);
    request.upstream.url = Some(outgoing.url::<P>(scheme));
    protocol.restart();
    let mut progress = Progress { reused: pooled.is_some(), sent: false, connected: None, bytes: 0, received: 0 };
    let line = Line { shared, at: &at, pooled, secure: secure.as_deref() };
    let result = talk(protocol, outgoing, request, line, &mut progress).await;
    let mut attempts = request.upstream.attempts.borrow_mut();
    let mut record = attempts.last_mut();
    if let Some(record) = &mut record {
        record.connect_time = progress.connected.map(|connected| connected - started);
        record.sent = progress.bytes;
        record.received = progress.received;
    }
    match result {
        Ok((head, rest, connection)) => {
            if let Some(record) = record {
                record.status = head.status;
                record.header_time = Some(clock::since(started));
            }
            Ok(Tried { head, rest, connection, started })
        }
        Err(fault) => {
            let mut failed = Failed::of(&fault, &progress);
            if let Some(record) = record {
                if !failed.is_hopeless() {
                    record.status = failed.status();
                }
                record.response_time = Some(clock::since(started));
            }
            drop(attempts);
            if fault.side == Side::Client && matches!(fault.cause, Cause::TimedOut) {
                // Nobody is told that the client fell silent inside its body.
            } else if fault.side == Side::Client {
                let text = match &fault.cause {
                    Cause::Protocol(text) => text.clone(),
                    _ => report::left(&request.client.stream),
                };
                // A reply is being read once some of it came.
                let stage = if progress.received == 0 { fault.stage.min(Stage::Send) } else { fault.stage };
                request.log(Level::Info, &format!("{text} while {}", report::stage(stage)));
            } else if failed.is_timeout() {
                // nginx first says what becomes of the server.
                failed.silent = Some((fault, at));
            } else {
                report::log(request, &fault, &at);
            }
            Err(failed)
        }
    }
}

/// The way to a server: its settings, its address, and an idle connection to it.
struct Line<'a> {
    shared: &'a Shared,
    at: &'a Endpoint,
    pooled: Option<Connection>,
    secure: Option<&'a Dial>,
}

/// How far a try got.
pub struct Progress {
    /// Whether its connection had been used before.
    pub reused: bool,
    /// When there was a connection.
    pub connected: Option<Instant>,
    /// Whether any of the request was sent.
    pub sent: bool,
    /// Bytes of it that were sent.
    pub bytes: u64,
    /// Bytes that came back.
    pub received: u64,
}

type Heard = (ReplyHead, BytesMut, Connection);

async fn talk<P: Protocol>(
    protocol: &mut P,
    outgoing: &Outgoing,
    request: &mut Request,
    line: Line<'_>,
    progress: &mut Progress,
) -> Result<Heard, Fault> {
    let conf = &line.shared.conf;
    let mut connection = match line.pooled {
        Some(connection) => connection,
        None => {
            let bind = conf.bind.as_ref().and_then(|bind| bind.local(request));
            let client = std::rc::Rc::clone(&request.client);
            let opening = pin!(connect(conf, line.at, bind, line.secure));
            watched(conf, &client, request.body.is_done(), Stage::Connect, opening).await?
        }
    };
    connection.requests += 1;
    progress.connected = Some(clock::instant());
    progress.sent = true;
    if protocol.is_http2() {
        if connection.requests == 1 {
            connection.stream.acknowledge_quickly();
        }
        let (client, body_done) = (std::rc::Rc::clone(&request.client), request.body.is_done());
        let (head, rest) = {
            let talking = pin!(h2::talk(line.shared, outgoing, request, &mut connection, progress));
            watched(conf, &client, body_done, Stage::Head, talking).await?
        };
        return Ok((head, rest, connection));
    }
    let mut writer = Writer::new(&connection.stream, conf.send_timeout, Rate::default());
    let early = send(protocol, outgoing, request, &mut writer).await;
    progress.bytes = writer.sent;
    let early = early?;
    let client = std::rc::Rc::clone(&request.client);
    let (mut head, rest) = {
        let reading = pin!(head(protocol, line.shared, &connection.stream, request, progress));
        watched(conf, &client, request.body.is_done(), Stage::Head, reading).await?
    };
    head.keep_alive &= !early;
    let whole = matches!(head.length, Length::Known(length) if length <= rest.len() as u64);
    if connection.requests == 1 && !whole {
        connection.stream.acknowledge_quickly();
    }
    Ok((head, rest, connection))
}

/// Sends the request; true if the server answered before it had all of it.
async fn send<P: Protocol>(
    protocol: &P,
    outgoing: &Outgoing,
    request: &mut Request,
    writer: &mut Writer<'_>,
) -> Result<bool, Fault> {
    let upstream = |fault: Fault| match fault.side {
        Side::Client => Fault::upstream(Stage::Send, fault.cause),
        _ => fault,
    };
    let stream = writer.stream;
    if matches!(outgoing.body, None | Some(Body::File(_))) {
        // What takes several writes must not wait for acknowledgements.
        stream.set_nodelay(true);
    }
    if !outgoing.streams() {
        let sending = async {
            match protocol.body(outgoing.kept()) {
                Body::Empty => writer.send_whole(&outgoing.head).await,
                body => writer.send(outgoing.head.clone(), body, false).await,
            }
        };
        return tokio::select! {
            biased;
            sent = sending => sent.map(|()| false).map_err(upstream),
            _ = stream.readable() => Ok(true),
        };
    }
    writer.push(outgoing.head.clone());
    // The head waits for what is there of the body, not for more.
    if !request.body.has_some() {
        writer.flush().await.map_err(upstream)?;
    }
    loop {
        let next = tokio::select! {
            biased;
            next = request.body.some() => next,
            _ = stream.readable() => return Ok(true),
        };
        let (bytes, last) = next.map_err(|fault| unfinished(fault, request))?;
        protocol.piece(bytes, last, writer);
        writer.flush().await.map_err(upstream)?;
        if last {
            return Ok(false);
        }
    }
}

/// The client left or fell silent inside its body: nobody is there to be answered.
fn unfinished(fault: Fault, request: &mut Request) -> Fault {
    let fault = Fault { stage: Stage::Send, ..fault };
    if fault.side != Side::Client || request.client.h2.is_some() {
        return fault;
    }
    request.body.lost |= matches!(fault.cause, Cause::Closed | Cause::Io(_) | Cause::TimedOut);
    let text = match &fault.cause {
        Cause::Closed => "client prematurely closed connection".to_owned(),
        Cause::Io(error) => format!("recv() failed ({})", os_error(error)),
        _ => return fault,
    };
    Fault { cause: Cause::Protocol(text), ..fault }
}

/// Reads a head.
async fn head<P: Protocol>(
    protocol: &mut P,
    shared: &Shared,
    stream: &Stream,
    request: &Request,
    progress: &mut Progress,
) -> Result<(ReplyHead, BytesMut), Fault> {
    let (conf, mut hinted) = (&shared.conf, 0);
    let largest = usize::try_from(conf.buffer_size).unwrap_or(usize::MAX);
    let mut buf = BytesMut::new();
    let fault = |cause| Fault::upstream(Stage::Head, cause);
    loop {
        let room = largest - buf.len().min(largest);
        make_room(&mut buf, room);
        match within(conf.read_timeout, stream.read(&mut buf, room)).await {
            Some(Ok(0)) => return Err(fault(Cause::Closed)),
            Some(Ok(n)) => progress.received += n as u64,
            Some(Err(error)) => return Err(fault(Cause::Io(error))),
            None => return Err(fault(Cause::TimedOut)),
        }
        loop {
            match protocol.head(&mut buf, request) {
                Ok(Some(head)) if head.status == 103 => {
                    hinted += head.size;
                    hints(shared, &head.headers, hinted, request).await?;
                }
                Ok(Some(head)) if head.size > conf.buffer_size => return Err(fault(Cause::TooLarge)),
                Ok(Some(head)) => return Ok((head, buf)),
                Ok(None) if buf.len() >= largest => return Err(fault(Cause::TooLarge)),
                Ok(None) => break,
                Err(sentence) => return Err(fault(Cause::Protocol(sentence))),
            }
        }
        stream.acknowledge_quickly();
    }
}

/// Passes an interim response on where `early_hints` says so; `size` is that of all of them.
pub async fn hints(shared: &Shared, headers: &Headers, size: u64, request: &Request) -> Result<(), Fault> {
    if size > shared.conf.buffer_size {
        request.log(Level::Info, "upstream sent too big early hints while reading response header from upstream");
        return Ok(());
    }
    let wanted = |value: &Value| !matches!(&*value.get(request), b"" | b"0");
    if request.version < Version::HTTP_11 || !request.core().early_hints.iter().any(wanted) {
        return Ok(());
    }
    if let Some(side) = &request.client.h2 {
        side.hint(headers.iter().filter(|field| !shared.hidden.has(field.known, field.name)));
        return Ok(());
    }
    let mut out = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    let empty = out.len();
    for field in headers.iter().filter(|field| !shared.hidden.has(field.known, field.name)) {
        write::field(&mut out, field.name, field.value);
    }
    if out.len() == empty {
        return Ok(());
    }
    out.extend_from_slice(b"\r\n");
    let sent = request.client.stream.write_all(&out).await;
    sent.map_err(|error| Fault::client(Stage::Head, Cause::Io(error)))
}

/// Runs `work`, and ends it when the client leaves in the meantime.
async fn watched<T>(
    conf: &Conf,
    client: &Client,
    body_done: bool,
    stage: Stage,
    work: Pin<&mut impl Future<Output = Result<T, Fault>>>,
) -> Result<T, Fault> {
    if conf.ignore_client_abort || !body_done {
        return work.await;
    }
    tokio::select! {
        biased;
        done = work => done,
        () = gone(client) => Err(Fault::client(stage, Cause::Closed)),
    }
}

/// Ends when the client closes; requests that come early stay in its buffer.
async fn gone(client: &Client) {
    const AHEAD: usize = 16 << 10;
    if let Some(side) = &client.h2 {
        return side.gone().await;
    }
    loop {
        if client.input.borrow().len() >= AHEAD {
            return std::future::pending().await;
        }
        let read = std::future::poll_fn(|cx| {
            std::task::ready!(client.stream.poll_readable(cx))?;
            let mut input = client.input.borrow_mut();
            make_room(&mut input, 4096);
            client.stream.poll_read(cx, &mut input, 4096)
        });
        match read.await {
            Ok(n) if n > 0 => {}
            Ok(_) => return,
            Err(error) => return client.stream.note(&error),
        }
    }
}

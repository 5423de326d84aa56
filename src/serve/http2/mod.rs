//! An HTTP/2 connection: its streams, its limits and its end (RFC 9113, <https://nginx.org/en/docs/http/ngx_http_v2_module.html>).
//!
//! One task reads and writes; every stream is a request like any other, whose task puts its frames into the output itself.
//! What all streams that are ready have to say leaves in one write.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::head::Read;
use self::input::Input;
use super::Worker;
use super::connection::Linger;
use crate::http::Client;
use crate::http::core::Lingering;
use crate::http::h2::frame::{self, Code};
use crate::http::h2::{Link, Stream};
use crate::net::stream::make_room;
use crate::net::timer::{Limit, within};
use crate::net::{Level, clock};
use crate::table::{Listen, Table};

mod control;
mod head;
mod input;
mod send;
mod stream;

/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// Reads in a row before streams have their turn.
const READS: usize = 4;
/// How long a connection without a limit may last, so that whoever ends it can wake it.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// What the streams of a connection know of it.
pub struct Connection {
    client: Rc<Client>,
    listen: Arc<Listen>,
    link: Rc<Link>,
    /// Whether the client was told that it ends.
    goaway: Cell<bool>,
}

/// Serves a connection until it ends.
pub async fn serve(worker: &Rc<Worker>, client: &Rc<Client>, listen: Arc<Listen>) -> Option<Linger> {
    let core = &listen.default.root.loc.core;
    client.stream.set_nodelay(core.tcp_nodelay);
    let linger = match core.lingering_close {
        Lingering::Off => None,
        _ => Some((core.lingering_time, core.lingering_timeout)),
    };
    let timeout = core.send_timeout;
    let link = Link::new();
    let at = Rc::new(Connection { client: Rc::clone(client), listen, link, goaway: Cell::new(false) });
    at.greet();
    let mut run = Run {
        worker: Rc::clone(worker),
        table: worker.table(),
        input: Input::new(at.most()),
        at,
        idle_reads: 0,
        block: None,
        waits: Limit::default(),
        stalled: Limit::default(),
        forever: Limit::default(),
    };
    let end = std::future::poll_fn(|cx| run.poll(cx)).await;
    run.at.link.give_up();
    run.input.give_up_block(&run.at, (0, String::new()));
    if end == End::Closed {
        return None;
    }
    within(timeout, std::future::poll_fn(|cx| run.flush(cx))).await?.ok()?;
    linger
}

impl Connection {
    /// Streams that may be open.
    fn most(&self) -> u32 {
        self.listen.default.root.loc.v2.max_concurrent_streams
    }

    /// Bytes of a body that may come before it is read.
    fn preread(&self) -> u32 {
        self.listen.default.root.loc.v2.body_preread_size
    }

    /// Says what we are like.
    fn greet(&self) {
        let largest = u32::try_from(frame::MAX_FRAME_SIZE).unwrap_or(u32::MAX);
        let settings = [
            (frame::MAX_CONCURRENT_STREAMS, self.most()),
            (frame::INITIAL_WINDOW_SIZE, self.preread()),
            (frame::MAX_FRAME_SIZE_SETTING, largest),
        ];
        self.link.control(|out| frame::settings(out, &settings));
        self.link.control(|out| frame::window_update(out, 0, frame::MAX_WINDOW - frame::WINDOW));
    }

    /// Tells the log about the connection.
    fn log(&self, text: &str) {
        let log = &self.listen.default.root.loc.core.error_log;
        if log.takes(Level::Info) {
            let peer = String::from_utf8_lossy(&self.client.peer_text);
            let server = &self.listen.addr;
            let text = format!("{text} while processing HTTP/2 connection, client: {peer}, server: {server}");
            log.write(Level::Info, Some(self.client.number), &text);
        }
    }

    /// Tells the log what ends the connection.
    fn bad<T>(&self, code: Code, text: &str) -> Result<T, Code> {
        self.log(text);
        Err(code)
    }

    /// Tells the client that it ends after stream `last`.
    fn go_away(&self, last: u32, code: Code) {
        if !self.goaway.replace(true) {
            self.link.control(|out| frame::goaway(out, last, code));
        }
    }

    /// A stream was begun, which may be the last.
    fn opened(&self, last: u32) {
        let (client, core) = (&self.client, &self.listen.default.root.loc.core);
        client.requests.set(client.requests.get() + 1);
        client.stage.write();
        if core.keepalive_timeout.is_zero()
            || client.requests.get() >= core.keepalive_requests
            || clock::since(client.started) > core.keepalive_time
        {
            self.go_away(last, Code::NO_ERROR);
        }
    }

    /// Starts the task of a stream that began at `started`, whose fields have come.
    fn begin(self: &Rc<Self>, stream: Rc<Stream>, read: Read, started: Instant) {
        let ended = stream.in_closed.get();
        let job = stream::Job { connection: Rc::clone(self), stream, read, started, ended };
        tokio::task::spawn_local(job.run());
    }
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client has left.
    Closed,
    /// The client was told, and may read what is on its way.
    Told,
}

/// A connection as it runs.
struct Run {
    worker: Rc<Worker>,
    /// The table it was opened under.
    table: Arc<Table>,
    at: Rc<Connection>,
    input: Input,
    /// Reads while no stream was open.
    idle_reads: u64,
    /// The stream whose fields were under way.
    block: Option<u32>,
    /// Runs while the client is to say something.
    waits: Limit,
    /// Runs while the client takes nothing.
    stalled: Limit,
    forever: Limit,
}

impl Run {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let at = Rc::clone(&self.at);
        at.link.hush();
        let read = self.read(cx);
        if let Err(end) = read {
            return Poll::Ready(end);
        }
        if at.link.is_flooded() {
            at.log("http2 flood detected");
            return Poll::Ready(self.finish(Code::NO_ERROR));
        }
        let busy = self.is_busy();
        if !busy {
            at.client.stage.wait();
        }
        let old = !Arc::ptr_eq(&self.worker.table(), &self.table);
        if !busy && (old || self.worker.must_yield()) {
            return Poll::Ready(self.finish(Code::NO_ERROR));
        }
        if old || self.worker.is_stopping() {
            at.go_away(self.input.last, Code::NO_ERROR);
        }
        match self.flush(cx) {
            Poll::Ready(Ok(())) if at.goaway.get() && !busy => return Poll::Ready(End::Told),
            Poll::Ready(Ok(())) => self.stalled.clear(),
            Poll::Ready(Err(_)) => return Poll::Ready(End::Closed),
            Poll::Pending => {
                if self.stalled.poll_over(cx, at.listen.default.root.loc.core.send_timeout).is_ready() {
                    return Poll::Ready(End::Closed);
                }
            }
        }
        if let Some(end) = self.wait(cx, busy) {
            return Poll::Ready(end);
        }
        let _ = self.forever.poll_over(cx, FOREVER);
        at.link.listen(cx);
        at.link.grant();
        Poll::Pending
    }

    /// Whether a stream is under way.
    fn is_busy(&self) -> bool {
        !self.at.link.streams.borrow().is_empty()
    }

    /// Tells the client that the connection ends.
    fn finish(&self, code: Code) -> End {
        self.at.go_away(self.input.last, code);
        End::Told
    }

    /// Reads and takes what has come.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let at = Rc::clone(&self.at);
        let mut input = at.client.input.borrow_mut();
        self.input.fresh = 0;
        self.input.advance(&at, &mut input).map_err(|code| self.finish(code))?;
        for _ in 0..READS {
            make_room(&mut input, READ);
            let n = match at.client.stream.poll_read(cx, &mut input, READ) {
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(_)) => return Err(End::Closed),
                Poll::Pending => {
                    if input.is_empty() && !self.is_busy() {
                        // A silent connection owns no buffer.
                        *input = BytesMut::new();
                    }
                    return Ok(());
                }
            };
            if n == 0 {
                if self.input.is_partial(&input) || self.is_busy() {
                    at.log("client prematurely closed connection");
                }
                return Err(End::Closed);
            }
            at.link.count(n, 0);
            if !self.is_busy() {
                self.idle_reads += 1;
                if self.idle_reads > 10 * at.listen.default.root.loc.core.keepalive_requests {
                    at.log("http2 flood detected");
                    return Err(self.finish(Code::NO_ERROR));
                }
            }
            self.input.advance(&at, &mut input).map_err(|code| self.finish(code))?;
        }
        // There may be more, for which nobody else would wake this task.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes what waits to leave.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &self.at.link;
        loop {
            let mut out = link.out.borrow_mut();
            if out.is_empty() {
                out.compact();
                break;
            }
            match out.write(|slices| self.at.client.stream.poll_write(cx, slices)) {
                Poll::Ready(written) => {
                    out.advance(written?);
                    self.stalled.clear();
                }
                Poll::Pending => {
                    out.compact();
                    return Poll::Pending;
                }
            }
        }
        link.flushed();
        Poll::Ready(Ok(()))
    }

    /// Ends the connection where the client says nothing for too long.
    fn wait(&mut self, cx: &mut Context<'_>, busy: bool) -> Option<End> {
        let at = Rc::clone(&self.at);
        let core = &at.listen.default.root.loc.core;
        let block = self.input.in_block();
        if busy && self.block != block {
            self.waits.clear();
        }
        self.block = block;
        if busy && block.is_none() {
            self.waits.clear();
            return None;
        }
        let fresh = at.client.requests.get() == 0;
        let limit = if fresh || busy { core.server.client_header_timeout } else { core.keepalive_timeout };
        ready_only(self.waits.poll_over(cx, limit))?;
        if busy {
            self.input.give_up_block(&at, (408, "client timed out (110: Connection timed out)".to_owned()));
            self.waits.clear();
            return None;
        }
        if self.input.is_partial(&at.client.input.borrow()) {
            at.log("client timed out (110: Connection timed out)");
            return Some(self.finish(Code::PROTOCOL_ERROR));
        }
        Some(self.finish(Code::NO_ERROR))
    }
}

fn ready_only(poll: Poll<()>) -> Option<()> {
    match poll {
        Poll::Ready(()) => Some(()),
        Poll::Pending => None,
    }
}

//! HTTP/2 towards clients: <https://nginx.org/en/docs/http/ngx_http_v2_module.html>

use super::Seal;
use crate::conf::args::text;
use crate::conf::field::Size;
use crate::conf::{Args, Contexts, Diag, Directive, Problem, many, on};
use crate::http::Variable;
use crate::http::variable::variable;

/// `ngx_http_v2_module`.
pub struct Module;

/// What connections and requests read.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Whether HTTP/2 is spoken.
    pub enabled: bool,
    /// Requests that may be under way on a connection.
    pub max_concurrent_streams: u32,
    /// Bytes of a body that may come before it is read.
    pub body_preread_size: u32,
    /// Bytes of a frame of a response's body.
    pub chunk_size: usize,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { enabled: false, max_concurrent_streams: 128, body_preread_size: 65536, chunk_size: 8192 }
    }
}

const SERVERS: Contexts = Contexts::SERVERS;
const SCOPES: Contexts = Contexts::SCOPES;
/// The largest window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// The largest frame (RFC 9113 §4.2).
const MAX_FRAME: u64 = (1 << 24) - 1;

impl super::Module for Module {
    type Conf = Http2;
    type Main = ();
    type Loc = Http2;

    const DIRECTIVES: &'static [Directive<Http2>] = &[
        on("http2", SERVERS, 1..=1, |c, a| a.set(&mut c.enabled)),
        on("http2_max_concurrent_streams", SERVERS, 1..=1, |c, a| {
            let mut number = 0u64;
            a.set(&mut number)?;
            c.max_concurrent_streams = u32::try_from(number).unwrap_or(u32::MAX);
            Ok(())
        }),
        on("http2_body_preread_size", SERVERS, 1..=1, |c, a| {
            let size = size(a)?;
            let problem = || Problem::new(format!("the maximum body preread buffer size is {MAX_WINDOW}")).at(0);
            let size = u32::try_from(size).ok().filter(|&size| size <= MAX_WINDOW);
            c.body_preread_size = size.ok_or_else(problem)?;
            Ok(())
        }),
        on("http2_chunk_size", SCOPES, 1..=1, |c, a| {
            let size = size(a)?.min(MAX_FRAME);
            if size == 0 {
                return Err(Problem::new("the http2 chunk size cannot be zero").at(0));
            }
            c.chunk_size = usize::try_from(size).unwrap_or(usize::MAX);
            Ok(())
        }),
        // Tuning of nginx's memory, which has no counterpart here.
        on("http2_recv_buffer_size", Contexts::HTTP, 1..=1, |_, a| {
            if size(a)? > 16 { Ok(()) } else { Err(Problem::tail("value is too small").at(0)) }
        }),
        on("http2_pool_size", SERVERS, 1..=1, |_, a| {
            let size = size(a)?;
            if size < 112 {
                return Err(Problem::new("the pool size must be no less than 112").at(0));
            }
            if size % 16 > 0 {
                return Err(Problem::new("the pool size must be a multiple of 16").at(0));
            }
            Ok(())
        }),
        on("http2_streams_index_size", SERVERS, 1..=1, |_, a| {
            let mut number = 0u64;
            a.set(&mut number)?;
            if number.is_power_of_two() { Ok(()) } else { Err(Problem::tail("must be a power of two").at(0)) }
        }),
        // What nginx has given up.
        many("http2_max_concurrent_pushes", SERVERS, 1..=1, obsolete),
        many("http2_push", SCOPES, 1..=1, obsolete),
        many("http2_push_preload", SCOPES, 1..=1, obsolete),
        many("http2_max_requests", SERVERS, 1..=1, obsolete),
        many("http2_max_field_size", SERVERS, 1..=1, obsolete),
        many("http2_max_header_size", SERVERS, 1..=1, obsolete),
        many("http2_recv_timeout", SERVERS, 1..=1, obsolete),
        many("http2_idle_timeout", SERVERS, 1..=1, obsolete),
    ];

    const VARIABLES: &'static [Variable<Http2>] = &[variable("http2", |_, r, _, out| {
        let protocol: &[u8] = match (&r.client.h2, r.is_tls()) {
            (None, _) => b"",
            (Some(_), true) => b"h2",
            (Some(_), false) => b"h2c",
        };
        out.extend_from_slice(protocol);
        true
    })];

    fn seal(conf: Http2, (): &(), _: &mut Seal<'_>) -> Result<Http2, Diag> {
        Ok(conf)
    }
}

/// Warns of a directive that has no effect any more.
fn obsolete(_: &mut Http2, args: &mut Args<'_>) -> Result<(), Problem> {
    let successor = match args.name() {
        b"http2_recv_timeout" => Some("client_header_timeout"),
        b"http2_idle_timeout" => Some("keepalive_timeout"),
        b"http2_max_requests" => Some("keepalive_requests"),
        b"http2_max_field_size" | b"http2_max_header_size" => Some("large_client_header_buffers"),
        _ => None,
    };
    let name = text(args.name());
    args.warn(match successor {
        Some(successor) => {
            format!("the \"{name}\" directive is obsolete, use the \"{successor}\" directive instead")
        }
        None => format!("the \"{name}\" directive is obsolete, ignored"),
    });
    Ok(())
}

fn size(args: &mut Args<'_>) -> Result<u64, Problem> {
    let mut size = Size(0);
    args.set(&mut size)?;
    Ok(size.0)
}

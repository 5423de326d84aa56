//! What tunes HTTP/3: <https://nginx.org/en/docs/http/ngx_http_v3_module.html>
//!
//! Nothing listens for QUIC here, and `listen … quic` is an error that says so. Without it these directives have no effect
//! in nginx either, so they are checked and that is all.

use super::Seal;
use crate::conf::field::Size;
use crate::conf::{Contexts, Diag, Directive, on};
use crate::http::Variable;
use crate::http::variable::variable;

/// `ngx_http_v3_module`, as far as a server without QUIC needs it.
pub struct Module;

const SERVERS: Contexts = Contexts::SERVERS;

impl super::Module for Module {
    type Conf = ();
    type Main = ();
    type Loc = ();

    const DIRECTIVES: &'static [Directive<()>] = &[
        on("http3", SERVERS, 1..=1, |_, a| a.set(&mut false)),
        on("http3_hq", SERVERS, 1..=1, |_, a| a.set(&mut false)),
        on("http3_max_concurrent_streams", SERVERS, 1..=1, |_, a| a.set(&mut 0u64)),
        on("http3_stream_buffer_size", SERVERS, 1..=1, |_, a| a.set(&mut Size::default())),
        on("quic_retry", SERVERS, 1..=1, |_, a| a.set(&mut false)),
        on("quic_gso", SERVERS, 1..=1, |_, a| a.set(&mut false)),
        on("quic_host_key", SERVERS, 1..=1, |_, a| a.set(&mut std::path::PathBuf::new())),
        on("quic_active_connection_id_limit", SERVERS, 1..=1, |_, a| a.set(&mut 0u64)),
    ];

    const VARIABLES: &'static [Variable<()>] = &[variable("http3", |(), _, _, _| true)];

    fn seal((): (), (): &(), _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }
}

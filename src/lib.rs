//! nginx-rs: a server for existing nginx configurations. `docs/ARCHITECTURE.md` is the way in.

pub mod cli;
pub mod compile;
pub mod conf;
pub mod http;
pub mod modules;
pub mod net;
pub mod process;
pub mod serve;
pub mod table;
pub mod upstream;

/// The version of nginx whose behaviour this is.
pub const VERSION: &str = "1.31.5";
/// What responses and error pages call the server.
pub const SERVER: &str = "nginx/1.31.5";
/// The same with the build's name, for `server_tokens build`.
pub const SERVER_BUILD: &str = concat!("nginx/1.31.5 (nginx-rs ", env!("CARGO_PKG_VERSION"), ")");

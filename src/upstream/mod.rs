//! Upstream servers: groups and their peers, balancing, pools, and the life of an exchange.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html>

pub mod attempt;
pub mod balance;
pub mod conf;
pub mod connect;
pub mod exchange;
pub mod method;
pub mod peer;
pub mod pool;
pub mod reply;
pub mod report;
pub mod timing;

pub use conf::{Conf, Group};
pub use peer::{Peer, Peers};

/// Reaches a module's copy of the settings that all upstream protocols share.
pub type Mount<C> = fn(&mut C) -> &mut Conf;

//! Upstream servers: groups and their peers, balancing, pools, and the life of an exchange.
//!
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html>

pub mod ahead;
pub mod answer;
pub mod attempt;
pub mod balance;
pub mod conf;
pub mod connect;
pub mod exchange;
pub mod fields;
pub mod groups;
pub mod h2;
pub mod inlet;
pub mod live;
pub mod method;
pub mod pace;
pub mod params;
pub mod peer;
pub mod pool;
pub mod protocol;
pub mod reply;
pub mod report;
pub mod resolver;
pub mod secure;
pub mod shared;
pub mod sticky;
pub mod store;
pub mod target;
pub mod timing;
pub mod uncached;
pub mod wire;

pub use conf::{Conf, Group};
pub use groups::Upstreams;
pub use peer::{Peer, Peers};
pub use protocol::Protocol;
pub use shared::Shared;
pub use target::Target;

use crate::conf::Directive;

/// The prefix of a protocol's directives, the shared rows it has, and the way to a module's copy of their settings.
pub type Mount<C> = (&'static str, &'static [&'static [Directive<Conf>]], fn(&mut C) -> &mut Conf);

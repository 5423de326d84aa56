//! Streams, listeners, addresses, clocks and logs: what touches the operating system.

pub mod addr;
pub mod cidr;
pub mod clock;
pub mod counts;
pub mod log;
pub mod proxy_protocol;
pub mod resolver;
pub mod stream;
pub mod syslog;
pub mod timer;
pub mod tls;

pub use log::{ErrorLog, Level, LogFile, Sink};
pub use stream::Stream;
pub use syslog::Syslog;

//! TLS on rustls (RFC 8446, RFC 5246): sessions, handshakes, certificates and keys, and OpenSSL's names for all of it.
//!
//! A plain stream knows nothing of this but that it has no session.

pub mod config;
pub mod dial;
pub mod facts;
pub mod handshake;
pub mod key;
pub mod legacy;
pub mod names;
pub mod ocsp;
pub mod openssl;
pub mod pem;
pub mod schedule;
pub mod session;
pub mod show;
pub mod staple;
pub mod store;
pub mod trust;

pub use dial::Dial;
pub use facts::Facts;
pub use key::Identity;
pub use session::{Chain, Session};
pub use store::Kept;
pub use trust::{Trust, Unfit};

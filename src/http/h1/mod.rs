//! HTTP/1.x on the wire: RFC 9112

pub mod chunked;
pub mod inbound;
pub mod parse;
pub mod write;

pub use inbound::Inbound;

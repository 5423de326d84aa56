//! Requests, headers, values and bodies (RFC 9110), and the HTTP/1 wire (RFC 9112).

pub mod agent;
pub mod body;
pub mod core;
pub mod disk;
pub mod escape;
pub mod fields;
pub mod flow;
pub mod forwarded;
pub mod gzip;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod host;
pub mod matcher;
pub mod mime;
pub mod pattern;
pub mod pieces;
pub mod range;
pub mod request;
pub mod response;
pub mod temp;
pub mod uri;
pub mod value;
pub mod variable;
pub mod zlib;

pub use agent::Agent;
pub use body::{Body, Chunk, FilePart, Source};
pub use core::Core;
pub use flow::{Cause, Fault, Flow, Side, Stage, Target};
pub use headers::{Headers, Known};
pub use matcher::Matcher;
pub use pieces::Pieces;
pub use request::{Client, Method, Request};
pub use response::{Head, Response};
pub use value::Value;
pub use variable::{Builtin, Computed, Definition, Scope, Variable};

//! The settings of the core module that every part of the server reads.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html>; `modules/core` holds the directives that fill them.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::agent::Agent;
use super::flow::Flow;
use super::request::{Request, Version};
use super::value::Value;
use crate::conf::field::{Buffers, TempPath};
use crate::conf::{Bits, List, Local};
use crate::net::ErrorLog;
use crate::net::resolver::Resolver;

/// What holds for a whole virtual server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its first name: `$server_name`.
    pub name: Bytes,
    /// Bytes of the first buffer for a head.
    pub client_header_buffer_size: u64,
    /// More buffers for heads that do not fit.
    pub large_client_header_buffers: Buffers,
    /// For the whole head.
    pub client_header_timeout: Duration,
    /// Number of header fields.
    pub max_headers: u64,
    /// Whether invalid fields are dropped.
    pub ignore_invalid_headers: bool,
    /// Whether underscores are valid in names.
    pub underscores_in_headers: bool,
    /// Whether adjacent slashes become one.
    pub merge_slashes: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: Bytes::new(),
            client_header_buffer_size: 1024,
            large_client_header_buffers: Buffers { number: 4, size: 8192 },
            client_header_timeout: Duration::from_secs(60),
            max_headers: 1000,
            ignore_invalid_headers: true,
            underscores_in_headers: false,
            merge_slashes: true,
        }
    }
}

/// One `error_page`.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The status it is for.
    pub status: u16,
    /// The status to answer with: none keeps it, 0 takes the page's own.
    pub overwrite: Option<u16>,
    /// A path, a URL or a named location.
    pub uri: Value,
    /// What a literal path has behind its `?`.
    pub args: Option<Bytes>,
}

/// What `server_tokens` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// `nginx`.
    Off,
    /// `nginx/1.31.5`.
    On,
    /// With the build's name.
    Build,
}

/// Whether request bodies that are read go to files whatever their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFileOnly {
    /// Only large ones.
    Off,
    /// All, and the files stay.
    On,
    /// All, for the time of the request.
    Clean,
}

/// How `If-Modified-Since` is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfModifiedSince {
    /// Not at all.
    Off,
    /// The times must be equal.
    Exact,
    /// The file must not be newer.
    Before,
}

/// When a connection lingers before it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lingering {
    /// Never.
    Off,
    /// When the client may still be sending.
    On,
    /// Always.
    Always,
}

/// Where files are found.
#[derive(Clone, Debug)]
pub struct Root {
    /// `root` or `alias`.
    pub path: Value,
    /// What an `alias` replaces.
    pub alias: Option<Alias>,
}

/// The part of the URI that an `alias` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The location's prefix, of so many bytes.
    Prefix(usize),
    /// All of it: the location is a regular expression.
    Whole,
}

/// The core module's settings at one place.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field has the name of the directive that documents it")]
pub struct Core {
    pub server: Arc<Server>,
    /// The location's prefix, pattern or name.
    pub location: Bytes,
    /// The bare path under the prefix that relative paths hang under.
    pub prefix: PathBuf,
    pub root: Root,
    pub types: Option<Arc<super::mime::Types>>,
    pub default_type: Bytes,
    pub client_max_body_size: u64,
    pub client_body_buffer_size: u64,
    pub client_body_timeout: Duration,
    pub client_body_temp_path: TempPath,
    pub client_body_in_file_only: InFileOnly,
    /// Whether something asks for the name of a body's file.
    pub request_body_file_named: bool,
    pub keepalive_timeout: Duration,
    pub keepalive_header: Option<u64>,
    pub keepalive_requests: u64,
    pub keepalive_time: Duration,
    pub keepalive_min_timeout: Duration,
    pub keepalive_disable: Bits,
    pub send_timeout: Duration,
    pub lingering_close: Lingering,
    pub lingering_time: Duration,
    pub lingering_timeout: Duration,
    pub reset_timedout_connection: bool,
    pub sendfile: bool,
    pub tcp_nodelay: bool,
    pub limit_rate: Option<Value>,
    pub limit_rate_after: Option<Value>,
    pub satisfy_any: bool,
    pub auth_delay: Duration,
    pub internal: Local<bool>,
    pub absolute_redirect: bool,
    pub server_name_in_redirect: bool,
    pub port_in_redirect: bool,
    pub msie_padding: bool,
    pub msie_refresh: bool,
    pub log_not_found: bool,
    pub log_subrequest: bool,
    pub recursive_error_pages: bool,
    pub post_action: Option<Bytes>,
    pub early_hints: List<Value>,
    pub error_pages: List<ErrorPage>,
    pub server_tokens: Tokens,
    pub if_modified_since: IfModifiedSince,
    pub max_ranges: u64,
    pub chunked_transfer_encoding: bool,
    pub etag: bool,
    pub open_file_cache: super::open_files::OpenFiles,
    /// None follows all links.
    pub disable_symlinks: Option<Arc<super::symlinks::Symlinks>>,
    pub error_log: ErrorLog,
    pub uninitialized_variable_warn: bool,
    pub rewrite_log: bool,
    pub resolver: Option<Arc<Resolver>>,
    pub gzip: super::gzip::Settings,
}

impl Default for Core {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            server: Arc::default(),
            location: Bytes::new(),
            prefix: PathBuf::new(),
            root: Root { path: Value::literal("html"), alias: None },
            types: None,
            default_type: Bytes::from_static(b"text/plain"),
            client_max_body_size: 1 << 20,
            client_body_buffer_size: 16 << 10,
            client_body_timeout: seconds(60),
            client_body_temp_path: TempPath::default(),
            client_body_in_file_only: InFileOnly::Off,
            request_body_file_named: false,
            keepalive_timeout: seconds(75),
            keepalive_header: None,
            keepalive_requests: 1000,
            keepalive_time: seconds(3600),
            keepalive_min_timeout: Duration::ZERO,
            keepalive_disable: Bits::new(Agent::MSIE6),
            send_timeout: seconds(60),
            lingering_close: Lingering::On,
            lingering_time: seconds(30),
            lingering_timeout: seconds(5),
            reset_timedout_connection: false,
            sendfile: false,
            tcp_nodelay: true,
            limit_rate: None,
            limit_rate_after: None,
            satisfy_any: false,
            auth_delay: Duration::ZERO,
            internal: Local(false),
            absolute_redirect: true,
            server_name_in_redirect: false,
            port_in_redirect: true,
            msie_padding: true,
            msie_refresh: false,
            log_not_found: true,
            log_subrequest: false,
            recursive_error_pages: false,
            post_action: None,
            early_hints: List::default(),
            error_pages: List::default(),
            server_tokens: Tokens::On,
            if_modified_since: IfModifiedSince::Exact,
            max_ranges: u64::MAX,
            chunked_transfer_encoding: true,
            etag: true,
            open_file_cache: super::open_files::OpenFiles::default(),
            disable_symlinks: None,
            error_log: ErrorLog::default(),
            uninitialized_variable_warn: true,
            rewrite_log: false,
            resolver: None,
            gzip: super::gzip::Settings::default(),
        }
    }
}

impl Core {
    /// The path of the file that `uri` names here.
    pub fn map_uri(&self, request: &Request, uri: &[u8]) -> Vec<u8> {
        let mut path = self.document_root(request);
        match self.root.alias {
            None => path.extend_from_slice(uri),
            Some(Alias::Prefix(len)) => path.extend_from_slice(uri.get(len..).unwrap_or_default()),
            Some(Alias::Whole) if request.uri_after_alias => path.extend_from_slice(uri),
            Some(Alias::Whole) => {}
        }
        path
    }

    /// `root` or `alias` with its variables replaced, completed under the prefix.
    pub fn document_root(&self, request: &Request) -> Vec<u8> {
        let mut path = Vec::with_capacity(128);
        self.append_document_root(request, &mut path);
        path
    }

    /// Appends what [`Core::document_root`] tells.
    pub fn append_document_root(&self, request: &Request, out: &mut Vec<u8>) {
        let start = out.len();
        self.root.path.append(request, out);
        if out.get(start) != Some(&b'/') {
            let prefix = self.prefix.as_os_str().as_bytes();
            let slash: &[u8] = if prefix.ends_with(b"/") { b"" } else { b"/" };
            out.splice(start..start, [prefix, slash].concat());
        }
    }

    /// The type that the extension of the request's path has here.
    pub fn content_type(&self, request: &Request) -> Bytes {
        if let Some(carried) = &request.carried.content_type {
            return carried.clone();
        }
        let types = self.types.as_ref();
        types.and_then(|types| types.get(request.extension())).unwrap_or_else(|| self.default_type.clone())
    }

    /// Whether a request of this version and size may come here; a failure otherwise.
    pub fn admit(&self, request: &Request) -> Flow {
        let limit = self.client_max_body_size;
        if request.content_length.is_some_and(|length| limit != 0 && length > limit) {
            return Flow::Fail(413);
        }
        Flow::Next
    }

    /// Whether a response of this version may be sent in chunks.
    pub fn may_chunk(&self, version: Version) -> bool {
        self.chunked_transfer_encoding && version == Version::HTTP_11
    }
}

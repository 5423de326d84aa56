//! The core module: <https://nginx.org/en/docs/http/ngx_http_core_module.html>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Seal;
use crate::conf::args::text;
use crate::conf::hash::Hash;
use crate::conf::field::{Buffers, Offset, Seconds, Size, one_of};
use crate::conf::{Args, Contexts, Diag, Directive, Field, Local, Place, Problem, block, many, on, units};
use crate::http::core::{self, Alias, Core, ErrorPage, IfModifiedSince, InFileOnly, Lingering, Tokens};
use crate::http::mime::Types;
use crate::http::request::Version;
use crate::http::{Agent, Value, Variable};
use crate::net::Level;
use crate::upstream::resolver;
use crate::http::host::Name;

mod files;
pub mod listen;
pub mod logs;
pub mod servers;
mod variables;

use listen::ListenArg;

/// `ngx_http_core_module`.
pub struct Module;

/// Settings of a scope: those requests read, and what sealing still has to work out.
#[derive(Clone, Default)]
pub struct Conf {
    /// What requests read.
    pub core: Core,
    /// What holds for the server.
    pub server: core::Server,
    /// `listen`s of a server.
    pub listens: Local<Vec<ListenArg>>,
    /// `server_name`s of a server.
    pub names: Local<Vec<Name>>,
    /// `error_log`s.
    pub error_logs: crate::conf::List<(Level, logs::Place)>,
    /// `types`, until the scope is sealed.
    pub types: Option<Arc<Types>>,
    /// `resolver`, until the scope is sealed.
    pub resolver: Option<resolver::Conf>,
    /// `resolver_timeout`.
    pub resolver_timeout: Option<Duration>,
    /// Sizes of nginx's hashes.
    pub hashes: Hashes,
    own_types: Local<bool>,
    place: Local<Place>,
    root_set: Local<Option<&'static str>>,
}

/// Sizes of nginx's hashes.
#[derive(Clone, Copy, Debug)]
pub struct Hashes {
    /// `server_names_hash_*`.
    pub names_hash: Hash,
    /// `variables_hash_*`.
    pub variables_hash: Hash,
    types_hash: Hash,
}

impl Default for Hashes {
    fn default() -> Self {
        Self { names_hash: Hash::new(512), variables_hash: Hash::new(1024), types_hash: Hash::new(1024) }
    }
}

const HTTP: Contexts = Contexts::HTTP;
const SERVER: Contexts = Contexts::SERVER;
const LOCATION: Contexts = Contexts::LOCATION;
const SERVERS: Contexts = Contexts::SERVERS;
const SCOPES: Contexts = Contexts::SCOPES;
const SCOPES_IF: Contexts = Contexts::SCOPES_IF;
/// The same and `if` in a server.
const SCOPES_IFS: Contexts = Contexts(SCOPES_IF.0 | Contexts::SERVER_IF.0);

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Core;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        // Virtual servers.
        many("listen", SERVER, 1..=255, listen::listen),
        many("server_name", SERVER, 1..=255, servers::server_name),
        on("client_header_timeout", SERVERS, 1..=1, |c, a| a.set(&mut c.server.client_header_timeout)),
        on("client_header_buffer_size", SERVERS, 1..=1, |c, a| size(a, &mut c.server.client_header_buffer_size)),
        on("large_client_header_buffers", SERVERS, 2..=2, |c, a| a.set(&mut c.server.large_client_header_buffers)),
        on("max_headers", SERVERS, 1..=1, |c, a| a.set(&mut c.server.max_headers)),
        on("ignore_invalid_headers", SERVERS, 1..=1, |c, a| a.set(&mut c.server.ignore_invalid_headers)),
        on("underscores_in_headers", SERVERS, 1..=1, |c, a| a.set(&mut c.server.underscores_in_headers)),
        on("merge_slashes", SERVERS, 1..=1, |c, a| a.set(&mut c.server.merge_slashes)),
        // Files.
        on("root", SCOPES_IF, 1..=1, root),
        on("alias", LOCATION, 1..=1, alias),
        block("types", SCOPES, 0..=0, types),
        on("default_type", SCOPES, 1..=1, |c, a| a.set(&mut c.core.default_type)),
        on("etag", SCOPES, 1..=1, |c, a| a.set(&mut c.core.etag)),
        on("if_modified_since", SCOPES, 1..=1, |c, a| {
            let values = [
                ("off", IfModifiedSince::Off),
                ("exact", IfModifiedSince::Exact),
                ("before", IfModifiedSince::Before),
            ];
            pick(a, &mut c.core.if_modified_since, &values)
        }),
        on("max_ranges", SCOPES, 1..=1, |c, a| a.set(&mut c.core.max_ranges)),
        on("log_not_found", SCOPES, 1..=1, |c, a| a.set(&mut c.core.log_not_found)),
        on("sendfile", SCOPES_IF, 1..=1, |c, a| a.set(&mut c.core.sendfile)),
        // Request bodies.
        on("client_max_body_size", SCOPES, 1..=1, |c, a| {
            let mut limit = Offset(0);
            a.set(&mut limit)?;
            c.core.client_max_body_size = limit.0;
            Ok(())
        }),
        on("client_body_buffer_size", SCOPES, 1..=1, |c, a| size(a, &mut c.core.client_body_buffer_size)),
        on("client_body_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.core.client_body_timeout)),
        on("client_body_temp_path", SCOPES, 1..=4, |c, a| a.set(&mut c.core.client_body_temp_path)),
        on("client_body_in_file_only", SCOPES, 1..=1, |c, a| {
            let values = [("off", InFileOnly::Off), ("on", InFileOnly::On), ("clean", InFileOnly::Clean)];
            pick(a, &mut c.core.client_body_in_file_only, &values)
        }),
        on("client_body_in_single_buffer", SCOPES, 1..=1, |_, a| a.set(&mut false)),
        // Connections.
        on("keepalive_timeout", SCOPES, 1..=2, |c, a| {
            a.set(&mut c.core.keepalive_timeout)?;
            let header = a.take().map(|word| units::sec(word).ok_or_else(|| Problem::tail("invalid value").at(1)));
            c.core.keepalive_header = header.transpose()?;
            Ok(())
        }),
        on("keepalive_requests", SCOPES, 1..=1, |c, a| a.set(&mut c.core.keepalive_requests)),
        on("keepalive_time", SCOPES, 1..=1, |c, a| a.set(&mut c.core.keepalive_time)),
        on("keepalive_min_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.core.keepalive_min_timeout)),
        many("keepalive_disable", SCOPES, 1..=2, |c, a| {
            a.add(&mut c.core.keepalive_disable, &[("none", 0), ("msie6", Agent::MSIE6), ("safari", Agent::SAFARI)])
        }),
        on("send_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.core.send_timeout)),
        on("lingering_close", SCOPES, 1..=1, |c, a| {
            let values = [("off", Lingering::Off), ("on", Lingering::On), ("always", Lingering::Always)];
            pick(a, &mut c.core.lingering_close, &values)
        }),
        on("lingering_time", SCOPES, 1..=1, |c, a| a.set(&mut c.core.lingering_time)),
        on("lingering_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.core.lingering_timeout)),
        on("reset_timedout_connection", SCOPES, 1..=1, |c, a| a.set(&mut c.core.reset_timedout_connection)),
        on("tcp_nodelay", SCOPES, 1..=1, |c, a| a.set(&mut c.core.tcp_nodelay)),
        on("limit_rate", SCOPES_IF, 1..=1, |c, a| Value::size(&mut c.core.limit_rate, a)),
        on("limit_rate_after", SCOPES_IF, 1..=1, |c, a| Value::size(&mut c.core.limit_rate_after, a)),
        on("chunked_transfer_encoding", SCOPES, 1..=1, |c, a| a.set(&mut c.core.chunked_transfer_encoding)),
        // Responses.
        on("auth_delay", SCOPES, 1..=1, |c, a| a.set(&mut c.core.auth_delay)),
        on("satisfy", SCOPES, 1..=1, |c, a| pick(a, &mut c.core.satisfy_any, &[("all", false), ("any", true)])),
        on("internal", LOCATION, 0..=0, |c, _| {
            c.core.internal.0 = true;
            Ok(())
        }),
        on("absolute_redirect", SCOPES, 1..=1, |c, a| a.set(&mut c.core.absolute_redirect)),
        on("server_name_in_redirect", SCOPES, 1..=1, |c, a| a.set(&mut c.core.server_name_in_redirect)),
        on("port_in_redirect", SCOPES, 1..=1, |c, a| a.set(&mut c.core.port_in_redirect)),
        on("msie_padding", SCOPES, 1..=1, |c, a| a.set(&mut c.core.msie_padding)),
        on("msie_refresh", SCOPES, 1..=1, |c, a| a.set(&mut c.core.msie_refresh)),
        on("log_subrequest", SCOPES, 1..=1, |c, a| a.set(&mut c.core.log_subrequest)),
        on("recursive_error_pages", SCOPES, 1..=1, |c, a| a.set(&mut c.core.recursive_error_pages)),
        many("early_hints", SCOPES, 1..=255, |c, a| {
            a.words().try_for_each(|word| Value::read(word, a).map(|value| c.core.early_hints.push(value)))
        }),
        on("post_action", SCOPES_IF, 1..=1, |c, a| {
            c.core.post_action = Some(Bytes::copy_from_slice(a.word(0)));
            Ok(())
        }),
        many("error_page", SCOPES_IF, 2..=255, error_page),
        on("server_tokens", SCOPES, 1..=1, |c, a| {
            let values = [("off", Tokens::Off), ("on", Tokens::On), ("build", Tokens::Build)];
            c.core.server_tokens = one_of(a.word(0), &values).map_err(|problem| problem.at(0))?;
            Ok(())
        }),
        many("error_log", Contexts(Contexts::MAIN.0 | SCOPES.0), 1..=255, logs::error_log),
        on("resolver", SCOPES, 1..=255, |c, a| {
            c.resolver = Some(resolver::read(a)?);
            Ok(())
        }),
        on("resolver_timeout", SCOPES, 1..=1, |c, a| a.set(&mut c.resolver_timeout)),
        on("gzip_vary", SCOPES, 1..=1, |c, a| a.set(&mut c.core.gzip.vary)),
        on("gzip_http_version", SCOPES, 1..=1, |c, a| {
            pick(a, &mut c.core.gzip.http_version, &[("1.0", Version::HTTP_10), ("1.1", Version::HTTP_11)])
        }),
        many("gzip_proxied", SCOPES, 1..=255, |c, a| c.core.gzip.read_proxied(a)),
        many("gzip_disable", SCOPES, 1..=255, |c, a| c.core.gzip.read_disable(a)),
        // Rewriting.
        on("rewrite_log", SCOPES_IFS, 1..=1, |c, a| a.set(&mut c.core.rewrite_log)),
        on("uninitialized_variable_warn", SCOPES_IFS, 1..=1, |c, a| a.set(&mut c.core.uninitialized_variable_warn)),
        // Tuning of nginx's memory and its event loop, which has no counterpart here.
        on("connection_pool_size", SERVERS, 1..=1, pool_size),
        on("request_pool_size", SERVERS, 1..=1, pool_size),
        on("server_names_hash_max_size", HTTP, 1..=1, |c, a| a.set(&mut c.hashes.names_hash.max)),
        on("server_names_hash_bucket_size", HTTP, 1..=1, |c, a| a.set(&mut c.hashes.names_hash.bucket)),
        on("variables_hash_max_size", HTTP, 1..=1, |c, a| a.set(&mut c.hashes.variables_hash.max)),
        on("variables_hash_bucket_size", HTTP, 1..=1, |c, a| a.set(&mut c.hashes.variables_hash.bucket)),
        on("types_hash_max_size", SCOPES, 1..=1, |c, a| a.set(&mut c.hashes.types_hash.max)),
        on("types_hash_bucket_size", SCOPES, 1..=1, |c, a| a.set(&mut c.hashes.types_hash.bucket)),
        on("tcp_nopush", SCOPES, 1..=1, |_, a| a.set(&mut false)),
        on("send_lowat", SCOPES, 1..=1, |_, a| a.pass_by(&mut Size(0))),
        on("postpone_output", SCOPES, 1..=1, ignored_size),
        on("output_buffers", SCOPES, 2..=2, |_, a| a.set(&mut Buffers { number: 2, size: 32 << 10 })),
        on("sendfile_max_chunk", SCOPES, 1..=1, ignored_size),
        on("subrequest_output_buffer_size", SCOPES, 1..=1, ignored_size),
        on("read_ahead", SCOPES, 1..=1, ignored_size),
        on("directio", SCOPES, 1..=1, |_, a| if a.word(0) == b"off" { Ok(()) } else { a.set(&mut Offset(0)) }),
        on("directio_alignment", SCOPES, 1..=1, |_, a| a.set(&mut Offset(0))),
        on("aio", SCOPES, 1..=1, aio),
        on("aio_write", SCOPES, 1..=1, |_, a| a.set(&mut false)),
        on("disable_symlinks", SCOPES, 1..=2, files::disable_symlinks),
        on("open_file_cache", SCOPES, 1..=2, files::open_file_cache),
        on("open_file_cache_valid", SCOPES, 1..=1, |c, a| {
            let mut valid = Seconds(0);
            a.set(&mut valid)?;
            c.core.open_file_cache.valid = Duration::from_secs(valid.0);
            Ok(())
        }),
        on("open_file_cache_min_uses", SCOPES, 1..=1, |c, a| a.set(&mut c.core.open_file_cache.min_uses)),
        on("open_file_cache_errors", SCOPES, 1..=1, |c, a| a.set(&mut c.core.open_file_cache.errors)),
        on("open_file_cache_events", SCOPES, 1..=1, |_, a| a.set(&mut false)),
    ];

    const VARIABLES: &'static [Variable<Core>] = variables::VARIABLES;

    fn seal(mut conf: Conf, (): &(), cx: &mut Seal<'_>) -> Result<Core, Diag> {
        if !conf.error_logs.is_empty() {
            conf.core.error_log = logs::open(&conf.error_logs, cx)?;
        }
        conf.core.types = Some(conf.types.unwrap_or_else(|| Arc::new(Types::builtin())));
        if let Some(types) = conf.core.types.as_ref().filter(|_| conf.own_types.0 || conf.place.name.is_empty() && !conf.place.unnamed) {
            let held = conf.hashes.types_hash.hold("types_hash", types.lengths());
            held.map_err(|problem| Diag::general(problem, None))?;
        }
        conf.core.resolver = conf.resolver.map(|resolver| resolver.seal(conf.resolver_timeout, cx.upstreams));
        conf.core.prefix = cx.env.prefix.clone();
        conf.core.request_body_file_named = cx.env.names.all().iter().any(|name| name.name == "request_body_file");
        let bodies = &mut conf.core.client_body_temp_path.path;
        if bodies.as_os_str().is_empty() {
            *bodies = cx.env.temp_path("client_body");
        }
        cx.env.makes(bodies);
        // Locals do not survive a clone, but the value itself moves.
        conf.core.location = conf.place.0.name;
        Ok(conf.core)
    }

    fn enter_unnamed(outer: &Conf, inner: &mut Conf) {
        inner.core.internal.0 = outer.core.internal.0;
    }

    fn enter(conf: &mut Conf, place: &Place) {
        conf.place.0 = place.clone();
    }
}

fn size(args: &mut Args<'_>, field: &mut u64) -> Result<(), Problem> {
    let mut size = Size(0);
    args.set(&mut size)?;
    *field = size.0;
    Ok(())
}

fn pick<T: Copy>(args: &mut Args<'_>, field: &mut T, values: &[(&str, T)]) -> Result<(), Problem> {
    *field = one_of(args.word(0), values).map_err(|problem| problem.at(0))?;
    Ok(())
}

fn ignored_size(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    args.set(&mut Size(0))
}

/// There are no pools.
fn pool_size(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let mut size = Size(0);
    args.set(&mut size)?;
    match size.0 {
        ..112 => Err(Problem::new("the pool size must be no less than 112")),
        size if !size.is_multiple_of(16) => Err(Problem::new("the pool size must be a multiple of 16")),
        _ => Ok(()),
    }
}

fn aio(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    match args.word(0) {
        b"on" | b"off" | b"threads" => Ok(()),
        word if word.starts_with(b"threads=") => Ok(()),
        _ => Err(Problem::tail("invalid value").at(0)),
    }
}

fn root(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    set_root(conf, args, "root", None)
}

fn alias(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    if conf.place.name.first() == Some(&b'@') {
        return Err(Problem::new("the \"alias\" directive cannot be used inside the named location"));
    }
    let alias = if conf.place.is_regex { Alias::Whole } else { Alias::Prefix(conf.place.name.len()) };
    set_root(conf, args, "alias", Some(alias))
}

fn set_root(conf: &mut Conf, args: &mut Args<'_>, name: &'static str, alias: Option<Alias>) -> Result<(), Problem> {
    match conf.root_set.0 {
        Some(other) if other == name => return Err(Problem::tail("is duplicate")),
        Some(other) => {
            return Err(Problem::new(format!("\"{name}\" directive is duplicate, \"{other}\" directive was specified earlier")));
        }
        None => conf.root_set.0 = Some(name),
    }
    let word = args.word(0);
    for variable in [&b"$document_root"[..], b"${document_root}", b"$realpath_root", b"${realpath_root}"] {
        if memchr::memmem::find(word, variable).is_some() {
            let variable = text(variable).into_owned();
            let problem = format!("the {variable} variable cannot be used in the \"{name}\" directive");
            return Err(Problem::new(problem).at(0));
        }
    }
    // A trailing slash of `root` would stand twice before the URI.
    let word = if alias.is_none() { word.strip_suffix(b"/").unwrap_or(word) } else { word };
    conf.core.root = core::Root { path: Value::read(word, args)?, alias };
    Ok(())
}

fn types(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    // Several blocks of a scope add up.
    let before = conf.types.take().filter(|_| conf.own_types.0);
    let mut types = before.map_or_else(Types::default, Arc::unwrap_or_clone);
    for row in args.rows() {
        let kind = Bytes::copy_from_slice(&row.name.text);
        for extension in &row.args {
            if let Some(before) = types.insert(&extension.text, kind.clone()) {
                let kinds = format!("content type: \"{}\", previous content type: \"{}\"", text(&kind), text(&before));
                let problem = format!("duplicate extension \"{}\", {kinds}", text(&extension.text));
                args.env.warnings.push(Diag::error(problem, row.end, extension.span).warning());
            }
        }
    }
    conf.types = Some(Arc::new(types));
    conf.own_types.0 = true;
    Ok(())
}

fn error_page(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let words: Vec<&[u8]> = args.words().collect();
    let Some((uri, rest)) = words.split_last() else { return Ok(()) };
    let invalid = |word: &[u8], at: usize| Problem::new(format!("invalid value \"{}\"", text(word))).at(at);
    let (overwrite, codes) = match rest.split_last() {
        Some((last, codes)) if last.starts_with(b"=") => {
            let code = last.get(1..).unwrap_or_default();
            let code = if code.is_empty() { Some(0) } else { units::number(code).and_then(|code| u16::try_from(code).ok()) };
            match code {
                Some(code) if !codes.is_empty() => (Some(code), codes),
                _ => return Err(invalid(last, codes.len())),
            }
        }
        _ => (None, rest),
    };
    let (path, query) = match uri.iter().position(|&b| b == b'?') {
        Some(at) if uri.first() == Some(&b'/') && !uri.contains(&b'$') => {
            (uri.get(..at).unwrap_or_default(), uri.get(at + 1..))
        }
        _ => (*uri, None),
    };
    let value = Value::read(path, args)?;
    for (index, code) in codes.iter().enumerate() {
        let status = units::number(code).filter(|&status| status != 499).ok_or_else(|| invalid(code, index))?;
        if !(300..=599).contains(&status) {
            return Err(Problem::new(format!("value \"{status}\" must be between 300 and 599")).at(index));
        }
        let own = matches!(status, 494..=497).then_some(400);
        conf.core.error_pages.push(ErrorPage {
            status: u16::try_from(status).unwrap_or(599),
            overwrite: overwrite.or(own),
            uri: value.clone(),
            args: query.map(Bytes::copy_from_slice),
        });
    }
    Ok(())
}


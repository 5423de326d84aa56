//! The core module's variables: <https://nginx.org/en/docs/http/ngx_http_core_module.html#variables>

use std::net::IpAddr;

use bytes::Bytes;

use crate::http::core::Core;
use crate::http::headers::Known;
use crate::http::variable::variable;
use crate::http::request::Version;
use crate::http::{Method, Request, Variable, uri};
use crate::net::{Level, addr, clock};

/// All rows.
pub const VARIABLES: &[Variable<Core>] = &[
    // The request line.
    // Without all that a line is made of, HTTP/2 has none.
    variable("request", |_, r, _, out| (r.version != Version::HTTP_20 || !r.line.is_empty()) && put(out, &r.line)),
    variable("request_method", |_, r, _, out| {
        put(out, r.origin.as_ref().map_or(&r.method_name, |origin| &origin.method_name))
    }),
    variable("request_uri", |_, r, _, out| put(out, &r.target)),
    variable("server_protocol", |_, r, _, out| put(out, protocol(r))),
    variable("uri", |_, r, _, out| put(out, &r.uri)),
    variable("document_uri", |_, r, _, out| put(out, &r.uri)),
    Variable { name: "args", get: |_, r, _, out| args(r, out), set: Some(set_args) },
    variable("query_string", |_, r, _, out| args(r, out)),
    variable("is_args", |_, r, _, out| put(out, if r.args.is_empty() { b"" } else { b"?" })),
    variable("arg_", |_, r, name, out| {
        let found = uri::arg(&r.args, name);
        found.is_some_and(|value| put(out, value))
    }),
    // Header fields.
    variable("host", |core, r, _, out| put(out, if r.host.is_empty() { &core.server.name } else { &r.host })),
    variable("http_", |_, r, name, out| join(out, fields(&r.headers, name), name)),
    variable("cookie_", |_, r, name, out| cookie(r, name, out)),
    variable("content_length", |_, r, _, out| match r.headers.get(Known::ContentLength) {
        Some(value) => put(out, value),
        // The length of a body in chunks is known once it was read.
        None => r.body.is_chunked() && r.body.is_done() && r.body.kept().len().is_some_and(|length| number(out, length)),
    }),
    variable("content_type", |_, r, _, out| join(out, r.headers.all(Known::ContentType), b"content_type")),
    variable("is_request_port", |_, r, _, out| put(out, if r.host_port.is_empty() { b"" } else { b":" })),
    variable("request_port", |_, r, _, out| put(out, &r.host_port)),
    // The connection.
    variable("remote_addr", |_, r, _, out| put(out, r.peer_text())),
    variable("remote_port", |_, r, _, out| r.peer().filter(|peer| peer.port() > 0).is_some_and(|peer| number(out, u64::from(peer.port())))),
    variable("binary_remote_addr", |_, r, _, out| match r.peer_ip() {
        Some(IpAddr::V4(ip)) => put(out, &ip.octets()),
        Some(IpAddr::V6(ip)) => put(out, &ip.octets()),
        None => put(out, r.peer_text()),
    }),
    variable("remote_user", |_, r, _, out| {
        let user = crate::http::basic::credentials(r);
        user.is_some_and(|(user, _)| put(out, &user))
    }),
    variable("server_addr", |_, r, _, out| match r.client.local {
        Some(local) => put(out, &addr::text(local.ip())),
        None => put(out, &r.client.local_text),
    }),
    variable("server_port", |_, r, _, out| match r.client.local {
        Some(local) => number(out, u64::from(local.port())),
        None => put(out, b""),
    }),
    variable("server_name", |core, _, _, out| put(out, &core.server.name)),
    variable("connection", |_, r, _, out| number(out, r.client.number)),
    variable("connection_requests", |_, r, _, out| number(out, r.client.requests.get())),
    variable("connection_time", |_, r, _, out| seconds(out, clock::since(r.client.started))),
    variable("proxy_protocol_addr", |_, r, _, out| r.client.proxied.get().is_some_and(|p| put(out, &p.source))),
    variable("proxy_protocol_port", |_, r, _, out| {
        r.client.proxied.get().is_some_and(|p| number(out, u64::from(p.source_port)))
    }),
    variable("proxy_protocol_server_addr", |_, r, _, out| {
        r.client.proxied.get().is_some_and(|p| put(out, &p.destination))
    }),
    variable("proxy_protocol_server_port", |_, r, _, out| {
        r.client.proxied.get().is_some_and(|p| number(out, u64::from(p.destination_port)))
    }),
    variable("proxy_protocol_tlv_", |_, r, name, out| match r.client.proxied.get().map(|p| p.tlv(name)) {
        Some(Ok(Some(value))) => put(out, &value),
        Some(Err(problem)) => {
            r.log(Level::Error, &problem);
            false
        }
        _ => false,
    }),
    variable("pipe", |_, r, _, out| put(out, if r.pipelined { b"p" } else { b"." })),
    variable("scheme", |_, r, _, out| put(out, if r.is_tls() { b"https" } else { b"http" })),
    variable("https", |_, r, _, out| put(out, if r.is_tls() { b"on" } else { b"" })),
    // Files.
    variable("document_root", |core, r, _, out| {
        core.append_document_root(r, out);
        true
    }),
    variable("realpath_root", |core, r, _, out| {
        use std::os::unix::ffi::OsStrExt;
        let root = core.document_root(r);
        let real = std::fs::canonicalize(std::ffi::OsStr::from_bytes(&root)).ok();
        real.is_some_and(|path| put(out, path.as_os_str().as_bytes()))
    }),
    variable("request_filename", |core, r, _, out| put(out, &core.map_uri(r, &r.uri))),
    // The request as a whole.
    variable("request_length", |_, r, _, out| number(out, r.head_len + r.body.received())),
    variable("request_time", |_, r, _, out| seconds(out, clock::since(r.started))),
    variable("request_id", |_, r, _, out| put(out, r.id().as_bytes())),
    variable("request_completion", |_, r, _, out| put(out, if r.sent.complete { b"OK" } else { b"" })),
    variable("request_body", |_, r, _, out| r.body.in_memory().is_some_and(|body| put(out, &body))),
    variable("request_body_file", |_, r, _, out| {
        use std::os::unix::ffi::OsStrExt;
        r.body.file_path().is_some_and(|path| put(out, path.as_os_str().as_bytes()))
    }),
    Variable {
        name: "limit_rate",
        get: |_, r, _, out| number(out, r.limit_rate.unwrap_or_default()),
        set: Some(|r, value| r.limit_rate = crate::conf::units::size(&value)),
    },
    // The response.
    variable("status", |_, r, _, out| put(out, format!("{:03}", r.status()).as_bytes())),
    variable("bytes_sent", |_, r, _, out| number(out, r.sent.bytes)),
    variable("body_bytes_sent", |_, r, _, out| number(out, r.sent.bytes.saturating_sub(r.sent.head_bytes))),
    variable("sent_http_", sent_http),
    variable("sent_trailer_", |_, r, name, out| join(out, fields(&r.sent.trailers.borrow(), name), name)),
    // The machine.
    variable("hostname", |_, _, _, out| {
        let name = nix::unistd::gethostname().unwrap_or_default();
        put(out, name.to_string_lossy().to_ascii_lowercase().as_bytes())
    }),
    variable("pid", |_, _, _, out| number(out, u64::from(std::process::id()))),
    variable("nginx_version", |_, _, _, out| put(out, crate::VERSION.as_bytes())),
    variable("msec", |_, _, _, out| seconds(out, clock::now().0)),
    variable("time_local", |_, _, _, out| put(out, clock::now().1.local.as_bytes())),
    variable("time_iso8601", |_, _, _, out| put(out, clock::now().1.iso8601.as_bytes())),
];

/// Appends and says that there is a value.
fn put(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    out.extend_from_slice(bytes);
    true
}

fn number(out: &mut Vec<u8>, number: u64) -> bool {
    put(out, itoa::Buffer::new().format(number).as_bytes())
}

fn seconds(out: &mut Vec<u8>, time: std::time::Duration) -> bool {
    clock::seconds(time, out);
    true
}

/// The protocol as the request line writes it.
fn protocol(request: &Request) -> &[u8] {
    if request.version == Version::HTTP_20 {
        return b"HTTP/2.0";
    }
    let at = memchr::memmem::rfind(&request.line, b"HTTP/").filter(|_| !request.method_name.is_empty());
    at.and_then(|at| request.line.get(at..)).unwrap_or_default()
}

fn args(request: &Request, out: &mut Vec<u8>) -> bool {
    (request.has_args || !request.args.is_empty()) && put(out, &request.args)
}

fn set_args(request: &mut Request, value: Bytes) {
    (request.args, request.has_args) = (value, true);
    request.is_target = false;
}

/// The fields whose name, folded as variables fold it, is `name`.
fn fields<'a>(headers: &'a crate::http::Headers, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let same = move |field: &[u8]| {
        let fold = |b: &u8| if *b == b'-' { b'_' } else { b.to_ascii_lowercase() };
        field.len() == name.len() && field.iter().map(fold).eq(name.iter().copied())
    };
    headers.iter().filter(move |field| same(field.name)).map(|field| field.value)
}

/// Joins repeated fields as nginx does: cookies with `; `, everything else with `, `.
fn join<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> bool {
    let separator: &[u8] = if name == b"cookie" { b"; " } else { b", " };
    let mut found = false;
    for value in values {
        if found {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(value);
        found = true;
    }
    found
}

fn cookie(request: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let pairs = request.headers.all(Known::Cookie).flat_map(|line| line.split(|&b| b == b';'));
    let mut pairs = pairs.map(|pair| pair.trim_ascii_start());
    let found = pairs.find_map(|pair| {
        let (key, value) = pair.split_at_checked(name.len())?;
        key.eq_ignore_ascii_case(name).then(|| value.strip_prefix(b"=")).flatten()
    });
    found.is_some_and(|value| put(out, value))
}

fn sent_http(core: &Core, request: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let head = &*request.sent.head.borrow();
    match name {
        b"content_type" => head.content_type.as_ref().is_some_and(|kind| {
            put(out, kind);
            match &head.charset {
                Some(charset) => put(out, b"; charset=") && put(out, charset),
                None => true,
            }
        }),
        b"content_length" => head.content_length.is_some_and(|length| number(out, length)),
        b"last_modified" => match (&head.last_modified_text, head.last_modified) {
            (Some(text), _) => put(out, text),
            (None, Some(time)) => put(out, clock::http(time).as_bytes()),
            _ => false,
        },
        b"location" => {
            let stored = head.location.as_ref().is_some_and(|location| put(out, location));
            stored || join(out, fields(&head.headers, name), name)
        }
        b"connection" if head.status == 101 => put(out, b"upgrade"),
        b"connection" => put(out, if request.keep_alive { b"keep-alive" } else { b"close" }),
        b"keep_alive" => match core.keepalive_header.filter(|_| request.keep_alive) {
            Some(time) => put(out, format!("timeout={time}").as_bytes()),
            None => false,
        },
        b"transfer_encoding" => {
            let bodiless = matches!(head.status, 100..200 | 204 | 304) || request.method == Method::Head;
            head.content_length.is_none() && !bodiless && core.may_chunk(request.version) && put(out, b"chunked")
        }
        _ => join(out, fields(&head.headers, name), name),
    }
}

//! What a request tells an application in the way of CGI: `*_param`, and its header fields as `HTTP_…` (RFC 3875 §4.1).
//!
//! <https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html#uwsgi_param>

use bytes::Bytes;

use crate::conf::args::text;
use crate::conf::{Args, List, Problem};
use crate::http::headers::Field;
use crate::http::{Known, Request, Value};

/// One `*_param`.
#[derive(Clone)]
pub struct Param {
    name: Bytes,
    /// What stands in the configuration.
    pub value: Value,
    if_not_empty: bool,
}

/// The setter of `*_param`.
pub fn param(list: &mut List<Param>, args: &mut Args<'_>) -> Result<(), Problem> {
    let if_not_empty = match args.get(2) {
        None => false,
        Some(b"if_not_empty") => true,
        Some(other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(2)),
    };
    let value = Value::defer(args.word(1), args)?;
    list.push(Param { name: Bytes::copy_from_slice(args.word(0)), value, if_not_empty });
    Ok(())
}

/// How a protocol writes a parameter.
pub trait Framing {
    /// Appends what stands in front of the value.
    fn open(name: &[u8], out: &mut Vec<u8>);

    /// Completes that, and appends what stands behind the value, which begins `at` there and ends `out`.
    fn close(name: &[u8], out: &mut Vec<u8>, at: usize);
}

/// The parameters of a place.
pub struct Params {
    params: Vec<Param>,
    /// The fields that parameters stand for, folded, without `HTTP_`.
    replaced: Vec<Vec<u8>>,
    /// Whether the host is told from the request.
    host: bool,
    /// Whether the fields of the request go along.
    fields: bool,
}

impl Params {
    /// The parameters that these `*_param`s make; `fields` are passed as well unless `*_pass_request_headers` is off.
    pub fn seal(params: &[Param], fields: bool) -> Self {
        let field = |param: &Param| {
            param.name.strip_prefix(b"HTTP_").filter(|name| !name.is_empty()).map(<[u8]>::to_ascii_lowercase)
        };
        let mut replaced: Vec<Vec<u8>> = params.iter().filter_map(field).collect();
        let host = !params.iter().any(|param| param.name.eq_ignore_ascii_case(b"HTTP_HOST"));
        if host {
            replaced.push(b"host".to_vec());
        }
        // An empty one keeps a field back.
        let sent = params.iter().filter(|param| field(param).is_none() || !param.value.is_empty());
        Self { params: sent.cloned().collect(), replaced, host, fields }
    }

    /// Appends every parameter.
    pub fn append<F: Framing>(&self, request: &Request, out: &mut Vec<u8>) {
        for param in &self.params {
            put::<F>(&param.name, param.if_not_empty, out, |out| param.value.append(request, out));
        }
        if self.host {
            put::<F>(b"HTTP_HOST", true, out, |out| host(request, out));
        }
        if self.fields {
            self.append_fields::<F>(request, out);
        }
    }

    fn append_fields<F: Framing>(&self, request: &Request, out: &mut Vec<u8>) {
        let mut name = Vec::with_capacity(64);
        for (at, field) in request.headers.iter().enumerate() {
            let is_replaced =
                |other: &Vec<u8>| other.len() == field.name.len() && folded(field.name).eq(other.iter().copied());
            let same = |other: &Field<'_>| other.known == field.known && other.name.eq_ignore_ascii_case(field.name);
            if self.replaced.iter().any(is_replaced) || request.headers.iter().take(at).any(|other| same(&other)) {
                continue;
            }
            name.clear();
            name.extend_from_slice(b"HTTP_");
            name.extend(folded(field.name).map(|b| b.to_ascii_uppercase()));
            put::<F>(&name, false, out, |out| {
                out.extend_from_slice(field.value);
                for other in request.headers.iter().skip(at + 1).filter(same) {
                    out.extend_from_slice(if field.known == Known::Cookie { b"; " } else { b", " });
                    out.extend_from_slice(other.value);
                }
            });
        }
    }
}

fn put<F: Framing>(name: &[u8], if_not_empty: bool, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    F::open(name, out);
    let at = out.len();
    value(out);
    if if_not_empty && out.len() == at {
        out.truncate(start);
    } else {
        F::close(name, out, at);
    }
}

/// The host and port that the client named, or the server's name.
fn host(request: &Request, out: &mut Vec<u8>) {
    let host = if request.host.is_empty() { &request.core().server.name } else { &request.host };
    out.extend_from_slice(host);
    if !request.host_port.is_empty() {
        out.push(b':');
        out.extend_from_slice(&request.host_port);
    }
}

/// The name of a field as parameters have it, in lower case.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(|b| if *b == b'-' { b'_' } else { b.to_ascii_lowercase() })
}

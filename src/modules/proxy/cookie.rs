//! `proxy_cookie_domain`, `proxy_cookie_path`, `proxy_cookie_flags`: attributes of `Set-Cookie` that are rewritten.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cookie_domain>

use std::sync::Arc;

use bytes::Bytes;

use super::redirect::{self, Rule};
use crate::conf::args::text;
use crate::conf::{Args, Field, List, Problem};
use crate::http::pattern::Pattern;
use crate::http::{Request, Value};
use crate::modules::rewrite;

/// The rules.
#[derive(Clone, Default)]
pub struct Conf {
    domains: List<Rule>,
    paths: List<Rule>,
    flags: List<Flags>,
}

/// Flags for the cookies that a name or pattern names.
#[derive(Clone)]
struct Flags {
    cookie: Cookie,
    flags: Vec<Value>,
}

#[derive(Clone)]
enum Cookie {
    /// `off`: the list of an outer scope does not count.
    None,
    Name(Value),
    Pattern(Arc<Pattern>),
}

const FLAGS: [&str; 8] = [
    "secure",
    "nosecure",
    "httponly",
    "nohttponly",
    "samesite=strict",
    "samesite=lax",
    "samesite=none",
    "nosamesite",
];

/// `proxy_cookie_domain`.
pub fn domain(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    rule(&mut conf.domains, args, redirect::read_domain)
}

/// `proxy_cookie_path`.
pub fn path(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    rule(&mut conf.paths, args, redirect::read)
}

/// Reads the two arguments of a rule.
type Read = fn(&mut Args<'_>) -> Result<Rule, Problem>;

fn rule(list: &mut List<Rule>, args: &mut Args<'_>, read: Read) -> Result<(), Problem> {
    if redirect::contradicts(list, args) {
        return Err(Problem::tail("is duplicate"));
    }
    let rule = match (args.len(), args.word(0)) {
        (1, b"off") => Rule::Off,
        (1, other) => return Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(0)),
        _ => read(args)?,
    };
    list.push(rule);
    Ok(())
}

/// `proxy_cookie_flags`.
pub fn flags(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let off = args.len() == 1 && args.word(0) == b"off";
    if conf.flags.is_own() && conf.flags.first().is_some_and(|first| off || matches!(first.cookie, Cookie::None)) {
        return Err(Problem::tail("is duplicate"));
    }
    if args.len() == 1 {
        return match args.word(0) {
            b"off" => {
                conf.flags.push(Flags { cookie: Cookie::None, flags: Vec::new() });
                Ok(())
            }
            other => Err(Problem::new(format!("invalid parameter \"{}\"", text(other))).at(0)),
        };
    }
    let cookie = match args.word(0).strip_prefix(b"~") {
        Some(source) => Cookie::Pattern(rewrite::pattern(source, true, args).map_err(|problem| problem.at(0))?),
        None => Cookie::Name(Value::read(args.word(0), args)?),
    };
    // What is no flag is found where a response comes, as it may be a variable's value.
    let words = args.words().skip(1);
    let flags = words.map(|word| Value::read(word, args)).collect::<Result<_, _>>()?;
    conf.flags.push(Flags { cookie, flags });
    Ok(())
}

/// A cookie's name and value, then its attributes.
type Attribute = (Vec<u8>, Option<Vec<u8>>);

/// What a cookie becomes; nothing where no rule fits.
pub fn rewrite(conf: &Conf, line: &[u8], request: &mut Request) -> Option<Vec<u8>> {
    if conf.domains.is_empty() && conf.paths.is_empty() && conf.flags.is_empty() {
        return None;
    }
    let mut attributes = parse(line);
    let (name, value) = attributes.first()?;
    value.as_ref()?;
    let name = Bytes::copy_from_slice(name);
    let mut changed = false;
    for (key, value) in attributes.iter_mut().skip(1) {
        let Some(value) = value else { continue };
        let new = if key.eq_ignore_ascii_case(b"domain") {
            new_domain(&conf.domains, value, request)
        } else if key.eq_ignore_ascii_case(b"path") {
            redirect::location(&conf.paths, value, request)
        } else {
            None
        };
        if let Some(new) = new {
            *value = new;
            changed = true;
        }
    }
    let wanted = wanted(&conf.flags, &name, request);
    changed |= !wanted.is_empty();
    wanted.iter().for_each(|flag| set(&mut attributes, flag));
    changed.then(|| print(&attributes))
}

fn parse(line: &[u8]) -> Vec<Attribute> {
    let attribute = |part: &[u8]| match part.iter().position(|&b| b == b'=') {
        Some(at) => {
            let (key, value) = part.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            (key.trim_ascii().to_vec(), Some(value.trim_ascii().to_vec()))
        }
        None => (part.trim_ascii().to_vec(), None),
    };
    line.split(|&b| b == b';').map(attribute).collect()
}

fn print(attributes: &[Attribute]) -> Vec<u8> {
    let one = |(key, value): &Attribute| match value {
        Some(value) => [key.as_slice(), b"=", value].concat(),
        None => key.clone(),
    };
    attributes.iter().map(one).collect::<Vec<_>>().join(&b"; "[..])
}

/// A domain as a whole, in any case; its leading dot stays.
fn new_domain(rules: &[Rule], value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
    let (dot, bare) = value.strip_prefix(b".").map_or((&b""[..], value), |bare| (&b"."[..], bare));
    rules.iter().find_map(|rule| match rule {
        Rule::Prefix(from, to) => {
            let fits = from.get(request).eq_ignore_ascii_case(bare);
            fits.then(|| [dot, &to.get(request)].concat())
        }
        rule => redirect::location(std::slice::from_ref(rule), value, request),
    })
}

/// The flags of the first rule that names this cookie, in lower case.
fn wanted(rules: &[Flags], name: &Bytes, request: &mut Request) -> Vec<Vec<u8>> {
    let rule = rules.iter().find(|rule| match &rule.cookie {
        Cookie::None => false,
        Cookie::Name(value) => value.get(request).eq_ignore_ascii_case(name),
        Cookie::Pattern(pattern) => rewrite::matches(request, name, pattern, &Vec::new()),
    });
    let flags = rule.map_or(&[][..], |rule| &rule.flags);
    let values = flags.iter().map(|value| value.get(request).to_ascii_lowercase());
    values.filter(|flag| FLAGS.iter().any(|known| known.as_bytes() == flag)).collect()
}

/// Sets or removes one flag.
fn set(attributes: &mut Vec<Attribute>, flag: &[u8]) {
    let (key, value, on): (&[u8], Option<&[u8]>, bool) = match flag {
        b"secure" => (b"Secure", None, true),
        b"nosecure" => (b"Secure", None, false),
        b"httponly" => (b"HttpOnly", None, true),
        b"nohttponly" => (b"HttpOnly", None, false),
        b"samesite=strict" => (b"SameSite", Some(b"Strict"), true),
        b"samesite=lax" => (b"SameSite", Some(b"Lax"), true),
        b"samesite=none" => (b"SameSite", Some(b"None"), true),
        _ => (b"SameSite", None, false),
    };
    let is = |(other, _): &Attribute| other.eq_ignore_ascii_case(key);
    if !on {
        let mut first = true;
        attributes.retain(|attribute| std::mem::take(&mut first) || !is(attribute));
        return;
    }
    match attributes.iter_mut().skip(1).find(|attribute| is(attribute)) {
        Some((name, old)) if value.is_some_and(|new| !old.as_ref().is_some_and(|old| old.eq_ignore_ascii_case(new))) => {
            (*name, *old) = (key.to_vec(), value.map(<[u8]>::to_vec));
        }
        Some(_) => {}
        None => attributes.push((key.to_vec(), value.map(<[u8]>::to_vec))),
    }
}

//! `proxy_redirect`: the prefix or pattern of `Location` and `Refresh` that is replaced.

use std::sync::Arc;

use bytes::Bytes;

use super::Pass;
use crate::conf::names::VarId;
use crate::conf::{Args, Field, List, Problem};
use crate::http::pattern::Pattern;
use crate::http::{Request, Value};
use crate::modules::rewrite;

/// One rule.
#[derive(Clone)]
pub enum Rule {
    /// Nothing is replaced.
    Off,
    /// A prefix.
    Prefix(Value, Value),
    /// A pattern, with the slots of its named groups.
    Pattern(Arc<Pattern>, Vec<(u16, VarId)>, Value),
}

impl Rule {
    /// What `default` stands for: the URL of `proxy_pass` becomes the location's prefix.
    pub fn default_of(pass: &Pass) -> Self {
        let rest = super::pass::SCHEME.strip(&pass.url).map(|bare| bare.rest).unwrap_or_default();
        let has_uri = crate::net::addr::url(rest).is_ok_and(|url| !url.uri.is_empty());
        let (from, to) = if has_uri {
            (pass.url.clone(), pass.place.name.clone())
        } else {
            ([&pass.url, &b"/"[..]].concat().into(), Bytes::from_static(b"/"))
        };
        Rule::Prefix(Value::Literal(from), Value::Literal(to))
    }

    /// The value with its prefix or match replaced; nothing where the rule does not fit.
    fn apply(&self, value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
        match self {
            Rule::Off => None,
            Rule::Prefix(from, to) => {
                let from = from.get(request);
                let rest = value.strip_prefix(&*from)?;
                let mut out = to.get(request).into_owned();
                out.extend_from_slice(rest);
                Some(out)
            }
            Rule::Pattern(pattern, groups, to) => {
                let subject = Bytes::copy_from_slice(value);
                rewrite::matches(request, &subject, pattern, groups).then(|| to.get(request).into_owned())
            }
        }
    }
}

/// Whether another directive contradicts those of the same scope: `off` stands alone.
pub fn contradicts(rules: &List<Rule>, args: &Args<'_>) -> bool {
    let off = args.len() == 1 && args.word(0) == b"off";
    rules.is_own() && rules.first().is_some_and(|first| off || matches!(first, Rule::Off))
}

/// Reads `from to`.
pub fn read(args: &mut Args<'_>) -> Result<Rule, Problem> {
    let (from, to) = (args.word(0), args.word(1));
    match from.strip_prefix(b"~") {
        Some(source) => {
            let (source, caseless) = source.strip_prefix(b"*").map_or((source, false), |source| (source, true));
            pattern(source, caseless, args)
        }
        None => Ok(Rule::Prefix(Value::read(from, args)?, Value::read(to, args)?)),
    }
}

/// Reads `from to` of domains: patterns do not tell cases apart, and a leading dot is left where it stands.
pub fn read_domain(args: &mut Args<'_>) -> Result<Rule, Problem> {
    let (from, to) = (args.word(0), args.word(1));
    match from.strip_prefix(b"~") {
        Some(source) => pattern(source, true, args),
        None => {
            let from = from.strip_prefix(b".").unwrap_or(from);
            let to = to.strip_prefix(b".").unwrap_or(to);
            Ok(Rule::Prefix(Value::read(from, args)?, Value::read(to, args)?))
        }
    }
}

fn pattern(source: &[u8], caseless: bool, args: &mut Args<'_>) -> Result<Rule, Problem> {
    let pattern = rewrite::pattern(source, caseless, args).map_err(|problem| problem.at(0))?;
    let groups = rewrite::groups(&pattern, args);
    Ok(Rule::Pattern(pattern, groups, Value::read(args.word(1), args)?))
}

/// What `Location` becomes; nothing where no rule fits.
pub fn location(rules: &[Rule], value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
    rules.iter().find_map(|rule| rule.apply(value, request))
}

/// What `Refresh` becomes.
pub fn refresh(rules: &[Rule], value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
    let lower = value.to_ascii_lowercase();
    let at = memchr::memmem::find(&lower, b"url=")? + 4;
    let (head, url) = value.split_at_checked(at)?;
    let url = location(rules, url, request)?;
    Some([head, &url].concat())
}

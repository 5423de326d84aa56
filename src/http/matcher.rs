//! A pattern whose named groups become variables: <https://nginx.org/en/docs/http/ngx_http_map_module.html>

use bytes::Bytes;

use super::pattern::Pattern;
use super::request::Request;
use crate::conf::names::VarId;
use crate::conf::{Args, Problem};

/// A pattern and the slots of its named groups.
#[derive(Debug)]
pub struct Matcher {
    pattern: Pattern,
    groups: Vec<(u16, VarId)>,
}

impl Matcher {
    /// Compiles `source` and gives its named groups slots.
    pub fn read(source: &[u8], caseless: bool, args: &mut Args<'_>) -> Result<Self, Problem> {
        let pattern = Pattern::new(source, caseless).map_err(|error| Problem::new(error.to_string()))?;
        let at = args.directive().end;
        let groups =
            pattern.names().iter().map(|(name, group)| (*group, args.env.names.slot(name, Some(at)))).collect();
        Ok(Self { pattern, groups })
    }

    /// Matches `subject`; a success leaves its captures and named groups on the request.
    pub fn matches(&self, request: &Request, subject: &Bytes) -> bool {
        let Some(captures) = self.pattern.captures(subject) else { return false };
        for (group, id) in &self.groups {
            let range = captures.get(usize::from(*group)).copied().flatten();
            let value = range.map_or(Bytes::new(), |(start, end)| subject.slice(start as usize..end as usize));
            request.keep(*id, value);
        }
        request.vars.set_captures(subject.clone(), captures);
        true
    }
}

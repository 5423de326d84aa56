//! Conditional requests (RFC 9110 §13.1), with `if_modified_since` and `etag` of
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#if_modified_since>

use super::{Phases, Seal};
use crate::conf::Diag;
use crate::http::core::IfModifiedSince;
use crate::http::{Body, Head, Headers, Known, Request};
use crate::net::clock;

/// `ngx_http_not_modified_filter_module`.
pub struct Module;

impl super::Module for Module {
    type Conf = ();
    type Main = ();
    type Loc = ();
    const PHASES: Phases = Phases::FILTER;

    fn seal((): (), (): &(), _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }

    fn filter((): &(), request: &Request, head: &mut Head, body: Body) -> Body {
        if head.status != 200 || head.unconditional {
            return body;
        }
        match judge(request, head) {
            Verdict::Send => return body,
            Verdict::NotModified => {
                (head.status, head.line) = (304, None);
                (head.content_type, head.content_length) = (None, None);
                head.allow_ranges = false;
                head.headers.remove(Known::ContentEncoding);
            }
            Verdict::Failed => {
                head.refused = Some(412);
                head.headers = Headers::default();
            }
        }
        Body::Empty
    }
}

enum Verdict {
    Send,
    NotModified,
    Failed,
}

fn judge(request: &Request, head: &Head) -> Verdict {
    let field = |known| request.headers.get(known);
    let modified = head.last_modified;
    if let Some(text) = field(Known::IfUnmodifiedSince)
        && modified.is_none_or(|modified| time(text) < modified)
    {
        return Verdict::Failed;
    }
    let etag = head.headers.get(Known::ETag);
    if field(Known::IfMatch).is_some_and(|list| !matches(list, etag, false)) {
        return Verdict::Failed;
    }
    let (since, none) = (field(Known::IfModifiedSince), field(Known::IfNoneMatch));
    let newer = |text| match (modified, request.core().if_modified_since) {
        (None, _) | (_, IfModifiedSince::Off) => true,
        (Some(modified), IfModifiedSince::Exact) => time(text) != modified,
        (Some(modified), IfModifiedSince::Before) => time(text) < modified,
    };
    let changed = since.is_some_and(newer) || none.is_some_and(|list| !matches(list, etag, true));
    if changed || (since.is_none() && none.is_none()) { Verdict::Send } else { Verdict::NotModified }
}

/// A date; one that cannot be read is older than all others.
fn time(text: &[u8]) -> i64 {
    clock::parse(text).unwrap_or(-1)
}

/// Whether a list of tags, or `*`, has this one. A weak comparison passes over `W/` on both sides.
fn matches(list: &[u8], etag: Option<&[u8]>, weak: bool) -> bool {
    if list == b"*" {
        return true;
    }
    let Some(etag) = etag else { return false };
    let bare = |tag| strip(tag, weak);
    let (etag, mut rest) = (bare(etag), list);
    while !rest.is_empty() {
        let Some((start, after)) = bare(rest).split_at_checked(etag.len()) else { return false };
        let after = after.trim_ascii_start();
        if start == etag && matches!(after.first(), None | Some(b',')) {
            return true;
        }
        let Some(comma) = rest.iter().position(|&b| b == b',') else { return false };
        let next = rest.iter().skip(comma).position(|b| !matches!(b, b' ' | b'\t' | b','));
        rest = next.and_then(|next| rest.get(comma + next..)).unwrap_or_default();
    }
    false
}

fn strip(tag: &[u8], weak: bool) -> &[u8] {
    tag.strip_prefix(b"W/").filter(|bare| weak && !bare.is_empty()).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_tags() {
        let table = [
            ("*", None, false, true),
            ("\"a\"", None, true, false),
            ("\"a\"", Some("\"a\""), false, true),
            ("\"b\", \"a\"", Some("\"a\""), false, true),
            ("\"b\" ,, \"a\" ", Some("\"a\""), false, true),
            ("\"a\"x, \"b\"", Some("\"a\""), false, false),
            ("W/\"a\"", Some("\"a\""), false, false),
            ("W/\"a\"", Some("\"a\""), true, true),
            ("\"a\"", Some("W/\"a\""), true, true),
            ("W/\"a\"", Some("W/\"a\""), false, true),
            ("tt", Some("\"a-long-tag\""), false, false),
            ("", Some("\"a\""), true, false),
        ];
        for (list, etag, weak, want) in table {
            assert_eq!(matches(list.as_bytes(), etag.map(str::as_bytes), weak), want, "{list} {etag:?} {weak}");
        }
    }
}

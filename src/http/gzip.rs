//! Whether a client may be sent gzip: <https://nginx.org/en/docs/http/ngx_http_gzip_module.html#gzip_proxied>

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;

use super::agent::Agent;
use super::headers::{Headers, Known};
use super::pattern::Pattern;
use super::request::{Request, Version};
use super::response::Head;
use crate::conf::field::one_of;
use crate::conf::{Args, List, Problem};
use crate::net::clock;

/// What `gzip_vary`, `gzip_http_version`, `gzip_proxied` and `gzip_disable` say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether responses that depend on it say so.
    pub vary: bool,
    /// The lowest version that gets it.
    pub http_version: Version,
    proxied: List<Proxied>,
    disable: List<Arc<Pattern>>,
    disable_msie6: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vary: false,
            http_version: Version::HTTP_11,
            proxied: List::default(),
            disable: List::default(),
            disable_msie6: false,
        }
    }
}

/// A word of `gzip_proxied`; none at all is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxied {
    Off,
    Expired,
    NoCache,
    NoStore,
    Private,
    NoLastModified,
    NoEtag,
    Auth,
    Any,
}

/// What a request knows of it.
#[derive(Debug, Default)]
pub struct State {
    accepted: Cell<Option<bool>>,
    /// Whether the response would be another one for a client that accepts it less or more.
    pub vary: Cell<bool>,
    /// Bytes before and after, where the response is being compressed.
    pub counts: OnceCell<Rc<Cell<(u64, u64)>>>,
}

impl State {
    /// Forgets what held before an internal redirect.
    pub fn reset(&self) {
        self.accepted.set(None);
        self.vary.set(false);
    }
}

impl Settings {
    /// Reads `gzip_proxied`.
    pub fn read_proxied(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        const WORDS: [(&str, Proxied); 9] = [
            ("off", Proxied::Off),
            ("expired", Proxied::Expired),
            ("no-cache", Proxied::NoCache),
            ("no-store", Proxied::NoStore),
            ("private", Proxied::Private),
            ("no_last_modified", Proxied::NoLastModified),
            ("no_etag", Proxied::NoEtag),
            ("auth", Proxied::Auth),
            ("any", Proxied::Any),
        ];
        for (at, word) in args.words().enumerate() {
            let value = one_of(word, &WORDS).map_err(|problem| problem.at(at))?;
            if self.proxied.is_own() && self.proxied.contains(&value) {
                args.warn(format!("duplicate value \"{}\"", String::from_utf8_lossy(word)));
            }
            self.proxied.push(value);
        }
        Ok(())
    }

    /// Reads `gzip_disable`.
    pub fn read_disable(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        // Patterns of an outer scope end even where only `msie6` is named; that word itself is inherited.
        if !self.disable.is_own() {
            self.disable.clear();
        }
        for (at, word) in args.words().enumerate() {
            match word {
                b"msie6" => self.disable_msie6 = true,
                _ => {
                    let pattern = Pattern::new(word, true);
                    let pattern = pattern.map_err(|error| Problem::new(error.to_string()).at(at))?;
                    self.disable.push(Arc::new(pattern));
                }
            }
        }
        Ok(())
    }

    fn accept(&self, request: &Request, head: &Head) -> bool {
        let field = |known| request.headers.get(known);
        field(Known::AcceptEncoding).is_some_and(names_gzip)
            && !(self.disable_msie6 && request.agent() == Agent::Msie { old: true })
            && request.version >= self.http_version
            && (field(Known::Via).is_none() || self.through_proxy(request, head))
            && !field(Known::UserAgent).is_some_and(|agent| self.disable.iter().any(|pattern| pattern.matches(agent)))
    }

    fn through_proxy(&self, request: &Request, head: &Head) -> bool {
        let says = |word| self.proxied.contains(&word);
        if self.proxied.is_empty() || says(Proxied::Off) {
            return false;
        }
        if says(Proxied::Any) || (says(Proxied::Auth) && request.headers.get(Known::Authorization).is_some()) {
            return true;
        }
        if let Some(expires) = head.headers.get(Known::Expires) {
            let date = head
                .headers
                .get(Known::Date)
                .filter(|_| head.has_date)
                .map_or_else(|| i64::try_from(Request::now().as_secs()).ok(), clock::parse);
            let expired = clock::parse(expires).zip(date).is_some_and(|(expires, date)| expires < date);
            return says(Proxied::Expired) && expired;
        }
        if head.headers.get(Known::CacheControl).is_some() {
            let words = [(Proxied::NoCache, "no-cache"), (Proxied::NoStore, "no-store"), (Proxied::Private, "private")];
            return words.into_iter().any(|(word, text)| says(word) && cache_control(&head.headers, text));
        }
        let lacks = [(Proxied::NoLastModified, Known::LastModified), (Proxied::NoEtag, Known::ETag)];
        lacks.into_iter().all(|(word, known)| !says(word) || head.headers.get(known).is_none())
    }
}

/// Whether the response with this head may be sent as gzip. The first answer holds for the request.
pub fn accepted(request: &Request, head: &Head) -> bool {
    let known = request.gzip.accepted.get();
    let accepted = known.unwrap_or_else(|| request.core().gzip.accept(request, head));
    request.gzip.accepted.set(Some(accepted));
    accepted
}

/// Takes from a head what does not hold for a body whose coding changes: length, ranges, and the tag's strength.
pub fn recode(head: &mut Head) {
    head.content_length = None;
    head.allow_ranges = false;
    head.headers.remove(Known::AcceptRanges);
    match head.headers.get(Known::ETag) {
        None => {}
        Some(tag) if tag.len() > 2 && tag.starts_with(b"W/") => {}
        Some(tag) if tag.starts_with(b"\"") => {
            let weak = [b"W/", tag].concat();
            head.headers.set(b"ETag", &weak);
        }
        Some(_) => head.headers.remove(Known::ETag),
    }
}

fn cache_control(headers: &Headers, word: &str) -> bool {
    let mut parts = headers.all(Known::CacheControl).flat_map(|value| value.split(|b| matches!(b, b',' | b';' | b'=')));
    parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether an `Accept-Encoding` has gzip with a weight above zero.
fn names_gzip(value: &[u8]) -> bool {
    let found = value.windows(4).position(|word| word.eq_ignore_ascii_case(b"gzip"));
    let Some((before, rest)) = found.and_then(|at| value.split_at_checked(at)) else { return false };
    let rest = rest.get(4..).unwrap_or_default();
    if !matches!(before.last(), None | Some(b',' | b' ')) {
        return names_gzip(rest);
    }
    let trim = |text: &[u8]| text.iter().position(|&b| b != b' ').map_or(text.len(), |at| at);
    match rest.get(trim(rest)..).unwrap_or_default() {
        [] | [b',', ..] => true,
        [b';', rest @ ..] => match rest.get(trim(rest)..).unwrap_or_default() {
            [] => true,
            [b'q' | b'Q', b'=', weight @ ..] => is_positive(weight),
            _ => false,
        },
        _ => false,
    }
}

fn is_positive(weight: &[u8]) -> bool {
    match weight.split(|b| matches!(b, b',' | b' ')).next().unwrap_or_default() {
        [b'1'] => true,
        [b'1', b'.', digits @ ..] => digits.len() <= 3 && digits.iter().all(|&b| b == b'0'),
        [b'0', b'.', digits @ ..] => {
            digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|&b| b != b'0')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_accept_encoding() {
        let yes = [
            "gzip",
            "GZIP",
            "gzip, br",
            "br, gzip",
            "br,gzip;q=0.5",
            "gzip; q=1",
            "gzip ;q=1.000, x",
            "gzip;",
            "x-gzip, gzip",
            "gzip;q=0.001",
        ];
        let no = [
            "",
            "gz",
            "x-gzip",
            "gzipped",
            "gzip;q=0",
            "gzip; q=0.000",
            "gzip;q=",
            "gzip;q=2",
            "gzip;q=1.5",
            "gzip;x=1",
        ];
        for (list, want) in [(&yes[..], true), (&no[..], false)] {
            list.iter().for_each(|text| assert_eq!(names_gzip(text.as_bytes()), want, "{text}"));
        }
    }

    #[test]
    fn weakens_tags() {
        for (tag, want) in [("\"a\"", Some("W/\"a\"")), ("W/\"a\"", Some("W/\"a\"")), ("a", None)] {
            let mut head = Head::default();
            head.headers.push(b"ETag", tag.as_bytes());
            recode(&mut head);
            assert_eq!(head.headers.get(Known::ETag), want.map(str::as_bytes), "{tag}");
        }
    }
}

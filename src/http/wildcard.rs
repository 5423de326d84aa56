//! Host names with a star in keys of `map`, `valid_referers` and the like.
//!
//! <https://nginx.org/en/docs/http/ngx_http_map_module.html#hostnames>

use crate::conf::Problem;
use crate::conf::args::text;

/// What a host name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// Itself.
    None,
    /// Whatever ends in this.
    Head(Vec<u8>),
    /// Whatever begins with this.
    Tail(Vec<u8>),
    /// Itself and whatever ends in this.
    Both(Vec<u8>, Vec<u8>),
}

impl Wildcard {
    /// Reads a name in lower case.
    pub fn of(name: &[u8]) -> Result<Self, Problem> {
        let invalid = || Problem::new(format!("invalid hostname or wildcard \"{}\"", text(name)));
        let stars = name.iter().filter(|&&b| b == b'*').count();
        if stars > 1 || name.contains(&0) || name.windows(2).any(|pair| pair == b"..") {
            return Err(invalid());
        }
        match name {
            [b'.', host @ ..] if !host.is_empty() => Ok(Wildcard::Both(host.to_vec(), name.to_vec())),
            [b'*', tail @ ..] if tail.len() > 1 && tail.starts_with(b".") => Ok(Wildcard::Head(tail.to_vec())),
            [head @ .., b'*'] if head.len() > 1 && head.ends_with(b".") => Ok(Wildcard::Tail(head.to_vec())),
            _ if stars > 0 => Err(invalid()),
            _ => Ok(Wildcard::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_must_be_well_formed() {
        let kind = |name: &str| match Wildcard::of(name.as_bytes()) {
            Ok(Wildcard::None) => "exact",
            Ok(Wildcard::Head(_)) => "head",
            Ok(Wildcard::Tail(_)) => "tail",
            Ok(Wildcard::Both(..)) => "both",
            Err(_) => "error",
        };
        let table = [
            ("a.org", "exact"),
            ("*.a.org", "head"),
            (".a.org", "both"),
            ("www.a.*", "tail"),
            ("", "exact"),
            (".", "exact"),
            ("a..org", "error"),
            ("*.*.org", "error"),
            ("a*.org", "error"),
            ("*", "error"),
        ];
        for (name, want) in table {
            assert_eq!(kind(name), want, "{name}");
        }
    }
}

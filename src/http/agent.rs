//! Browsers that need care: <https://nginx.org/en/docs/http/ngx_http_core_module.html#keepalive_disable>

/// A browser as nginx tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Internet Explorer.
    Msie {
        /// Version 4 to 6, without the second service pack of Windows XP.
        old: bool,
    },
    /// Chrome and its kin.
    Chrome,
    /// Safari on a Mac.
    Safari,
    /// Any other.
    Other,
}

impl Agent {
    /// The bit of `keepalive_disable` for old versions of Internet Explorer.
    pub const MSIE6: u32 = 1;
    /// The same for Safari.
    pub const SAFARI: u32 = 1 << 1;

    /// Reads a `User-Agent`.
    pub fn of(text: &[u8]) -> Self {
        let has = |word: &str| memchr::memmem::find(text, word.as_bytes()).is_some();
        if has("Opera") {
            return Agent::Other;
        }
        let version = memchr::memmem::find(text, b"MSIE ").and_then(|at| text.get(at + 5..));
        match version {
            Some([major, b'.', _, rest @ ..]) => {
                let patched = memchr::memmem::find(rest, b"SV1").is_some();
                Agent::Msie { old: matches!(major, b'4' | b'5') || (*major == b'6' && !patched) }
            }
            Some([_, _, _, ..]) => Agent::Msie { old: false },
            _ if has("Gecko/") => Agent::Other,
            _ if has("Chrome/") => Agent::Chrome,
            _ if has("Safari/") && has("Mac OS X") => Agent::Safari,
            _ => Agent::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_browsers_apart() {
        let table = [
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", Agent::Msie { old: true }),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)", Agent::Msie { old: false }),
            ("Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2)", Agent::Msie { old: false }),
            ("MSIE 6.0; Opera", Agent::Other),
            ("Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1.0 Safari/537.36", Agent::Chrome),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_6_8) (KHTML, like Gecko) Safari/534.57.2", Agent::Safari),
            ("Mozilla/5.0 (X11; rv:1.9) Gecko/2010 Firefox/3.0", Agent::Other),
            ("", Agent::Other),
        ];
        for (text, want) in table {
            assert_eq!(Agent::of(text.as_bytes()), want, "{text}");
        }
    }
}

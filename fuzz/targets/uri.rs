//! Normalised paths (RFC 3986 §5.2.4) begin with a slash, hold no way up and stay as they are when normalised again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::escape::{self, Set};
use nginx_rs::http::uri;

fuzz_target!(|bytes: &[u8]| {
    let _ = (uri::absolute(bytes), uri::authority(bytes), uri::safe(bytes), uri::extension(bytes));
    let (front, args) = uri::split_args(bytes);
    assert!(front.len() + args.len() <= bytes.len() && !front.contains(&b'?'));
    if !matches!(bytes.first(), Some(b'/' | b'?')) {
        return;
    }
    for merge in [true, false] {
        let Ok(normal) = uri::normalise(bytes, merge) else { continue };
        let path = normal.path.into_owned();
        assert_eq!(path.first(), Some(&b'/'));
        assert!(!path.contains(&0));
        assert!(!path.split(|&b| b == b'/').any(|part| part == b"..") && !path.windows(3).any(|part| part == b"/./"));
        assert!(!merge || !path.windows(2).any(|pair| pair == b"//"));
        let mut escaped = Vec::new();
        escape::escape(&path, Set::Uri, &mut escaped);
        let again = uri::normalise(&escaped, merge).expect("an escaped path is a target");
        assert_eq!(again.path, path);
    }
});

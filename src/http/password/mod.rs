//! Passwords as files of users keep them: <https://nginx.org/en/docs/http/ngx_http_auth_basic_module.html#auth_basic_user_file>
//! and crypt(5).

use md5::Md5;
use sha1::{Digest, Sha1};

use super::escape::base64;

mod des;
mod md5crypt;

/// Whether `password` is the one that `stored` was made of. It is not where nobody knows how that was done.
pub fn verify(password: &[u8], stored: &[u8]) -> bool {
    try_verify(password, stored).unwrap_or(false)
}

/// Whether [`verify`] takes so long that nobody should wait for it.
pub fn is_slow(stored: &[u8]) -> bool {
    [&b"$2"[..], b"$5$", b"$6$"].iter().any(|magic| stored.starts_with(magic))
}

fn try_verify(password: &[u8], stored: &[u8]) -> Option<bool> {
    // What C reads ends at a zero.
    let password = password.split(|&b| b == 0).next().unwrap_or_default();
    if let Some(plain) = stored.strip_prefix(b"{PLAIN}") {
        return Some(same(plain, password));
    }
    if let Some(text) = stored.strip_prefix(b"{SSHA}") {
        let decoded = base64(text).unwrap_or_default();
        let (digest, salt) = decoded.split_at_checked(20).unwrap_or_default();
        return Some(same(digest, &Sha1::new().chain_update(password).chain_update(salt).finalize()));
    }
    if let Some(text) = stored.strip_prefix(b"{SHA}") {
        return Some(same(&base64(text).unwrap_or_default(), &Sha1::digest(password)));
    }
    for magic in [&b"$apr1$"[..], b"$1$"] {
        if let Some(rest) = stored.strip_prefix(magic) {
            return Some(same(stored, &md5crypt::crypt::<Md5>(password, magic, rest)));
        }
    }
    if stored.first() != Some(&b'$') {
        return des::crypt(password, stored).map(|made| same(stored, &made));
    }
    let text = std::str::from_utf8(stored).ok()?;
    if text.starts_with("$2") {
        return bcrypt::verify(password, text).ok();
    }
    use sha_crypt::PasswordVerifier;
    use sha_crypt::password_hash::Error;
    match sha_crypt::ShaCrypt::default().verify_password(password, text) {
        Ok(()) => Some(true),
        Err(Error::PasswordInvalid) => Some(false),
        Err(_) => None,
    }
}

/// Compares in a time that says nothing of where the two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// The digits of crypt(3).
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Appends the low `count` times six bits of `value`, the lowest first.
fn digits(mut value: u32, count: usize, out: &mut Vec<u8>) {
    for _ in 0..count {
        out.extend(DIGITS.get(value as usize & 63));
        value >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_htpasswd_makes() {
        // Made by htpasswd, openssl passwd and crypt(3).
        let table = [
            ("a", "{PLAIN}a"),
            ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
            ("test", "{SSHA}9DgilxbKtDVpSW86NjCzcnUkuBtzYWx0"),
            ("myPassword", "$apr1$qHDFfhPC$nITSVHgYbDAK1Y0acGRnY0"),
            ("password", "$1$3azHgidD$SrJPt7B.9rekpmwJwtON31"),
            ("foob", "arlEKn0OzVJn."),
            ("test1", "saTBKtwSCLJ0A"),
            ("password123x", "a.Av8awQ0AsR6"),
            ("\u{e9}t\u{e9}", "/Zsjy96W2q1HE"),
            ("a much longer password than sixteen bytes", "$apr1$a$VLYMUcUt2D0f7cug1qT2A0"),
            ("Hello", "$2y$05$abcdefghijklmnopqrstuuJRaZC00u2hO4pbs0bFdcrF53n2avLwu"),
            ("", "$2b$05$abcdefghijklmnopqrstuu0oImNDIy4flhldV9YqunRgBAePKmw7m"),
            ("Hello", "$5$abcdefghijklmnop$AgMbwBGcy/j4ZnTvKhGq1srr5A3aqOtNPznBZRwTC4C"),
            ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ];
        for (password, stored) in table {
            assert_eq!(try_verify(b"wrong", stored.as_bytes()), Some(false), "{stored}");
            assert_eq!(try_verify(password.as_bytes(), stored.as_bytes()), Some(true), "{stored}");
        }
        for stored in ["", "x", "$9$a$b", "$5$", "$6$rounds=x$y$z", "$2x$", "??aaaaaaaaaaa"] {
            assert_eq!(try_verify(b"x", stored.as_bytes()), None, "{stored}");
        }
        assert_eq!(try_verify(b"x", b"{SSHA}x"), Some(false));
    }
}

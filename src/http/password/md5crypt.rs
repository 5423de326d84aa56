//! `$1$` and `$apr1$`: a thousand rounds of MD5, as crypt(5) and Apache's htpasswd have them.

use md5::Digest;

use super::digits;

/// The bytes of the digest in the order they are written.
const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];

/// What `password` becomes; `rest` begins with the salt.
pub fn crypt<D: Digest>(password: &[u8], magic: &[u8], rest: &[u8]) -> Vec<u8> {
    let salt = rest.split(|&b| b == b'$').next().unwrap_or_default();
    let salt = salt.get(..8).unwrap_or(salt);
    let inner = D::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut hash = D::new().chain_update(password).chain_update(magic).chain_update(salt);
    for start in (0..password.len()).step_by(16) {
        hash.update(inner.get(..(password.len() - start).min(16)).unwrap_or_default());
    }
    let first = password.get(..1).unwrap_or_default();
    let mut bits = password.len();
    while bits > 0 {
        hash.update(if bits & 1 == 1 { &[0] } else { first });
        bits >>= 1;
    }
    let mut digest = hash.finalize();
    for round in 0..1000 {
        let (odd, last) = (round % 2 == 1, digest);
        let mut hash = D::new().chain_update(if odd { password } else { &last });
        if round % 3 != 0 {
            hash.update(salt);
        }
        if round % 7 != 0 {
            hash.update(password);
        }
        hash.update(if odd { &last } else { password });
        digest = hash.finalize();
    }
    let byte = |at: usize| digest.get(at).copied().map_or(0, u32::from);
    let mut out = [magic, salt, b"$"].concat();
    for [a, b, c] in ORDER {
        digits(byte(a) << 16 | byte(b) << 8 | byte(c), 4, &mut out);
    }
    digits(byte(11), 2, &mut out);
    out
}

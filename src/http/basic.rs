//! The user and the password of basic authentication (RFC 7617).

use super::escape::base64;
use super::{Known, Request};

/// User and password, whether they are right or not; a user is at least one byte.
pub fn credentials(request: &Request) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = request.headers.get(Known::Authorization)?;
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = base64(encoded.trim_ascii_start())?;
    let colon = decoded.iter().position(|&b| b == b':').filter(|&colon| colon > 0)?;
    let (user, password) = decoded.split_at_checked(colon)?;
    Some((user.to_vec(), password.get(1..)?.to_vec()))
}

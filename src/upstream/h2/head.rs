//! From a request's head as HTTP/1 has it to HTTP/2's fields (RFC 9113 §8.3.1).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// The fields; nothing where HTTP/2 cannot express them.
pub fn request(head: &[u8]) -> Option<Request<()>> {
    let mut lines = head.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next()?.splitn(2, |&b| b == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let rest = words.next()?;
    let target = rest.get(..memchr::memrchr(b' ', rest)?)?;
    let (mut map, mut authority) = (HeaderMap::new(), None);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        let value = value.strip_prefix(b": ").or_else(|| value.strip_prefix(b":"))?;
        let name = HeaderName::from_bytes(name).ok()?;
        match name.as_str() {
            "host" => authority = Some(Authority::try_from(value).ok()?),
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {}
            _ => {
                map.append(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority;
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.headers_mut() = map;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_become_fields() {
        let head = b"POST /a?b HTTP/1.1\r\nHost: h:80\r\nConnection: close\r\nX-A: 1\r\nx-a: 2\r\n\r\n";
        let request = request(head).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("POST", "http://h:80/a?b".to_owned()));
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.headers().len(), 2);
    }
}

//! Tests of heads: every request line, header line and status line is also fed byte by byte.
use super::*;

fn cut(text: &str, span: &Span) -> String {
    String::from_utf8_lossy(&text.as_bytes()[span.start as usize..span.end as usize]).into_owned()
}

fn cut_line(text: &str) -> Result<Option<[String; 7]>, BadLine> {
    let show = |line: RequestLine| {
        let part = |span: &Option<Span>| span.as_ref().map_or_else(|| "-".to_owned(), |span| cut(text, span));
        assert_eq!(line.next, text.len());
        [
            cut(text, &line.line),
            cut(text, &line.method),
            part(&line.scheme),
            part(&line.host),
            cut(text, &line.target),
            cut(text, &line.protocol),
            line.version.to_string(),
        ]
    };
    // A line is never complete before its last byte, and an error is never taken back.
    let mut before = Ok(None);
    for end in 0..=text.len() {
        assert!(matches!(before, Ok(None)) || end == text.len() || before.is_err(), "{text:?} early at {end}");
        let now = request_line(&text.as_bytes()[..end]);
        assert!(before.is_ok() || before == now, "{text:?} took back {before:?} at {end}");
        before = now;
    }
    before.map(|line| line.map(show))
}

#[test]
fn request_lines() {
    let table = [
        ("GET / HTTP/1.1\r\n", ["GET / HTTP/1.1", "GET", "-", "-", "/", "HTTP/1.1", "1001"]),
        ("\r\n\n\rGET /a?b#c HTTP/1.0\n", ["GET /a?b#c HTTP/1.0", "GET", "-", "-", "/a?b#c", "HTTP/1.0", "1000"]),
        ("M-_X   /   HTTP/1.15  \r\n", ["M-_X   /   HTTP/1.15  ", "M-_X", "-", "-", "/", "HTTP/1.15  ", "1015"]),
        ("GET /\r\n", ["GET /", "GET", "-", "-", "/", "", "9"]),
        ("GET / \n", ["GET / ", "GET", "-", "-", "/", "", "9"]),
        (
            "GET http://A:8/x?y HTTP/1.1\n",
            ["GET http://A:8/x?y HTTP/1.1", "GET", "http", "A:8", "/x?y", "HTTP/1.1", "1001"],
        ),
        ("GET http://a HTTP/1.1\n", ["GET http://a HTTP/1.1", "GET", "http", "a", "/", "HTTP/1.1", "1001"]),
        (
            "GET x+1://[::1]?q HTTP/1.1\n",
            ["GET x+1://[::1]?q HTTP/1.1", "GET", "x+1", "[::1]", "?q", "HTTP/1.1", "1001"],
        ),
        ("GET http:///x HTTP/1.1\n", ["GET http:///x HTTP/1.1", "GET", "http", "", "/x", "HTTP/1.1", "1001"]),
        (
            "CONNECT a.b:443 HTTP/1.1\n",
            ["CONNECT a.b:443 HTTP/1.1", "CONNECT", "-", "a.b:443", "/", "HTTP/1.1", "1001"],
        ),
        (
            "CONNECT [::1]:4 HTTP/1.1\n",
            ["CONNECT [::1]:4 HTTP/1.1", "CONNECT", "-", "[::1]:4", "/", "HTTP/1.1", "1001"],
        ),
        ("GET /\u{430} HTTP/1.1\n", ["GET /\u{430} HTTP/1.1", "GET", "-", "-", "/\u{430}", "HTTP/1.1", "1001"]),
    ];
    for (text, want) in table {
        assert_eq!(cut_line(text), Ok(Some(want.map(str::to_owned))), "{text:?}");
    }
}

#[test]
fn bad_request_lines() {
    use BadLine::{Method, Method09, Request, Version};
    let table = [
        ("get / HTTP/1.1\r\n", Method),
        (" GET / HTTP/1.1\r\n", Method),
        ("\x16\x03\x01", Method),
        ("GET\t/", Method),
        ("GET\r\n", Method),
        ("GET *", Request),
        ("GET \n", Request),
        ("GET http:/a", Request),
        ("GET ht_p://a/ HTTP/1.1\r\n", Request),
        ("GET http://a_b/ HTTP/1.1\r\n", Request),
        ("GET http://a\r\n", Request),
        ("GET http://[::1/ HTTP/1.1\r\n", Request),
        ("GET /\x01", Request),
        ("GET /a\tb", Request),
        ("GET /a\x7f", Request),
        ("GET /a b", Request),
        ("GET / http/1.1", Request),
        ("GET / HTTQ", Request),
        ("GET / HTTP/0", Request),
        ("GET / HTTP/2", Version),
        ("GET / HTTP/10", Version),
        ("GET / HTTP/1,1", Request),
        ("GET / HTTP/1.x", Request),
        ("GET / HTTP/1.1000", Request),
        ("GET / HTTP/1.1x", Request),
        ("GET / HTTP/1.1 x", Request),
        ("GET / HTTP/1.1\r\r", Request),
        ("HEAD /\r\n", Method09),
        ("CONNECT a.b HTTP/1.1\n", Request),
        ("CONNECT a.b: HTTP/1.1\n", Request),
        ("CONNECT a.b:1/ HTTP/1.1\n", Request),
    ];
    for (text, want) in table {
        assert_eq!(cut_line(text), Err(want), "{text:?}");
    }
    assert_eq!((Version.status(), Request.status()), (505, 400));
}

#[test]
fn fields() {
    // line, name, value, valid, underscore
    let table = [
        ("Host: a\r\n", "Host", "a", true, false),
        ("X-Y:  a  b  \r\n", "X-Y", "a  b", true, false),
        ("x:a\n", "x", "a", true, false),
        ("x: \ta\t\r\n", "x", "\ta\t", true, false),
        ("x:\r\n", "x", "", true, false),
        ("x:   \r\r\n", "x", "", true, false),
        ("x\r\n", "x", "", true, false),
        ("a_b: c\r\n", "a_b", "c", true, true),
        ("_: c\r\n", "_", "c", true, true),
        ("a(b): c:d\r\n", "a(b)", "c:d", false, false),
        ("x\u{e9}: \u{e9}\x01\r\n", "x\u{e9}", "\u{e9}\x01", false, false),
        ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200", "", false, false),
    ];
    for (text, name, value, valid, underscore) in table {
        for end in 0..text.len() {
            assert!(!matches!(field(&text.as_bytes()[..end], 0, Side::Request), Ok(Some(_))), "{text:?} at {end}");
        }
        match field(text.as_bytes(), 0, Side::Request) {
            Ok(Some(Line::Field(f, next))) => {
                let got = (cut(text, &f.name), cut(text, &f.value), f.valid, f.underscore, next);
                assert_eq!(got, (name.to_owned(), value.to_owned(), valid, underscore, text.len()), "{text:?}");
            }
            other => {
                assert!(text.starts_with("HTTP/") && other == Err(BadField { start: 0, at: 8 }), "{text:?} {other:?}");
            }
        }
    }
    for (text, at) in [
        (" x: y\n", 0),
        (":x\n", 0),
        ("x y: z\n", 1),
        ("x\0", 1),
        ("x: a\0b", 4),
        ("x: a  \0", 6),
        ("x: a\rb", 4),
        ("\rx", 0),
        ("\r\r", 0),
        ("x:\0", 2),
        ("x\ry", 1),
    ] {
        assert_eq!(field(text.as_bytes(), 0, Side::Request), Err(BadField { start: 0, at }), "{text:?}");
    }
    assert_eq!(field(b"ab\n\r\n", 3, Side::Request), Ok(Some(Line::End(5))));
    assert_eq!(field(b"ab\n\n", 3, Side::Request), Ok(Some(Line::End(4))));
    assert_eq!(field(b"HTTP/1.1 200 OK\r\n", 0, Side::Response), Ok(Some(Line::Junk(17))));
}

#[test]
fn status_lines() {
    let table = [
        ("HTTP/1.1 200 OK\r\n", Some((1001, 200, "200 OK"))),
        ("HTTP/1.0 404\n", Some((1000, 404, "404"))),
        ("HTTP/1.1  403.1 No\n", Some((1001, 403, "403.1 No"))),
        ("HTTP/1.1 200 \r\n", Some((1001, 200, "200 "))),
        ("HTTP/2.0 200 OK\r\n", Some((2000, 200, "200 OK"))),
        ("HTTP/1.1 2000\r\n", None),
        ("HTTP/1.1 20x\r\n", None),
        ("HTTP/1.1200 OK\r\n", None),
        ("HTTP/0.9 200 OK\r\n", None),
        ("HTTP/1.1 200 OK\r\r\n", None),
        ("http/1.1 200 OK\r\n", None),
        ("<html>", None),
    ];
    for (text, want) in table {
        let got = status_line(text.as_bytes());
        match want {
            None => assert_eq!(got, Err(BadStatus), "{text:?}"),
            Some((version, code, status)) => {
                let line = got.unwrap().unwrap();
                assert_eq!(
                    (line.version, line.code, &*cut(text, &line.status), line.next),
                    (version, code, status, text.len())
                );
                assert!((0..text.len()).all(|end| status_line(&text.as_bytes()[..end]) == Ok(None)), "{text:?}");
            }
        }
    }
}

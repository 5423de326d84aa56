//! How a request of the table is written down and turned into bytes (RFC 9112).

/// A request; unless `raw` is set its bytes are put together from the other fields.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Unique within the tables.
    pub(crate) name: &'static str,
    method: &'static str,
    path: &'static str,
    version: &'static str,
    host: &'static str,
    headers: &'static str,
    long_header: usize,
    body: Body,
    raw: Option<&'static str>,
    /// Sends the cookies collected so far and collects those of the answer.
    pub(crate) jar: bool,
    /// Serves a file younger than the test: its time is no part of the comparison.
    pub(crate) fresh: bool,
    /// How many responses to read.
    pub(crate) answers: usize,
}

#[derive(Clone, Copy)]
enum Body {
    None,
    Form(&'static str),
    Upload(usize),
    Bytes(usize),
    Chunks(usize, usize),
}

/// Cookies by name, in the order they came.
#[derive(Default)]
pub(crate) struct Jar(Vec<(String, String)>);

impl Jar {
    /// Takes over the value of a `Set-Cookie` line; an empty one deletes.
    pub(crate) fn store(&mut self, line: &str) {
        let pair = line.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        self.0.retain(|(n, _)| n != name);
        if !value.trim_matches('"').is_empty() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    fn line(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) }
    }
}

/// Any method without a body.
pub(crate) const fn request(name: &'static str, method: &'static str, path: &'static str) -> Case {
    Case {
        name,
        method,
        path,
        version: "1.1",
        host: "demo.test",
        headers: "",
        long_header: 0,
        body: Body::None,
        raw: None,
        jar: false,
        fresh: false,
        answers: 1,
    }
}

/// GET.
pub(crate) const fn get(name: &'static str, path: &'static str) -> Case {
    request(name, "GET", path)
}

/// HEAD.
pub(crate) const fn head(name: &'static str, path: &'static str) -> Case {
    request(name, "HEAD", path)
}

/// POST.
pub(crate) const fn post(name: &'static str, path: &'static str) -> Case {
    request(name, "POST", path)
}

/// PUT.
pub(crate) const fn put(name: &'static str, path: &'static str) -> Case {
    request(name, "PUT", path)
}

/// DELETE.
pub(crate) const fn delete(name: &'static str, path: &'static str) -> Case {
    request(name, "DELETE", path)
}

/// Exactly these bytes.
pub(crate) const fn raw(name: &'static str, bytes: &'static str) -> Case {
    Case { raw: Some(bytes), ..request(name, "", "") }
}

impl Case {
    /// `1.0` or `1.1`.
    pub(crate) const fn version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// The value of `Host`.
    pub(crate) const fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    /// Header lines, each with its CRLF.
    pub(crate) const fn with(self, headers: &'static str) -> Self {
        Self { headers, ..self }
    }

    /// A header `X-Long` of `length` bytes; `{LONG}` in the path is 3,000 bytes in any case.
    pub(crate) const fn long_header(self, length: usize) -> Self {
        Self { long_header: length, ..self }
    }

    /// Takes part in the session.
    pub(crate) const fn jar(self) -> Self {
        Self { jar: true, ..self }
    }

    /// See [`Case::fresh`].
    pub(crate) const fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    /// Several requests in one write get this many responses.
    pub(crate) const fn answers(self, answers: usize) -> Self {
        Self { answers, ..self }
    }

    /// A form as browsers send it; `{CSRF}` is the token of the jar.
    pub(crate) const fn form(self, body: &'static str) -> Self {
        Self { body: Body::Form(body), ..self }
    }

    /// A note with an attachment of `length` bytes, as multipart/form-data.
    pub(crate) const fn upload(self, length: usize) -> Self {
        Self { body: Body::Upload(length), ..self }
    }

    /// `length` bytes of a fixed pattern.
    pub(crate) const fn bytes(self, length: usize) -> Self {
        Self { body: Body::Bytes(length), ..self }
    }

    /// `count` chunks of `length` bytes.
    pub(crate) const fn chunks(self, count: usize, length: usize) -> Self {
        Self { body: Body::Chunks(count, length), ..self }
    }

    /// Is the answer one without a body?
    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The bytes to send.
    pub(crate) fn encode(&self, jar: &Jar) -> Vec<u8> {
        if let Some(raw) = self.raw {
            return raw.into();
        }
        let path = self.path.replace("{LONG}", &"l".repeat(3_000));
        let mut head =
            format!("{} {path} HTTP/{}\r\nHost: {}\r\n{}", self.method, self.version, self.host, self.headers);
        if self.long_header > 0 {
            head += &format!("X-Long: {}\r\n", "v".repeat(self.long_header));
        }
        if self.jar {
            head += &jar.line();
        }
        let (kind, body) = self.body.encode(jar.get("csrftoken"));
        head += &kind;
        [head.as_bytes(), b"\r\n", &body].concat()
    }
}

impl Body {
    /// The header lines that describe the body, and the body.
    fn encode(self, csrf: &str) -> (String, Vec<u8>) {
        let (kind, bytes) = match self {
            Self::None => return (String::new(), Vec::new()),
            Self::Chunks(count, length) => {
                let chunk = [format!("{length:x}\r\n").as_bytes(), &pattern(length), b"\r\n"].concat();
                return ("Transfer-Encoding: chunked\r\n".into(), [chunk.repeat(count), b"0\r\n\r\n".into()].concat());
            }
            Self::Form(body) => ("application/x-www-form-urlencoded", body.replace("{CSRF}", csrf).into_bytes()),
            Self::Bytes(length) => ("application/octet-stream", pattern(length)),
            Self::Upload(length) => ("multipart/form-data; boundary=edge", multipart(csrf, length)),
        };
        (format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", bytes.len()), bytes)
    }
}

fn multipart(csrf: &str, length: usize) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"upload-{length}.bin\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let fields = field("csrfmiddlewaretoken", csrf) + &field("title", &format!("Upload of {length}")) + &file;
    [fields.as_bytes(), &pattern(length), b"\r\n--edge--\r\n"].concat()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(length).collect()
}

//! What may differ between two servers or two moments, replaced by `*` before the comparison: versions, times, ports,
//! random tokens. https://nginx.org/en/docs/http/ngx_http_core_module.html#server_tokens

use regex::Regex;
use std::sync::LazyLock;

/// A pattern and its replacement.
type Mask = (&'static str, &'static str);

const RESPONSE: &[Mask] = &[
    (r"(?m)^(Date|Expires): .*$", "$1: *"),
    // Debian's nginx says 1.22.1; both spell the version with equal length on the error pages.
    (r"nginx/\d+\.\d+\.\d+", "nginx/*"),
    (r"(csrftoken|sessionid|messages)=[^;]+", "$1=*"),
    (r"expires=[^;]+", "expires=*"),
    (r#"name="csrfmiddlewaretoken" value="[^"]+""#, "*"),
    // The boundary of multipart/byteranges.
    (r"\b\d{20}\b", "*"),
    // Both are registered names of one type (RFC 9239); nginx's mime.types keeps the older one.
    (r"(?m)^(Content-Type: )application/javascript$", "${1}text/javascript"),
];

const FRESH: &[Mask] = &[(r"(?m)^Last-Modified: .*$", "Last-Modified: *"), (r#"ETag: "[0-9a-f]+-"#, "ETag: \"*-")];

const LOG: &[Mask] = &[
    (r"\[\d\d/\w{3}/\d{4}:[^]]*\]", "[*]"),
    (r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", ""),
    (r"\d+#\d+: (\*\d+ )?", ""),
    (r"l{3000}", "{LONG}"),
    // A colon ends the path of a socket in nginx 1.31; Debian's is older.
    (r#"(upstream: "\w+://unix:[^:"]*?\.sock):?(["/])"#, "${1}:${2}"),
    // How a stream is cut into chunks depends on timing.
    (r#"(/stream/[^"]*" 200 )\d+"#, "${1}*"),
];

/// A head or a text body of a response; `fresh` also covers the validators of a file. The port reads `:PORT`.
pub(crate) fn response(text: &str, port: u16, fresh: bool) -> String {
    static MASKS: LazyLock<Compiled> = LazyLock::new(|| compile(RESPONSE));
    static MORE: LazyLock<Compiled> = LazyLock::new(|| compile(FRESH));
    let masked = apply(&MASKS, text.replace(&format!(":{port}"), ":PORT"));
    if fresh { apply(&MORE, masked) } else { masked }
}

/// A line of an access or error log; what lies below `prefix` keeps only its name.
pub(crate) fn log_line(line: &str, port: u16, prefix: &str) -> String {
    static MASKS: LazyLock<Compiled> = LazyLock::new(|| compile(LOG));
    apply(&MASKS, line.replace(&format!(":{port}"), ":PORT").replace(prefix, ""))
}

type Compiled = Vec<(Regex, &'static str)>;

fn compile(masks: &[Mask]) -> Compiled {
    masks.iter().map(|(pattern, with)| (Regex::new(pattern).expect("a pattern"), *with)).collect()
}

fn apply(masks: &Compiled, text: String) -> String {
    masks.iter().fold(text, |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

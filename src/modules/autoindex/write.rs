//! The formats of a listing: <https://nginx.org/en/docs/http/ngx_http_autoindex_module.html#autoindex_format>

use std::io::Write;

use super::{Conf, Entry, Kind};
use crate::http::escape::{self, Set};
use crate::net::clock;

/// Width of the column of names.
const WIDTH: usize = 50;

/// A page. In UTF-8, the column of names is measured in characters.
pub(super) fn html(uri: &[u8], entries: &[Entry], conf: &Conf, utf8: bool) -> Vec<u8> {
    let mut out = b"<html>\r\n<head><title>Index of ".to_vec();
    escape::html(uri, &mut out);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    escape::html(uri, &mut out);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for entry in entries {
        row(entry, conf, utf8, &mut out);
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
    out
}

/// A JSON array.
pub(super) fn json(entries: &[Entry]) -> Vec<u8> {
    let mut out = b"[".to_vec();
    for (index, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",\r\n{ \"name\":\"" } else { b"\r\n{ \"name\":\"" });
        escape::json(&entry.name, &mut out);
        let (kind, time) = (word(entry), clock::http(entry.modified));
        put(&mut out, format_args!("\", \"type\":\"{kind}\", \"mtime\":\"{time}\""));
        if entry.kind == Kind::File {
            put(&mut out, format_args!(", \"size\":{}", entry.size));
        }
        out.extend_from_slice(b" }");
    }
    out.extend_from_slice(b"\r\n]");
    out
}

/// The same as the argument of a call.
pub(super) fn jsonp(entries: &[Entry], callback: &[u8]) -> Vec<u8> {
    [b"/* callback */\r\n", callback, b"(", &json(entries), b");"].concat()
}

/// An XML document.
pub(super) fn xml(entries: &[Entry]) -> Vec<u8> {
    let mut out = b"<?xml version=\"1.0\"?>\r\n<list>\r\n".to_vec();
    for entry in entries {
        let kind = word(entry);
        put(&mut out, format_args!("<{kind} mtime=\"{}\"", clock::xml(entry.modified)));
        if entry.kind == Kind::File {
            put(&mut out, format_args!(" size=\"{}\"", entry.size));
        }
        out.push(b'>');
        escape::html(&entry.name, &mut out);
        put(&mut out, format_args!("</{kind}>\r\n"));
    }
    out.extend_from_slice(b"</list>\r\n");
    out
}

fn word(entry: &Entry) -> &'static str {
    match entry.kind {
        Kind::Directory => "directory",
        Kind::File => "file",
        Kind::Other => "other",
    }
}

fn row(entry: &Entry, conf: &Conf, utf8: bool, out: &mut Vec<u8>) {
    let (name, directory) = (&entry.name, entry.kind == Kind::Directory);
    let text = std::str::from_utf8(name).ok().filter(|_| utf8);
    let width = text.map_or(name.len(), |text| text.chars().count());
    let cut = text.and_then(|text| text.char_indices().nth(WIDTH - 3)).map_or(WIDTH - 3, |(at, _)| at);
    out.extend_from_slice(b"<a href=\"");
    escape::escape(name, Set::Component, out);
    out.extend_from_slice(if directory { b"/\">" } else { b"\">" });
    if width > WIDTH {
        escape::html(name.get(..cut).unwrap_or_default(), out);
        out.extend_from_slice(b"..&gt;</a>");
    } else {
        escape::html(name, out);
        let slash = directory && width < WIDTH;
        out.extend_from_slice(if slash { b"/</a>" } else { b"</a>" });
        out.resize(out.len() + WIDTH - width - usize::from(slash), b' ');
    }
    put(out, format_args!(" {} ", clock::listing(entry.modified, conf.local_time)));
    match (directory, conf.exact_size) {
        (true, true) => put(out, format_args!("{:>19}", "-")),
        (true, false) => put(out, format_args!("{:>7}", "-")),
        (false, true) => put(out, format_args!("{:19}", entry.size)),
        (false, false) => rounded(entry.size, out),
    }
    out.extend_from_slice(b"\r\n");
}

fn rounded(size: u64, out: &mut Vec<u8>) {
    let (shift, unit) = match size {
        0..10_000 => return put(out, format_args!(" {size:6}")),
        10_000..0x10_0000 => (10, 'K'),
        0x10_0000..0x4000_0000 => (20, 'M'),
        _ => (30, 'G'),
    };
    let half = 1u64 << (shift - 1);
    put(out, format_args!("{:6}{unit}", (size >> shift) + (size & (2 * half - 1)) / half));
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: Kind, size: u64) -> Entry {
        Entry { name: name.into(), kind, modified: 23_349_600, size }
    }

    #[test]
    fn writes_rows() {
        let rough = Conf { exact_size: false, ..Conf::default() };
        let (long, wide) = ("n".repeat(51), "w".repeat(50));
        let table = [
            (entry("a&b", Kind::File, 7), &Conf::default(), format!("<a href=\"a%26b\">a&amp;b</a>{:47} 28-Sep-1970 06:00 {:>19}", "", 7)),
            (entry("d", Kind::Directory, 7), &Conf::default(), format!("<a href=\"d/\">d/</a>{:48} 28-Sep-1970 06:00 {:>19}", "", "-")),
            (entry("d", Kind::Directory, 7), &rough, format!("<a href=\"d/\">d/</a>{:48} 28-Sep-1970 06:00       -", "")),
            (entry(&wide, Kind::Directory, 0), &rough, format!("<a href=\"{wide}/\">{wide}</a> 28-Sep-1970 06:00       -")),
            (entry(&long, Kind::Other, 9999), &rough, format!("<a href=\"{long}\">{}..&gt;</a> 28-Sep-1970 06:00    9999", "n".repeat(47))),
        ];
        for (entry, conf, want) in table {
            let mut out = Vec::new();
            row(&entry, conf, false, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want + "\r\n");
        }
        for (size, want) in [(10_000, "    10K"), (10_751, "    10K"), (10_752, "    11K"), (1 << 20, "     1M"), (3 << 29, "     2G")] {
            let mut out = Vec::new();
            rounded(size, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn writes_json_and_xml() {
        let entries = [entry("d", Kind::Directory, 0), entry("\"<", Kind::File, 2)];
        let time = "Mon, 28 Sep 1970 06:00:00 GMT";
        let want = format!(
            "[\r\n{{ \"name\":\"d\", \"type\":\"directory\", \"mtime\":\"{time}\" }},\r\n\
             {{ \"name\":\"\\\"<\", \"type\":\"file\", \"mtime\":\"{time}\", \"size\":2 }}\r\n]"
        );
        assert_eq!(String::from_utf8(json(&entries)).unwrap(), want);
        assert_eq!(String::from_utf8(jsonp(&[], b"f")).unwrap(), "/* callback */\r\nf([\r\n]);");
        let want = "<?xml version=\"1.0\"?>\r\n<list>\r\n<directory mtime=\"1970-09-28T06:00:00Z\">d</directory>\r\n\
                    <file mtime=\"1970-09-28T06:00:00Z\" size=\"2\">&quot;&lt;</file>\r\n</list>\r\n";
        assert_eq!(String::from_utf8(xml(&entries)).unwrap(), want);
    }
}

//! Errors drawn under the text of a fixture (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>).
//!
//! ```text
//! gzip_comp_level 11;
//! #               ^^ error: value must be between 1 and 9
//! ```
//! Warnings are drawn in the same way. The carets stand under the offending bytes, one where there are none (the end of the file). Where they begin in the
//! first column they take the place of the `#`.

use parser::source::{column, line};

/// Puts a line with carets under the line of each of `errors` (first byte, last byte + 1, finding), which are in order.
/// A finding begins with `error: ` or `warning: `.
pub(crate) fn draw(text: &[u8], errors: &[(u32, u32, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut errors = errors.iter().peekable();
    for (number, content) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n').chain([&b""[..]])) {
        out.extend_from_slice(content);
        while let Some((start, end, finding)) = errors.next_if(|(_, end, _)| line(text, *end) == number) {
            let indent = usize::try_from(column(text, *start) - 1).unwrap_or_default();
            let width = usize::try_from(end.saturating_sub(*start)).unwrap_or_default().max(1);
            let margin = if indent == 0 { String::new() } else { format!("#{}", " ".repeat(indent - 1)) };
            out.extend_from_slice(format!("{margin}{} {finding}\n", "^".repeat(width)).as_bytes());
        }
    }
    out
}

/// Takes the lines with carets out again.
pub(crate) fn strip(text: &[u8]) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_drawn(line)).flatten().copied().collect()
}

fn is_drawn(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"#").unwrap_or(line).trim_ascii_start();
    let carets = line.iter().take_while(|byte| **byte == b'^').count();
    carets > 0
        && line.get(carets..).is_some_and(|rest| rest.starts_with(b" error: ") || rest.starts_with(b" warning: "))
}

//! From offsets to the lines and columns of a file, as the `in FILE:LINE` tail of nginx's messages counts them.

/// The line, from 1, that nginx is at when it has read `text` up to `offset`: one more than the line feeds before it.
///
/// An offset behind the end of the text counts as its end.
pub fn line(text: &[u8], offset: u32) -> u32 {
    saturate(before(text, offset).iter().filter(|byte| **byte == b'\n').count()).saturating_add(1)
}

/// The column of `offset` in its line, in bytes from 1.
pub fn column(text: &[u8], offset: u32) -> u32 {
    saturate(before(text, offset).iter().rev().take_while(|byte| **byte != b'\n').count()).saturating_add(1)
}

/// The whole line `offset` lies on, without its line feed or carriage return and line feed.
pub fn line_text(text: &[u8], offset: u32) -> &[u8] {
    let head = before(text, offset);
    let start = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = text.get(start..).unwrap_or_default();
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// An offset or a count as the tree keeps it; files beyond 4 GiB get the greatest one.
pub(crate) fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn before(text: &[u8], offset: u32) -> &[u8] {
    usize::try_from(offset).ok().and_then(|end| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_one_and_stops_at_the_end() {
        let text = b"ab\r\n\ncd";
        let at = |offset| (line(text, offset), column(text, offset), line_text(text, offset));
        assert_eq!(at(0), (1, 1, &b"ab"[..]));
        assert_eq!(at(3), (1, 4, &b"ab"[..]));
        assert_eq!(at(4), (2, 1, &b""[..]));
        assert_eq!(at(6), (3, 2, &b"cd"[..]));
        assert_eq!(at(u32::MAX), (3, 3, &b"cd"[..]));
    }
}

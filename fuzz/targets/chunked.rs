//! The chunked coding (RFC 9112 §7.1): how the bytes are cut makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::h1::chunked::{Decoder, Step};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[cut, keep], text)) = bytes.split_first_chunk::<2>() else { return };
    let keep = keep & 1 == 1;
    let whole = run(text, text.len().max(1), keep);
    assert_eq!(run(text, usize::from(cut).max(1), keep), whole);
    if let Some((body, Some(end))) = &whole {
        assert!(*end <= text.len() && body.len() < *end);
    }
});

/// The body, and where it ends; nothing for what is no chunked body.
fn run(text: &[u8], piece: usize, keep: bool) -> Option<(Vec<u8>, Option<usize>)> {
    let (mut decoder, mut body, mut at) = (Decoder::new(keep), Vec::new(), 0);
    while at < text.len() {
        let piece = &text[at..text.len().min(at + piece)];
        match decoder.decode(piece).ok()? {
            Step::Data(range) => {
                at += range.end;
                body.extend_from_slice(&piece[range]);
            }
            Step::More => at += piece.len(),
            Step::Done(end) => return Some((body, Some(at + end))),
        }
    }
    Some((body, None))
}

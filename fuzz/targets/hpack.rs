//! HPACK (RFC 7541): no block is too odd to be read or refused, tables stay small, and what is written is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::hpack::{Decoder, Encoder};

fuzz_target!(|bytes: &[u8]| {
    let (mut decoder, mut fields) = (Decoder::new(4096), Vec::new());
    for block in bytes.chunks(200) {
        let read = decoder.decode(block, &mut |name, value| fields.push((name.to_vec(), value.to_vec())));
        if read.is_err() {
            break;
        }
    }
    let (mut encoder, mut block, mut again) = (Encoder::default(), Vec::new(), Vec::new());
    for (name, value) in &mut fields {
        name.make_ascii_lowercase();
        encoder.field(&mut block, name, value);
    }
    // An entry may be so long that its length takes more octets than are read.
    if fields.iter().all(|(name, value)| name.len().max(value.len()) < 1 << 20) {
        let mut decoder = Decoder::new(0);
        decoder.decode(&block, &mut |name, value| again.push((name.to_vec(), value.to_vec()))).unwrap();
        assert_eq!(again, fields);
    }
});

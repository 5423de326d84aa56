//! HPACK by the examples of RFC 7541 appendix C, and what nginx lets pass.

use super::{Decoder, Encoder, Error, huffman};

#[test]
fn requests_of_the_appendix() {
    for blocks in [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ] {
        let mut decoder = Decoder::new(4096);
        let start = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(read(&mut decoder, blocks[0]), pairs(&start));
        let mut second = start.to_vec();
        second.push(("cache-control", "no-cache"));
        assert_eq!(read(&mut decoder, blocks[1]), pairs(&second));
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(read(&mut decoder, blocks[2]), pairs(&third));
    }
}

#[test]
fn responses_of_the_appendix_push_old_entries_out() {
    let mut decoder = Decoder::new(256);
    let first =
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3";
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let place = ("location", "https://www.example.com");
    assert_eq!(read(&mut decoder, first), pairs(&[(":status", "302"), ("cache-control", "private"), date, place]));
    let second = [(":status", "307"), ("cache-control", "private"), date, place];
    assert_eq!(read(&mut decoder, "4883640effc1c0bf"), pairs(&second));
    let third = "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007";
    let fields = read(&mut decoder, third);
    assert_eq!(fields[5].1, b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    assert_eq!(fields[4], pairs(&[("content-encoding", "gzip")])[0]);
    assert_eq!(read(&mut decoder, "c0"), pairs(&[("date", "Mon, 21 Oct 2013 20:13:22 GMT")]));
    assert_eq!(failure(&mut decoder, "c1"), Error::Index(65));
}

#[test]
fn a_name_of_an_entry_that_goes() {
    let mut decoder = Decoder::new(40);
    assert_eq!(read(&mut decoder, "4001610162"), pairs(&[("a", "b")]));
    assert_eq!(read(&mut decoder, "7e026364"), pairs(&[("a", "cd")]));
    assert_eq!(read(&mut decoder, "be"), pairs(&[("a", "cd")]));
    assert_eq!(failure(&mut decoder, "bf"), Error::Index(63));
    assert_eq!(read(&mut decoder, "7e09313233343536373839"), pairs(&[("a", "123456789")]));
    assert_eq!(failure(&mut decoder, "be"), Error::Index(62));
}

#[test]
fn strings_filled_up_by_more_than_an_octet() {
    let mut out = Vec::new();
    // "a" is 00011.
    for good in [&[0x1f][..], &[0x1f, 0xff], &[0x1f, 0xff, 0xff], &[0x1f, 0xff, 0xff, 0xff], &[], &[0xff], &[0xff; 3]] {
        out.clear();
        assert_eq!(huffman::decode(good, &mut out), Ok(()), "{good:?}");
        assert!(out.is_empty() || out == b"a");
    }
    for bad in
        [&[0x1e][..], &[0x1f, 0xfe], &[0x1f, 0xff, 0xff, 0xff, 0xff], &[0xff; 4], &[0xff; 9], &[0x00, 0x00, 0x00]]
    {
        assert_eq!(huffman::decode(bad, &mut out), Err(Error::Huffman), "{bad:?}");
    }
}

#[test]
fn what_is_no_block() {
    for (block, error) in [
        ("80", Error::Index(0)),
        ("be", Error::Index(62)),
        ("7e", Error::Index(62)),
        ("ff", Error::Truncated),
        ("ffffffff01", Error::LongIndex),
        ("3fffffff00", Error::LongSize),
        ("3fe21f", Error::TableSize(4097)),
        ("0000", Error::EmptyName),
        ("00016102", Error::Truncated),
        ("0001", Error::Truncated),
        ("40", Error::Truncated),
        ("007fffffffff", Error::LongLength),
        ("0001618130", Error::Huffman),
    ] {
        assert_eq!(failure(&mut Decoder::new(4096), block), error, "{block}");
    }
    assert_eq!(read(&mut Decoder::new(4096), "3fe11f20"), []);
}

#[test]
fn what_is_written_is_read_again() {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    let names = ["set-cookie", "x-a", ":path", "date", "Content-Type", ":method", "a", "www-authenticate", ":scheme"];
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(4096));
    for round in 0..2000 {
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        if round % 7 == 0 {
            encoder.resize(round);
        }
        let status = 100 + random(900) as u16;
        encoder.status(&mut block, status);
        fields.push((b":status".to_vec(), status.to_string().into_bytes()));
        for _ in 0..random(8) {
            let octets = |random: &mut dyn FnMut(usize) -> usize| -> Vec<u8> {
                let all = random(3) == 0;
                (0..random(40)).map(|_| if all { random(256) as u8 } else { b' ' + random(95) as u8 }).collect()
            };
            let mut name = octets(&mut random);
            if random(2) == 0 || name.is_empty() {
                name = names[random(names.len())].as_bytes().to_vec();
            }
            let value = if random(9) == 0 { b"GET".to_vec() } else { octets(&mut random) };
            encoder.field(&mut block, &name, &value);
            name.make_ascii_lowercase();
            fields.push((name, value));
        }
        let mut seen = Vec::new();
        assert_eq!(decoder.decode(&block, &mut |name, value| seen.push((name.to_vec(), value.to_vec()))), Ok(()));
        assert_eq!(seen, fields);
    }
}

#[test]
fn bytes_that_go_out() {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    encoder.field(&mut out, b":method", b"GET");
    encoder.field(&mut out, b":path", b"/index.html");
    encoder.field(&mut out, b":path", b"!!");
    encoder.resize(4096);
    encoder.field(&mut out, b"Date", b"");
    encoder.field(&mut out, b"X", b"www.example.com");
    assert_eq!(hex(&out), "828504022121200f12000001788cf1e3c2e5f23a6ba0ab90f4ff");
    out.clear();
    encoder.status(&mut out, 200);
    encoder.status(&mut out, 418);
    assert_eq!(hex(&out), "880803343138");
}

fn read(decoder: &mut Decoder, block: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = Vec::new();
    decoder.decode(&bytes(block), &mut |name, value| fields.push((name.to_vec(), value.to_vec()))).unwrap();
    fields
}

fn failure(decoder: &mut Decoder, block: &str) -> Error {
    decoder.decode(&bytes(block), &mut |_, _| ()).unwrap_err()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

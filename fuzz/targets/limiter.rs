//! The table behind `limit_req` and `limit_conn` equals a list in the order of use.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::http::shards::Shards;

/// Entries of 128 bytes that the smallest zone holds.
const ROOM: usize = 5 * 32;

fuzz_target!(|bytes: &[u8]| {
    let table = Shards::new(32 << 10, 80);
    let mut model: Vec<(u8, u8)> = Vec::new();
    for step in bytes.chunks_exact(3) {
        let [what, key, value] = [step[0], step[1], step[2]];
        let found = model.iter().position(|(other, _)| *other == key);
        table.with(&[key], |shard| match what % 4 {
            0 | 1 => {
                let entry = found.map(|at| model.remove(at));
                assert_eq!(shard.get(&[key]).map(|value| *value), entry.map(|(_, value)| value));
                model.extend(entry);
                if entry.is_none() {
                    let fits = model.len() < ROOM;
                    assert_eq!(shard.insert(&[key], value), fits);
                    model.extend(fits.then_some((key, value)));
                }
            }
            2 => {
                shard.remove(&[key]);
                found.map(|at| model.remove(at));
            }
            _ => {
                assert_eq!(shard.oldest().copied(), model.first().map(|(_, value)| *value));
                shard.pop_oldest();
                (!model.is_empty()).then(|| model.remove(0));
            }
        });
    }
});

//! Sizes of nginx's hash tables, as far as they can be wrong: <https://nginx.org/en/docs/hash.html>

/// A line of the processor's cache, to which nginx rounds buckets up.
const LINE: u64 = 64;
/// The largest bucket in bytes.
const LARGEST: u64 = (64 << 10) - LINE;
/// What an entry takes aside from its key and the two bytes of its length, and what a bucket ends with.
const POINTER: u64 = 8;

/// `*_hash_max_size` and `*_hash_bucket_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The most buckets.
    pub max: u64,
    /// Bytes of a bucket.
    pub bucket: u64,
}

impl Hash {
    /// A table of at most `max` buckets of one cache line.
    pub const fn new(max: u64) -> Self {
        Self { max, bucket: LINE }
    }

    /// Says in nginx's words why the table `name` cannot hold keys of these lengths.
    pub fn hold(&self, name: &str, keys: impl IntoIterator<Item = usize>) -> Result<(), String> {
        let Some(longest) = keys.into_iter().max() else { return Ok(()) };
        let bucket = self.bucket.checked_next_multiple_of(LINE).unwrap_or(1 << 63);
        let entry = (longest as u64 + 2).next_multiple_of(POINTER) + POINTER;
        let failed = |why: &str, size: u64| Err(format!("could not build {name}, {why}: {}", size.cast_signed()));
        if self.max == 0 {
            failed(&format!("you should increase {name}_max_size"), 0)
        } else if bucket > LARGEST {
            failed(&format!("too large {name}_bucket_size"), bucket)
        } else if bucket < entry + POINTER {
            failed(&format!("you should increase {name}_bucket_size"), bucket)
        } else {
            Ok(())
        }
    }
}

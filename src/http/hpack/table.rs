//! The two tables of fields: the static one (RFC 7541 appendix A) and the dynamic one (§2.3.2, §4).

use super::Error;
use std::collections::VecDeque;

/// What an entry counts for besides its octets (§4.1).
const OVERHEAD: usize = 32;

/// The entry of the static table at `index`, which counts from 1.
pub fn fixed(index: usize) -> Option<(&'static str, &'static str)> {
    FIXED.get(index.checked_sub(1)?).copied()
}

/// The index in the static table of a field, or of its name in any case; the flag says that the value is the entry's too,
/// which only the fields of a request line are asked for.
pub fn find(name: &[u8], value: &[u8]) -> Option<(usize, bool)> {
    let (from, to) = (*BY_LENGTH.get(name.len())?, *BY_LENGTH.get(name.len() + 1)?);
    let places = ORDER.get(usize::from(from)..usize::from(to))?;
    let mut found = None;
    for &place in places {
        let (known, its) = FIXED.get(usize::from(place))?;
        if !known.as_bytes().eq_ignore_ascii_case(name) {
            continue;
        }
        let pseudo = known.starts_with(':');
        if pseudo && its.as_bytes() == value && !its.is_empty() {
            return Some((usize::from(place) + 1, true));
        }
        found = found.or(Some((usize::from(place) + 1, false)));
        if !pseudo {
            break;
        }
    }
    found
}

/// Where an entry begins, counted from the first octet ever added, and the lengths of its name and its value.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: usize,
    name: usize,
    value: usize,
}

/// Entries the peer has added, newest first; never more than `limit` bytes of them.
#[derive(Debug, Clone)]
pub struct Dynamic {
    /// Octets of the entries, oldest first, after `dead` octets of entries that are gone.
    octets: Vec<u8>,
    dead: usize,
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Octets that were dropped from the front of `octets`.
    dropped: usize,
    /// By the count of §4.1, in bytes: what the entries take, what they may take now, and what they may ever take.
    size: usize,
    max: usize,
    limit: usize,
}

impl Dynamic {
    /// An empty table of at most `limit` bytes.
    pub fn new(limit: usize) -> Dynamic {
        Dynamic { octets: Vec::new(), dead: 0, entries: VecDeque::new(), dropped: 0, size: 0, max: limit, limit }
    }

    /// The entry at `index` of both tables.
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = fixed(index) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let Entry { at, name, value } = *self.entries.get(index.checked_sub(FIXED.len() + 1)?)?;
        let at = at.wrapping_sub(self.dropped);
        self.octets.get(at..at.checked_add(name + value)?)?.split_at_checked(name)
    }

    /// Adds an entry, for which old ones go; one that is too large empties the table.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink(self.max.saturating_sub(size));
        if size > self.max {
            return;
        }
        let at = self.dropped.wrapping_add(self.octets.len());
        self.octets.extend_from_slice(name);
        self.octets.extend_from_slice(value);
        self.entries.push_front(Entry { at, name: name.len(), value: value.len() });
        self.size += size;
    }

    /// The peer uses at most `max` bytes from now on.
    pub fn resize(&mut self, max: usize) -> Result<(), Error> {
        if max > self.limit {
            return Err(Error::TableSize(max));
        }
        self.max = max;
        self.shrink(max);
        Ok(())
    }

    /// Lets the oldest entries go until the rest takes at most `room` bytes.
    fn shrink(&mut self, room: usize) {
        while self.size > room {
            let Some(Entry { name, value, .. }) = self.entries.pop_back() else { break };
            self.size -= name + value + OVERHEAD;
            self.dead += name + value;
        }
        // Moved once in a table's length of octets.
        if self.dead > self.limit || self.entries.is_empty() {
            self.octets.drain(..self.dead.min(self.octets.len()));
            self.dropped = self.dropped.wrapping_add(std::mem::take(&mut self.dead));
        }
    }
}

/// Places in the static table by the length of the name; places of one length stand together.
static ORDER: [u8; FIXED.len()] = order();

/// Where in `ORDER` the names of each length begin.
static BY_LENGTH: [u8; 29] = by_length();

#[expect(clippy::indexing_slicing, reason = "it runs while compiling")]
const fn by_length() -> [u8; 29] {
    let mut begins = [0; 29];
    let mut length = 0;
    while length < begins.len() {
        let mut place = 0;
        while place < FIXED.len() {
            if FIXED[place].0.len() < length {
                begins[length] += 1;
            }
            place += 1;
        }
        length += 1;
    }
    begins
}

#[expect(clippy::indexing_slicing, reason = "it runs while compiling")]
const fn order() -> [u8; FIXED.len()] {
    let mut order = [0; FIXED.len()];
    let (mut at, mut length) = (0, 0);
    while at < order.len() {
        let mut place = 0;
        while place < FIXED.len() {
            if FIXED[place].0.len() == length {
                order[at] = place as u8;
                at += 1;
            }
            place += 1;
        }
        length += 1;
    }
    order
}

#[rustfmt::skip]
static FIXED: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

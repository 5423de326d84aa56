//! How fast a body is read: `proxy_limit_rate`
//! (<https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_limit_rate>).

use std::time::{Duration, Instant};

use crate::http::h1::write::Rate;
use crate::net::clock;

/// How fast a body is read.
pub struct Pace {
    rate: Rate,
    begun: Instant,
    /// Bytes so far.
    read: u64,
    /// When more may be read.
    next: Instant,
}

impl Pace {
    /// The pace of a body of which `read` bytes came with its head.
    pub fn new(rate: Rate, read: u64) -> Self {
        let begun = clock::instant();
        Self { rate, begun, read, next: begun }
    }

    /// The bytes that may be read now, or how long to wait for some.
    pub fn allows(&self, room: usize) -> Result<usize, Duration> {
        if self.rate.limit == 0 {
            return Ok(room);
        }
        let wait = self.next.saturating_duration_since(clock::instant());
        if !wait.is_zero() {
            return Err(wait);
        }
        let elapsed = clock::since(self.begun);
        let earned = self.rate.limit.saturating_mul(elapsed.as_secs() + 1);
        match earned.checked_sub(self.read) {
            Some(left @ 1..) => Ok(room.min(usize::try_from(left).unwrap_or(room))),
            // More is earned only as another second begins.
            _ => Err(Duration::from_millis(1000 - u64::from(elapsed.subsec_millis()))),
        }
    }

    /// Notes what was read. As in nginx, the next read waits for as long as these bytes take.
    pub fn note(&mut self, bytes: u64) {
        self.read += bytes;
        if let Some(millis) = bytes.saturating_mul(1000).checked_div(self.rate.limit) {
            self.next = clock::instant() + Duration::from_millis(millis);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_takes_its_time() {
        let mut free = Pace::new(Rate::default(), 100);
        free.note(5000);
        assert_eq!(free.allows(7), Ok(7));
        let mut pace = Pace::new(Rate { limit: 1000, after: 0 }, 400);
        assert_eq!((pace.allows(7), pace.allows(9000)), (Ok(7), Ok(600)));
        pace.note(500);
        let wait = pace.allows(7).expect_err("a pause");
        assert!(wait > Duration::from_millis(300) && wait <= Duration::from_millis(500), "{wait:?}");
        pace.next = pace.begun;
        assert_eq!(pace.allows(7000), Ok(100));
    }
}

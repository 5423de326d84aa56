//! How long a server takes, for `least_time`
//! (<https://nginx.org/en/docs/http/ngx_http_upstream_module.html#least_time>). All times are in milliseconds.

/// Times above this are equally bad.
const WORST: u64 = 5000;
/// Times closer together than this are equally good.
const CLOSE: u64 = 20;

/// What is known of a server's times.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// Average time to the end of the head.
    header: u64,
    /// Average time to the last byte.
    whole: u64,
    /// Requests under way, where they count.
    count: u64,
    /// What those had taken together at `changed`.
    taken: u64,
    changed: u64,
    /// Average time of requests under way.
    under_way: u64,
}

impl Timing {
    /// Notes the time to the end of a head.
    pub fn note_header(&mut self, time: u64) {
        average(&mut self.header, time);
    }

    /// Notes the time to the last byte.
    pub fn note_whole(&mut self, time: u64) {
        average(&mut self.whole, time);
    }

    /// The time one more request is expected to take; `halvings` forgive a server that was not tried lately.
    pub fn estimate(&self, by_header: bool, halvings: u64, conns: u64) -> u64 {
        let time = if by_header { self.header } else { self.whole };
        let time = time.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0);
        let time = if self.count > 0 { time.max(self.under_way) } else { time };
        let time = if time > WORST { WORST } else { time + CLOSE - time % CLOSE };
        time * (1 + conns)
    }

    /// Looks at the requests under way.
    pub fn look(&mut self, now: u64) {
        if let Some(each) = self.taken.checked_div(self.count) {
            average(&mut self.under_way, each + now.saturating_sub(self.changed));
        }
    }

    /// A request begins.
    pub fn begin(&mut self, now: u64) {
        self.taken += now.saturating_sub(self.changed) * self.count;
        self.changed = now;
        self.count += 1;
    }

    /// One that began at `begun` ends.
    pub fn end(&mut self, begun: u64, now: u64) {
        self.taken += now.saturating_sub(self.changed) * self.count;
        self.taken = if self.count > 1 { self.taken.saturating_sub(now.saturating_sub(begun)) } else { 0 };
        self.changed = now;
        self.count = self.count.saturating_sub(1);
    }
}

/// Moves an average a twentieth of the way to `value`.
fn average(average: &mut u64, value: u64) {
    *average = if *average == 0 { value } else { (value + *average * 19 + 10) / 20 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        let mut timing = Timing::default();
        assert_eq!(timing.estimate(false, 0, 0), CLOSE);
        timing.note_header(30);
        timing.note_whole(100);
        assert_eq!((timing.estimate(true, 0, 0), timing.estimate(false, 0, 1)), (40, 240));
        assert_eq!(timing.estimate(false, 2, 0), 40);
        timing.note_whole(300);
        assert_eq!(timing.whole, 110);
        timing.note_whole(1_000_000);
        assert_eq!(timing.estimate(false, 0, 0), WORST);
        assert_eq!(timing.estimate(false, 99, 0), CLOSE);
    }

    #[test]
    fn counts_requests_under_way() {
        let mut timing = Timing::default();
        timing.begin(1000);
        timing.begin(1100);
        timing.look(1200);
        assert_eq!(timing.estimate(false, 0, 0), 160);
        timing.end(1000, 1300);
        timing.end(1100, 1300);
        timing.look(1400);
        assert_eq!(timing.estimate(false, 0, 0), CLOSE);
    }
}

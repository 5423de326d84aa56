//! Dates in headers and logs: RFC 9110 section 5.6.7, https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format
//! and https://nginx.org/en/docs/ngx_core_module.html#error_log
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// One second, written in every way that headers and logs need.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// `Tue, 10 Nov 2026 23:50:13 GMT`, for headers.
    pub http: String,
    /// `10/Nov/2026:23:50:13 +0000`, `$time_local`.
    pub local: String,
    /// `2026-11-10T23:50:13+00:00`, `$time_iso8601`.
    pub iso8601: String,
    /// `2026/11/10 23:50:13`, the start of an error-log line.
    pub error: String,
    /// `Nov 10 23:50:13`, local time for syslog.
    pub syslog: String,
}

/// How often a thread's time is read before it is looked at again.
const USES: u32 = 64;

#[derive(Clone, Copy)]
struct Read {
    instant: Instant,
    unix: Duration,
}

thread_local! {
    static READ: Cell<Option<Read>> = const { Cell::new(None) };
    /// Uses that are left.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Reads the time for what this thread does in one turn of its event loop, as nginx does.
pub fn refresh() {
    READ.set(Some(read()));
    LEFT.set(USES);
}

fn read() -> Read {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Read { instant: Instant::now(), unix }
}

fn current() -> Read {
    // A thread that does not call `refresh` reads the time itself.
    let Some(last) = READ.get() else { return read() };
    match LEFT.get().checked_sub(1) {
        Some(left) => {
            LEFT.set(left);
            last
        }
        None => {
            refresh();
            READ.get().unwrap_or(last)
        }
    }
}

/// The time of this turn of the event loop, for measuring.
pub fn instant() -> Instant {
    current().instant
}

/// The time between `then` and this turn of the event loop.
pub fn since(then: Instant) -> Duration {
    instant().saturating_duration_since(then)
}

/// The time since the epoch and its texts; the texts are made once a second on each thread.
pub fn now() -> (Duration, Rc<Texts>) {
    thread_local!(static LAST: RefCell<(u64, Rc<Texts>)> = RefCell::new((u64::MAX, Rc::default())));
    let now = current().unix;
    let texts = LAST.with_borrow_mut(|(second, texts)| {
        if *second != now.as_secs() {
            *second = now.as_secs();
            *texts = Rc::new(texts_at(signed(now.as_secs()), &TimeZone::system()));
        }
        Rc::clone(texts)
    });
    (now, texts)
}

/// A random number that is nobody's secret: identifiers, boundaries.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The next time, after `now`, at which it is `time` seconds past local midnight; both Unix times in seconds.
pub fn next_time_of_day(now: i64, time: i64) -> i64 {
    let zone = TimeZone::system();
    let today = Timestamp::from_second(now).unwrap_or_default().to_zoned(zone).start_of_day();
    let at = |day: Result<Zoned, jiff::Error>| {
        let civil = day.and_then(|day| day.datetime().checked_add(jiff::SignedDuration::from_secs(time)));
        civil.and_then(|civil| civil.to_zoned(TimeZone::system())).map_or(now, |at| at.timestamp().as_second())
    };
    let first = at(today.clone());
    if first > now { first } else { at(today.and_then(|day| day.tomorrow())) }
}

/// The IMF-fixdate of a Unix time in seconds; times before 1970 are written as 1970.
pub fn http(unix: i64) -> String {
    let t = civil(unix, &TimeZone::UTC).0;
    format!("{}, {:02} {} {:4} {} GMT", day_name(t), t.day(), month_name(t), t.year(), clock(t))
}

/// A time in a listing of a directory: `28-Sep-1970 12:00`. Local ones have the offset of today.
pub fn listing(unix: i64, local: bool) -> String {
    let offset = if local { civil(signed(now().0.as_secs()), &TimeZone::system()).1 } else { 0 };
    let t = civil(unix + i64::from(offset) * 60, &TimeZone::UTC).0;
    format!("{:02}-{}-{} {:02}:{:02}", t.day(), month_name(t), t.year(), t.hour(), t.minute())
}

/// A time in XML: `1970-09-28T12:00:00Z`.
pub fn xml(unix: i64) -> String {
    let t = civil(unix, &TimeZone::UTC).0;
    format!("{:4}-{:02}-{:02}T{}Z", t.year(), t.month(), t.day(), clock(t))
}

/// The Unix time in seconds of any of HTTP's three forms of date.
pub fn parse(text: &[u8]) -> Option<i64> {
    let at = text.iter().position(|c| matches!(c, b',' | b' '))?;
    let (weekday, rest) = text.split_at_checked(at + 1)?;
    let mut cursor = Cursor(rest.trim_ascii_start());
    let (year, month, day, clock);
    if weekday.ends_with(b" ") {
        month = cursor.month()?;
        cursor.byte(b' ')?;
        cursor.byte(b' ');
        day = cursor.digits(2).or_else(|| cursor.digits(1))?;
        clock = cursor.clock()?;
        cursor.byte(b' ')?;
        year = cursor.digits(4)?;
    } else {
        day = cursor.digits(2)?;
        let separator = if cursor.byte(b'-').is_some() { b'-' } else { b' ' };
        if separator == b' ' {
            cursor.byte(b' ')?;
        }
        month = cursor.month()?;
        cursor.byte(separator)?;
        year = match separator {
            b' ' => cursor.digits(4)?,
            _ => cursor.digits(2).map(|y| y + if y < 70 { 2000 } else { 1900 })?,
        };
        clock = cursor.clock()?;
    }
    let [hour, minute, second] = clock;
    let small = |n: i16| i8::try_from(n).ok();
    let date = DateTime::new(year, month, small(day)?, small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    Some(TimeZone::UTC.to_timestamp(date).ok()?.as_second())
}

/// Appends seconds and milliseconds as in `$msec` and `$request_time`: `1732.123`.
pub fn seconds(time: Duration, out: &mut Vec<u8>) {
    let _ = write!(out, "{}.{:03}", time.as_secs(), time.subsec_millis());
}

fn texts_at(unix: i64, zone: &TimeZone) -> Texts {
    let (t, offset) = civil(unix, zone);
    let (year, month, day, time) = (t.year(), t.month(), t.day(), clock(t));
    let (sign, hours, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60, offset.abs() % 60);
    Texts {
        http: http(unix),
        local: format!("{day:02}/{}/{year}:{time} {sign}{hours:02}{minutes:02}", month_name(t)),
        iso8601: format!("{year:4}-{month:02}-{day:02}T{time}{sign}{hours:02}:{minutes:02}"),
        error: format!("{year:4}/{month:02}/{day:02} {time}"),
        syslog: format!("{} {day:2} {time}", month_name(t)),
    }
}

/// The civil time in a zone and the zone's offset in minutes.
fn civil(unix: i64, zone: &TimeZone) -> (DateTime, i32) {
    let time = Timestamp::from_second(unix.max(0)).unwrap_or(Timestamp::MAX);
    let offset = zone.to_offset(time);
    (offset.to_datetime(time), offset.seconds() / 60)
}

fn clock(t: DateTime) -> String {
    format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second())
}

fn day_name(t: DateTime) -> &'static str {
    nth(&DAYS, t.weekday().to_sunday_zero_offset())
}

fn month_name(t: DateTime) -> &'static str {
    nth(&MONTHS, t.month() - 1)
}

fn nth(names: &[&'static str], n: i8) -> &'static str {
    usize::try_from(n).ok().and_then(|n| names.get(n).copied()).unwrap_or_default()
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn byte(&mut self, wanted: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[wanted])?;
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<i16> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let value = digits.iter().try_fold(0i16, |n, c| c.is_ascii_digit().then(|| n * 10 + i16::from(c - b'0')))?;
        self.0 = rest;
        Some(value)
    }

    fn month(&mut self) -> Option<i8> {
        let (name, rest) = self.0.split_at_checked(3)?;
        let at = MONTHS.iter().position(|month| month.as_bytes() == name)?;
        self.0 = rest;
        i8::try_from(at + 1).ok()
    }

    /// A space and `HH:MM:SS`.
    fn clock(&mut self) -> Option<[i16; 3]> {
        self.byte(b' ')?;
        let hour = self.digits(2)?;
        self.byte(b':')?;
        let minute = self.digits(2)?;
        self.byte(b':')?;
        Some([hour, minute, self.digits(2)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_three_forms() {
        let table = [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun Nov 06 08:49:37 1994", Some(784_111_777)),
            ("Sun,06 Nov 1994 08:49:37", Some(784_111_777)),
            ("Tue, 19 Jan 2038 03:14:08 GMT", Some(2_147_483_648)),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800)),
            ("Wed, 29 Feb 2023 00:00:00 GMT", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:60 GMT", None),
            ("Sun, 06 Nov 94 08:49:37 GMT", None),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None),
            ("06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov", None),
            ("", None),
        ];
        for (text, want) in table {
            assert_eq!(parse(text.as_bytes()), want, "{text}");
        }
        for unix in [0, 951_782_400, 1_709_164_799, 4_102_444_800, 253_402_207_200] {
            assert_eq!(parse(http(unix).as_bytes()), Some(unix));
        }
        assert_eq!(http(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(parse(http(i64::MAX).as_bytes()), Some(Timestamp::MAX.as_second()));
    }

    #[test]
    fn writes_the_logs() {
        let texts = |zone| texts_at(1_795_329_312, &TimeZone::posix(zone).unwrap());
        assert_eq!(
            texts("UTC0"),
            Texts {
                http: "Sun, 22 Nov 2026 06:35:12 GMT".into(),
                local: "22/Nov/2026:06:35:12 +0000".into(),
                iso8601: "2026-11-22T06:35:12+00:00".into(),
                error: "2026/11/22 06:35:12".into(),
                syslog: "Nov 22 06:35:12".into(),
            }
        );
        assert_eq!(texts("NST3:30").local, "22/Nov/2026:03:05:12 -0330");
        assert_eq!(texts("IST-5:30").iso8601, "2026-11-22T12:05:12+05:30");
        let (noon, hour) = (1_795_329_312, 3600);
        assert!((1..24).all(|h| (noon + 1..=noon + 25 * hour).contains(&next_time_of_day(noon, h * hour))));
        let mut out = Vec::new();
        seconds(Duration::from_micros(1_732_007_999), &mut out);
        assert_eq!(out, b"1732.007");
        let (time, text) = now();
        assert_eq!(parse(text.http.as_bytes()), Some(signed(time.as_secs())));
        assert!(Rc::ptr_eq(&now().1, &text) || now().0.as_secs() > time.as_secs());
    }
}

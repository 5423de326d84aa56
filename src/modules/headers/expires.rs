//! `expires`: <https://nginx.org/en/docs/http/ngx_http_headers_module.html#expires>

use crate::conf::{Args, Field, Problem, units};
use crate::http::{Head, Known, Request, Value};
use crate::net::clock;

/// When responses expire.
#[derive(Clone, Debug, Default)]
pub enum Expires {
    /// Nothing is said about it.
    #[default]
    Off,
    /// As this says.
    At(When),
    /// As this value says; `true` counts from the last modification.
    Computed(Value, bool),
}

/// A moment; times are seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `epoch`: long ago.
    Epoch,
    /// `max`: never.
    Max,
    /// So long after the response.
    Access(i64),
    /// So long after the last modification.
    Modified(i64),
    /// At this time of the day, local time.
    Daily(i64),
}

const DAY: i64 = 24 * 60 * 60;

impl Expires {
    /// `expires [modified] time`, `expires epoch | max | off`.
    pub fn read(&mut self, args: &mut Args<'_>) -> Result<(), Problem> {
        let modified = args.len() == 2;
        if modified && args.word(0) != b"modified" {
            return Err(Problem::tail("invalid value").at(0));
        }
        let at = args.len() - 1;
        let value = Value::read(args.word(at), args).map_err(|problem| problem.at(at))?;
        *self = match value.as_literal() {
            Some(word) => {
                let when = parse(word, modified).map_err(|problem| Problem::tail(problem).at(at))?;
                when.map_or(Expires::Off, Expires::At)
            }
            None => Expires::Computed(value, modified),
        };
        Ok(())
    }

    /// Writes `Expires` and `Cache-Control`.
    pub fn apply(&self, request: &Request, head: &mut Head) {
        let when = match self {
            Expires::Off => return,
            Expires::At(when) => Some(*when),
            Expires::Computed(value, modified) => {
                let value = request.showing(head, || value.get(request));
                parse(&value, *modified).ok().flatten()
            }
        };
        let Some(when) = when else { return };
        let now = i64::try_from(clock::now().0.as_secs()).unwrap_or(i64::MAX);
        let (expires, control) = when.fields(now, head.last_modified);
        head.headers.set(b"Expires", expires.as_bytes());
        let mut first = true;
        head.headers.retain(|field| field.known != Known::CacheControl || std::mem::take(&mut first));
        head.headers.set(b"Cache-Control", control.as_bytes());
    }
}

impl When {
    fn fields(self, now: i64, last_modified: Option<i64>) -> (String, String) {
        let no_cache = || "no-cache".to_owned();
        let (at, time) = match (self, last_modified) {
            (When::Epoch, _) => return (clock::http(1), no_cache()),
            (When::Max, _) => return ("Thu, 31 Dec 2037 23:55:55 GMT".to_owned(), "max-age=315360000".to_owned()),
            (When::Access(0) | When::Modified(0), _) => return (clock::http(now), "max-age=0".to_owned()),
            (When::Daily(time), _) => (clock::next_time_of_day(now, time), time),
            (When::Modified(time), Some(modified)) => (modified.saturating_add(time), time),
            (When::Access(time) | When::Modified(time), _) => (now.saturating_add(time), time),
        };
        let age = at - now;
        (clock::http(at), if time < 0 || age < 0 { no_cache() } else { format!("max-age={age}") })
    }
}

/// Reads everything behind `modified`; nothing is `off`.
fn parse(word: &[u8], modified: bool) -> Result<Option<When>, &'static str> {
    match word {
        b"epoch" if !modified => return Ok(Some(When::Epoch)),
        b"max" if !modified => return Ok(Some(When::Max)),
        b"off" if !modified => return Ok(None),
        _ => {}
    }
    let (sign, digits) = match word.split_first() {
        Some((sign @ (b'@' | b'+' | b'-'), rest)) => (*sign, rest),
        _ => (b'+', word),
    };
    if sign == b'@' && modified {
        return Err("daily time cannot be used with \"modified\" parameter");
    }
    let time = units::sec(digits).and_then(|time| i64::try_from(time).ok()).ok_or("invalid value")?;
    Ok(Some(match sign {
        b'@' if time > DAY => return Err("daily time value must be less than 24 hours"),
        b'@' => When::Daily(time),
        sign => {
            let time = if sign == b'-' { -time } else { time };
            if modified { When::Modified(time) } else { When::Access(time) }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_forms() {
        let table = [
            ("epoch", false, Ok(Some(When::Epoch))),
            ("max", false, Ok(Some(When::Max))),
            ("off", false, Ok(None)),
            ("1h", false, Ok(Some(When::Access(3600)))),
            ("+1h", true, Ok(Some(When::Modified(3600)))),
            ("-1", false, Ok(Some(When::Access(-1)))),
            ("@15h30m", false, Ok(Some(When::Daily(55_800)))),
            ("@25h", false, Err("daily time value must be less than 24 hours")),
            ("@1h", true, Err("daily time cannot be used with \"modified\" parameter")),
            ("max", true, Err("invalid value")),
            ("soon", false, Err("invalid value")),
            ("", false, Err("invalid value")),
        ];
        for (word, modified, want) in table {
            assert_eq!(parse(word.as_bytes(), modified), want, "{word}");
        }
    }

    #[test]
    fn writes_both_fields() {
        let fields = |when: When| when.fields(1000, Some(400));
        assert_eq!(fields(When::Epoch), ("Thu, 01 Jan 1970 00:00:01 GMT".into(), "no-cache".into()));
        assert_eq!(fields(When::Access(60)), (clock::http(1060), "max-age=60".into()));
        assert_eq!(fields(When::Access(-60)), (clock::http(940), "no-cache".into()));
        assert_eq!(fields(When::Access(0)), (clock::http(1000), "max-age=0".into()));
        assert_eq!(fields(When::Modified(60)), (clock::http(460), "no-cache".into()));
        assert_eq!(fields(When::Modified(700)), (clock::http(1100), "max-age=100".into()));
    }
}

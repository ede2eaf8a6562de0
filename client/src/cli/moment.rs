//! Times on the command line: the one parser for `--since` and `--until`.
//!
//! A time without an offset is in the local time zone of the caller (`TZ`, else `/etc/localtime`).

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, Zoned};
use packs_schema::base::quantity::parse_duration;

/// The forms, for the help of each option that takes a time.
pub(super) const FORMS: &str = "\
TIME is a duration before now (90m, 2h, \"3d ago\"), today, yesterday, 14:00, \"yesterday 14:00\", 2026-11-26, \
\"2026-11-26 14:00\", or RFC 3339 (2026-11-26T14:00:00Z). A day alone is its midnight. Times without an offset are in \
your local time zone (TZ, else /etc/localtime)";
/// Times before this are taken for mistakes.
const EARLIEST: Timestamp = Timestamp::constant(946_684_800, 0);

/// A time in the past, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// Returns the milliseconds since 1970.
    pub(super) fn ms(self) -> u64 {
        self.0
    }
}

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Moment, String> {
        parse(text, &Zoned::now())
    }
}

fn parse(text: &str, now: &Zoned) -> Result<Moment, String> {
    let time = read(text.trim(), now).ok_or_else(|| {
        "use a duration before now (90m, 2h, \"3d ago\"), today, yesterday, 14:00, \"yesterday 14:00\", 2026-11-26, \
         \"2026-11-26 14:00\" (local time) or 2026-11-26T14:00:00Z"
            .to_owned()
    })?;
    if time > now.timestamp() {
        let hint = if text.contains(':') && !text.contains('-') {
            "; write \"yesterday 14:00\" for the day before"
        } else {
            ""
        };
        return Err(format!("{time:.0} is in the future{hint}"));
    }
    if time < EARLIEST {
        return Err(format!("{time:.0} is before 2000: nothing was recorded then"));
    }
    u64::try_from(time.as_millisecond()).map(Moment).map_err(|e| e.to_string())
}

/// Reads a time; `None` if `text` has none of the forms.
fn read(text: &str, now: &Zoned) -> Option<Timestamp> {
    let duration = text.strip_suffix("ago").map_or(text, str::trim_end);
    if let Ok(before) = parse_duration(duration) {
        // A time before the earliest timestamp is refused as too early.
        let before = jiff::SignedDuration::try_from(before).ok()?;
        return Some(now.timestamp().checked_sub(before).unwrap_or(Timestamp::MIN));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let (day, time) = match text.split_once([' ', 'T']) {
        Some((day, time)) => (read_day(day, now)?, read_time(time.trim_start())?),
        None => match (read_day(text, now), read_time(text)) {
            (Some(day), _) => (day, Time::midnight()),
            (None, Some(time)) => (now.date(), time),
            (None, None) => return None,
        },
    };
    DateTime::from_parts(day, time).to_zoned(now.time_zone().clone()).ok().map(|zoned| zoned.timestamp())
}

fn read_day(text: &str, now: &Zoned) -> Option<Date> {
    match text {
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        // The library reads other forms as well, such as those with a time.
        _ if text.len() == 10 => text.parse().ok(),
        _ => None,
    }
}

/// Reads `14:00` or `14:00:30`.
fn read_time(text: &str) -> Option<Time> {
    let wanted = |n: usize, c: char| if n % 3 == 2 { c == ':' } else { c.is_ascii_digit() };
    let well_formed = matches!(text.len(), 5 | 8) && text.chars().enumerate().all(|(n, c)| wanted(n, c));
    if well_formed { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Zoned {
        // Half past ten in summer, two hours east of UTC.
        "2026-07-15T10:30:00+02:00[Europe/Berlin]".parse().unwrap()
    }

    fn at(text: &str) -> Result<String, String> {
        let ms = parse(text, &now())?.ms();
        Ok(Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string())
    }

    #[test]
    fn each_form_is_read_in_the_local_time_zone() {
        for (text, wanted) in [
            ("90m", "2026-07-15T07:00:00Z"),
            ("2h ago", "2026-07-15T06:30:00Z"),
            ("3d", "2026-07-12T08:30:00Z"),
            ("1h30m", "2026-07-15T07:00:00Z"),
            ("today", "2026-07-14T22:00:00Z"),
            ("yesterday", "2026-07-13T22:00:00Z"),
            ("09:15", "2026-07-15T07:15:00Z"),
            ("09:15:20", "2026-07-15T07:15:20Z"),
            ("yesterday 14:00", "2026-07-14T12:00:00Z"),
            ("2026-07-01", "2026-06-30T22:00:00Z"),
            // In winter time.
            ("2026-01-02 14:00", "2026-01-02T13:00:00Z"),
            ("2026-01-02T14:00", "2026-01-02T13:00:00Z"),
            ("2026-07-01T14:00:00Z", "2026-07-01T14:00:00Z"),
            ("2026-07-01T14:00:00-05:00", "2026-07-01T19:00:00Z"),
            ("0s", "2026-07-15T08:30:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_future_or_absurd_time_is_an_error() {
        for (text, part) in [
            ("14:00", "in the future; write \"yesterday 14:00\""),
            ("2026-07-16", "in the future"),
            ("2126-01-01T00:00:00Z", "in the future"),
            ("1970-01-01T00:00:00Z", "before 2000"),
            ("90000d", "use a duration"),
            ("36000d", "before 2000"),
            ("tomorrow", "use a duration"),
            ("1784104200", "use a duration"),
            ("-2h", "use a duration"),
            ("", "use a duration"),
            ("ago", "use a duration"),
            ("25:00", "use a duration"),
            ("2026-13-01", "use a duration"),
            ("2026-07-01 9", "use a duration"),
        ] {
            let error = at(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_in_the_past_or_an_error(text in "([0-9:T ago-]|today|yesterday|Z){0,4}") {
            if let Ok(moment) = parse(&text, &now()) {
                prop_assert!(moment.ms() <= u64::try_from(now().timestamp().as_millisecond()).unwrap());
            }
        }
    }
}

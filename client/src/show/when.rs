//! Times and durations for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-21T23:05:09Z`
pub fn at(ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| "out of range".to_owned())
}

/// How long ago, in one unit: `7s`, `3h`.
pub fn ago(ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(ms) / 1000;
    for (unit, name) in [(86_400, "d"), (3600, "h"), (60, "m")] {
        if seconds >= unit {
            return format!("{}{name} ago", seconds / unit);
        }
    }
    format!("{seconds}s ago")
}

/// `250ms`, `1.2s`, `3m5s`
pub fn lasted(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => packs_schema::base::quantity::format_duration(Duration::from_secs(duration.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(u64::MAX), "out of range");
        assert_eq!(
            (ago(0, 59_999), ago(0, 7_200_000), ago(5, 0)),
            ("59s ago".into(), "2h ago".into(), "0s ago".into())
        );
        assert_eq!(lasted(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(lasted(Duration::from_millis(185_999)), "3m5s");
    }
}

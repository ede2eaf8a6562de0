//! Warnings before something ends: a certificate, an authority, a revocation list, the signatures of the repository.
//!
//! ```text
//!   30 days: a note ──▶ 7 days: degraded ──▶ 1 day: degraded, logged again ──▶ ended
//! ```
//!
//! A short life has later warnings, at a part of it: a certificate that is renewed at half of its life must cause none.

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Remaining time until an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Less than 30 days.
    Month,
    /// Less than 7 days.
    Week,
    /// Less than a day.
    Day,
    /// Nothing: it has ended.
    Ended,
}

impl Stage {
    /// Returns the stage at `now_s` of what ends after `end_s`; `None` if there is more time. `begin_s` is the start of its
    /// validity, where that is known.
    pub(crate) fn of(begin_s: Option<i64>, end_s: i64, now_s: i64) -> Option<Stage> {
        let left_s = end_s.saturating_sub(now_s);
        if left_s < 0 {
            return Some(Stage::Ended);
        }
        let whole_s = begin_s.map_or(i64::MAX, |begin_s| end_s.saturating_sub(begin_s));
        // Latest warning first; each at the latest after the given share of the whole validity.
        let stages = [(Stage::Day, 1, 20), (Stage::Week, 7, 10), (Stage::Month, 30, 4)];
        stages
            .into_iter()
            .find(|(_, days, share)| left_s < (days * DAY_S).min(whole_s / share))
            .map(|(stage, ..)| stage)
    }

    /// Returns its length in seconds, 0 for what has ended.
    pub(crate) fn seconds(self) -> i64 {
        match self {
            Stage::Month => 30 * DAY_S,
            Stage::Week => 7 * DAY_S,
            Stage::Day => DAY_S,
            Stage::Ended => 0,
        }
    }

    /// True if the agent is degraded by it; a month before it is a note.
    pub(crate) fn degrades(self) -> bool {
        self > Stage::Month
    }

    /// Describes the end in a sentence whose subject is what ends. Names the stage, so that each stage is logged.
    pub(crate) fn describe(self, end_s: i64) -> String {
        let at = rfc3339(end_s);
        match self {
            Stage::Month => format!("expires at {at} (first warning)"),
            Stage::Week => format!("expires at {at} (second warning)"),
            Stage::Day => format!("expires at {at} (last warning)"),
            Stage::Ended => format!("expired at {at}"),
        }
    }
}

/// End of something that has a name, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// `certificate`, `authority`, `crl` or `signature`.
    pub(crate) kind: &'static str,
    /// File, or role of the repository.
    pub(crate) name: String,
    /// Start of the validity, where that is known, in seconds since 1970.
    pub(crate) begin_s: Option<i64>,
    /// End, in seconds since 1970.
    pub(crate) end_s: i64,
}

impl End {
    /// Returns the stage at `now_s`.
    pub(crate) fn stage(&self, now_s: i64) -> Option<Stage> {
        let stage = Stage::of(self.begin_s, self.end_s, now_s)?;
        // Signed again every few days by a program: each warning one step later.
        let is_renewed_often = self.kind == "signature" && ["snapshot", "timestamp"].contains(&self.name.as_str());
        match stage {
            Stage::Month if is_renewed_often => None,
            Stage::Week if is_renewed_often => Some(Stage::Month),
            Stage::Day if is_renewed_often => Some(Stage::Week),
            stage => Some(stage),
        }
    }
}

/// Formats a time for people.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_30_7_and_1_days_before_the_end() {
        let end = 1000 * DAY_S;
        for begin in [None, Some(end - 365 * DAY_S)] {
            let stage = |left_s: i64| Stage::of(begin, end, end - left_s);
            assert_eq!(stage(30 * DAY_S), None);
            assert_eq!(stage(30 * DAY_S - 1), Some(Stage::Month));
            assert_eq!(stage(7 * DAY_S), Some(Stage::Month));
            assert_eq!(stage(7 * DAY_S - 1), Some(Stage::Week));
            assert_eq!(stage(DAY_S - 1), Some(Stage::Day));
            assert_eq!(stage(0), Some(Stage::Day), "the last second counts");
            assert_eq!(stage(-1), Some(Stage::Ended));
        }
    }

    #[test]
    fn what_lives_for_a_short_time_is_warned_of_in_its_last_quarter() {
        let hour = |left_s: i64| Stage::of(Some(0), 3600, 3600 - left_s);
        assert_eq!(hour(1800), None, "half of its life");
        assert_eq!(hour(899), Some(Stage::Month));
        assert_eq!(hour(359), Some(Stage::Week));
        assert_eq!(hour(179), Some(Stage::Day));
    }
}

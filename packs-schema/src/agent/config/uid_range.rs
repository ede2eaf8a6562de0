//! `[execution] uid_range`: user ids for executions with an account of their own.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Range of user ids, both ends included. The same numbers are used as group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    first: u32,
    last: u32,
}

/// Error returned for an invalid range of user ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UidRangeError {
    /// Not two numbers.
    #[error("{0:?} is not a range of user ids: write it like \"2105540608-2106589183\"")]
    Syntax(String),
    /// The end is before the start.
    #[error("the range {0}-{1} ends before it starts")]
    Reversed(u32, u32),
    /// Ids below 1000, which are reserved for the system.
    #[error("the range starts at {0}, but user ids below 1000 are reserved for the system")]
    System(u32),
    /// Ids with a special meaning.
    #[error("the range {first}-{last} includes {special}, which is {meaning}")]
    Special {
        /// First id of the range.
        first: u32,
        /// Last id of the range.
        last: u32,
        /// Special id.
        special: u32,
        /// Its meaning.
        meaning: &'static str,
    },
}

/// Ids that no account may have.
const SPECIAL: [(u32, &str); 3] =
    [(65_534, "the overflow user id (nobody)"), (65_535, "-1 in 16 bits"), (u32::MAX, "-1, which means no change")];

impl UidRange {
    /// Creates a range from `first` to `last`, both included.
    pub fn new(first: u32, last: u32) -> Result<UidRange, UidRangeError> {
        if first > last {
            return Err(UidRangeError::Reversed(first, last));
        }
        if first < 1000 {
            return Err(UidRangeError::System(first));
        }
        match SPECIAL.into_iter().find(|(id, _)| (first..=last).contains(id)) {
            Some((special, meaning)) => Err(UidRangeError::Special { first, last, special, meaning }),
            None => Ok(UidRange { first, last }),
        }
    }

    /// Parses `first-last`.
    pub fn parse(text: &str) -> Result<UidRange, UidRangeError> {
        let syntax = || UidRangeError::Syntax(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(syntax)?;
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| syntax());
        UidRange::new(number(first)?, number(last)?)
    }

    /// Returns the first id.
    pub fn first(self) -> u32 {
        self.first
    }

    /// Returns the last id.
    pub fn last(self) -> u32 {
        self.last
    }

    /// Returns the number of ids in the range.
    pub fn count(self) -> u32 {
        self.last - self.first + 1
    }

    /// True if `id` is in the range.
    pub fn contains(self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// True if the range contains one of `count` ids from `first` on.
    pub fn overlaps(self, first: u32, count: u64) -> bool {
        u64::from(self.first) < u64::from(first) + count && first <= self.last
    }
}

impl Default for UidRange {
    /// 2^20 ids that are not in use elsewhere: above those of distributions (up to 65,535), of containers (systemd up
    /// to 1,879,048,191, subordinate ids of shadow up to 600,100,000) and of directory services (SSSD up to
    /// 2,000,200,000), and below systemd's foreign ids (from 2,147,352,576) and the maximum of a signed 32-bit number.
    fn default() -> UidRange {
        UidRange { first: 2_105_540_608, last: 2_106_589_183 }
    }
}

impl std::fmt::Display for UidRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl<'de> Deserialize<'de> for UidRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<UidRange, D::Error> {
        UidRange::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_numbers_without_special_ids() {
        let range = UidRange::parse("70000-70009").unwrap();
        assert_eq!((range.first(), range.last(), range.count()), (70_000, 70_009, 10));
        assert_eq!(range.to_string(), "70000-70009");
        for (wrong, why) in [
            ("70000", "is not a range"),
            ("a-b", "is not a range"),
            ("-1-5", "is not a range"),
            ("70009-70000", "ends before it starts"),
            ("999-70000", "below 1000"),
            ("60000-70000", "65534"),
            ("65535-70000", "65535"),
            ("70000-4294967295", "no change"),
        ] {
            let error = UidRange::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn ranges_overlap_at_their_ends() {
        let range = UidRange::parse("70000-70009").unwrap();
        assert!(range.contains(70_000) && range.contains(70_009) && !range.contains(70_010));
        for (first, count, overlaps) in
            [(69_990, 10, false), (69_990, 11, true), (70_009, 1, true), (70_010, 5, false), (0, 1 << 32, true)]
        {
            assert_eq!(range.overlaps(first, count), overlaps, "{first} {count}");
        }
    }

    #[test]
    fn the_default_range_is_outside_known_ranges() {
        let range = UidRange::default();
        assert_eq!(UidRange::new(range.first(), range.last()).unwrap(), range);
        for (first, last) in [(0, 65_535), (100_000, 600_100_000), (524_288, 1_879_048_191), (200_000, 2_000_200_000)] {
            assert!(!range.overlaps(first, u64::from(last - first) + 1), "{first}-{last}");
        }
        assert!(range.last() < 2_147_352_576);
    }
}

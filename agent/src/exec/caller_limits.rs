//! Limits of callers ([`Limit`]): a token bucket for starts, and a count of executions that have not ended.
//!
//! A bucket is one time: when it will be full again (the "generic cell rate algorithm"). A full one is the same as none, so that
//! only those of callers that started something lately are kept, at most [`MAX_BUCKETS`]. Above that, the fullest is dropped:
//! its caller is allowed more than its limit, and no caller is refused because of others. Times are `CLOCK_BOOTTIME`, so that
//! after a restart of the api all buckets are full.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use packs_schema::agent::grants::Limit;
use packs_schema::base::name::{ExecutionId, Principal};
use packs_schema::pack::action::Rate;

/// Maximum number of buckets.
const MAX_BUCKETS: usize = 4096;

/// Bucket of a principal: its rate as a number and microseconds.
type Key = (Principal, u32, i64);

/// State of all limits.
#[derive(Debug, Default)]
pub(super) struct CallerLimits {
    /// Time in microseconds at which each bucket is full again.
    full_at_us: HashMap<Key, i64>,
    /// Executions that are admitted and not yet in the table of those that have not ended.
    pub(super) accepting: HashMap<ExecutionId, Principal>,
}

/// Reason for which a limit refuses a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitRejection {
    /// The bucket is empty until `after`.
    TooOften { rate: Rate, after: Duration },
    /// This many executions have not ended.
    TooMany(u32),
}

impl CallerLimits {
    /// Checks a start of a caller that has `unfinished` executions, without taking anything.
    pub(super) fn check(
        &self,
        limits: &[Limit],
        who: &Principal,
        unfinished: usize,
        now_ms: i64,
    ) -> Result<(), LimitRejection> {
        let exceeded = |most: &u32| unfinished >= usize::try_from(*most).unwrap_or(usize::MAX);
        if let Some(most) = limits.iter().filter_map(|limit| limit.executions).find(exceeded) {
            return Err(LimitRejection::TooMany(most));
        }
        for rate in limits.iter().filter_map(|limit| limit.starts) {
            let (period_us, interval_us) = spans(rate);
            let full_at_us = self.full_at_us.get(&key(who, rate)).copied().unwrap_or(i64::MIN);
            // An interval fills one token; the bucket holds what a period fills.
            let earliest_us = full_at_us.saturating_add(interval_us).saturating_sub(period_us);
            let wait_us = earliest_us.saturating_sub(now_ms.saturating_mul(1000));
            if let Ok(wait_us @ 1..) = u64::try_from(wait_us) {
                return Err(LimitRejection::TooOften { rate, after: Duration::from_micros(wait_us) });
            }
        }
        Ok(())
    }

    /// Takes a token from each bucket of the caller.
    pub(super) fn take(&mut self, limits: &[Limit], who: &Principal, now_ms: i64) {
        let now_us = now_ms.saturating_mul(1000);
        // Equal limits of several entries share a bucket, of which a start takes one token.
        let buckets: BTreeMap<Key, Rate> =
            limits.iter().filter_map(|limit| limit.starts).map(|rate| (key(who, rate), rate)).collect();
        for (key, rate) in buckets {
            let full_at_us = self.full_at_us.entry(key).or_insert(now_us);
            *full_at_us = (*full_at_us).max(now_us).saturating_add(spans(rate).1);
        }
        if self.full_at_us.len() > MAX_BUCKETS {
            self.full_at_us.retain(|_, full_at_us| *full_at_us > now_us);
        }
        while self.full_at_us.len() > MAX_BUCKETS {
            let fullest = self.full_at_us.iter().min_by_key(|(_, full_at_us)| **full_at_us).map(|(key, _)| key.clone());
            let Some(fullest) = fullest else { break };
            self.full_at_us.remove(&fullest);
        }
    }
}

fn key(who: &Principal, rate: Rate) -> Key {
    (who.clone(), rate.max, spans(rate).0)
}

/// Returns the period, and the time in which one token is filled, in microseconds.
fn spans(rate: Rate) -> (i64, i64) {
    let period_us = i64::try_from(rate.per.0.as_micros()).unwrap_or(i64::MAX / 4);
    (period_us, (period_us / i64::from(rate.max.max(1))).max(1))
}

#[cfg(test)]
mod tests {
    use packs_schema::agent::grants::Grants;
    use proptest::prelude::*;

    use super::*;

    fn ann() -> Principal {
        Principal::new("a://b/ann").unwrap()
    }

    fn limits(text: &str) -> Vec<Limit> {
        let grants = Grants::parse(&format!("[[limit]]\nprincipal = \"a://b/*\"\n{text}\n")).unwrap();
        grants.limits_of(&ann())
    }

    fn start(state: &mut CallerLimits, limits: &[Limit], who: &Principal, now_ms: i64) -> Result<(), LimitRejection> {
        state.check(limits, who, 0, now_ms)?;
        state.take(limits, who, now_ms);
        Ok(())
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_evenly() {
        let limits = limits("starts = { max = 3, per = \"60s\" }");
        let mut state = CallerLimits::default();
        for _ in 0..3 {
            start(&mut state, &limits, &ann(), 1_000_000).unwrap();
        }
        let refused = start(&mut state, &limits, &ann(), 1_000_000).unwrap_err();
        assert!(
            matches!(refused, LimitRejection::TooOften { after, .. } if after == Duration::from_secs(20)),
            "{refused:?}"
        );
        let bob = Principal::new("a://b/bob").unwrap();
        start(&mut state, &limits, &bob, 1_000_000).unwrap();
        start(&mut state, &limits, &ann(), 1_019_999).unwrap_err();
        start(&mut state, &limits, &ann(), 1_020_000).unwrap();
        start(&mut state, &limits, &ann(), 1_020_001).unwrap_err();
        for _ in 0..3 {
            start(&mut state, &limits, &ann(), 2_000_000).unwrap();
        }
        start(&mut state, &limits, &ann(), 2_000_000).unwrap_err();
    }

    #[test]
    fn executions_that_have_not_ended_are_counted() {
        let limits = limits("executions = 2");
        let state = CallerLimits::default();
        assert_eq!(state.check(&limits, &ann(), 1, 0), Ok(()));
        assert_eq!(state.check(&limits, &ann(), 2, 0), Err(LimitRejection::TooMany(2)));
    }

    #[test]
    fn equal_limits_of_two_entries_share_a_bucket_of_which_a_start_takes_one_token() {
        let starts = limits("starts = { max = 2, per = \"1h\" }");
        let twice = [starts.clone(), starts].concat();
        let mut state = CallerLimits::default();
        for _ in 0..2 {
            assert_eq!(start(&mut state, &twice, &ann(), 0), Ok(()));
        }
        assert!(start(&mut state, &twice, &ann(), 0).is_err());
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let limits = limits("starts = { max = 2, per = \"1h\" }");
        let mut state = CallerLimits::default();
        for number in 0..i64::try_from(MAX_BUCKETS).unwrap() + 50 {
            let who = Principal::new(format!("a://b/{number}")).unwrap();
            start(&mut state, &limits, &who, number).unwrap();
            assert!(state.full_at_us.len() <= MAX_BUCKETS);
        }
        start(&mut state, &limits, &ann(), 10_000_000).unwrap();
        assert!(state.full_at_us.len() <= MAX_BUCKETS);
    }

    proptest! {
        #[test]
        fn no_period_has_more_than_twice_the_starts(
            max in 1_u32..6, waits in prop::collection::vec(0_i64..20_000, 1..200),
        ) {
            let limits = limits(&format!("starts = {{ max = {max}, per = \"10s\" }}"));
            let (mut state, mut now_ms, mut started) = (CallerLimits::default(), 5_000_000, Vec::new());
            for wait in waits {
                now_ms += wait;
                if start(&mut state, &limits, &ann(), now_ms).is_ok() {
                    started.push(now_ms);
                }
            }
            for first in &started {
                let within = started.iter().filter(|at| (*first..*first + 10_000).contains(*at)).count();
                prop_assert!(within <= 2 * usize::try_from(max).unwrap(), "{started:?}");
            }
        }
    }
}

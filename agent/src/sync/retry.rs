//! Retry of failed versions with backoff: after one minute, two, four, up to an hour if the network or the disk may have been
//! the cause, and after an hour if the archive itself is. To retry at every poll would load repository and host for nothing,
//! since the same bytes fail in the same way. A new digest, another version of the agent and a poll that a caller asked for
//! (`sync --asked`) retry at once.

use packs_schema::agent::rest::FailedVersion;

use super::error::Step;

/// Maximum time between two attempts, in milliseconds.
const LONGEST_MS: u64 = 3_600_000;
/// Time after the first failure of a step that network or disk may have caused, in milliseconds.
const FIRST_MS: u64 = 60_000;

/// True if the backoff has passed.
pub(super) fn is_due(failed: &FailedVersion, now_ms: u64) -> bool {
    let wait_ms = match failed.step.as_str() {
        // The configuration of an active version is checked again at each poll.
        step if step == Step::Configure.as_str() && failed.digest.is_none() => return false,
        // The archive is the signed one and does not change; a changed configuration is tried at once.
        step if [Step::Unpack, Step::Check, Step::Configure].iter().any(|fixed| step == fixed.as_str()) => LONGEST_MS,
        _ => FIRST_MS.saturating_mul(1 << failed.attempts.clamp(1, 10).saturating_sub(1)).min(LONGEST_MS),
    };
    // A clock that was set back must not delay the retry for long.
    !(failed.at_ms..failed.at_ms.saturating_add(wait_ms)).contains(&now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transient_failure_is_retried_sooner_than_a_permanent_one() {
        let failed = |step: Step, attempts| FailedVersion {
            version: None,
            digest: None,
            step: step.as_str().to_owned(),
            message: String::new(),
            findings: Vec::new(),
            at_ms: 1_000_000,
            attempts,
        };
        let minutes = |step, attempts| {
            let failed = failed(step, attempts);
            (0..200).find(|minute| is_due(&failed, 1_000_000 + minute * 60_000))
        };
        assert_eq!([1, 2, 3, 7, 99].map(|n| minutes(Step::Fetch, n)), [1, 2, 4, 60, 60].map(Some));
        assert_eq!([1, 9].map(|n| minutes(Step::Check, n)), [60, 60].map(Some));
        assert_eq!(minutes(Step::Configure, 1), None);
        assert!(is_due(&failed(Step::Check, 1), 999_999), "the clock was set back");
    }
}

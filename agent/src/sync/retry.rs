//! When a version that failed is tried again. To fetch what failed at every poll would load the repository and the host for
//! nothing: the same bytes fail the same way. Another digest, another agent and a poll that is asked for try at once.

use packs_schema::agent::rest::FailedVersion;

use super::error::Step;

/// The longest time between two attempts, in milliseconds.
const LONGEST_MS: u64 = 3_600_000;
/// The time after the first failure of a step that may have been the network's or the disk's, in milliseconds.
const FIRST_MS: u64 = 60_000;

/// True if the time has come to try again.
pub(super) fn is_due(failed: &FailedVersion, now_ms: u64) -> bool {
    let wait_ms = match failed.step.as_str() {
        // The configuration of an active version is checked again at each poll.
        step if step == Step::Configure.as_str() && failed.digest.is_none() => return false,
        // The archive is the signed one, so it does not change; a changed configuration is tried at once.
        step if [Step::Unpack, Step::Check, Step::Configure].iter().any(|fixed| step == fixed.as_str()) => LONGEST_MS,
        _ => FIRST_MS.saturating_mul(1 << failed.attempts.clamp(1, 10).saturating_sub(1)).min(LONGEST_MS),
    };
    // A clock that was set back must not put it off for long.
    !(failed.at_ms..failed.at_ms.saturating_add(wait_ms)).contains(&now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_sooner_than_what_will_not() {
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

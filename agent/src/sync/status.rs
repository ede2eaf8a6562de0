//! `.status.json`: result of the last poll, for the api and for people.

use packs_schema::agent::rest::{FailedVersion, SyncStatus};
use packs_schema::base::name::{Digest, PackName};

use super::disk;
use super::error::{PackFailure, SyncError, chain, shorten_message};
use super::store::Store;

/// Maximum size of the file, in bytes: that of a file which the api reads.
const MAX_STATUS: usize = 1 << 20;

/// Reads the status of the previous poll; an empty one if there was none or it cannot be read.
pub(super) fn read(store: &Store) -> SyncStatus {
    let bytes = disk::read_if_there(&store.status(), MAX_STATUS as u64).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Builds the status after a poll that began at `began_ms` with the result `outcome`.
pub(super) fn after(
    before: &SyncStatus,
    began_ms: u64,
    outcome: &Result<Vec<(PackName, FailedVersion)>, SyncError>,
) -> SyncStatus {
    let polls = before.polls.saturating_add(1);
    let mut status = SyncStatus { polled_at_ms: began_ms, polls, ..before.clone() };
    for step in new_failures(before, outcome) {
        let count = status.failures_by_step.entry(step).or_default();
        *count = count.saturating_add(1);
    }
    match outcome {
        Ok(failed) => SyncStatus {
            succeeded_at_ms: Some(began_ms),
            failure: None,
            expired: false,
            failed: failed.clone(),
            ..status
        },
        Err(error) => SyncStatus {
            failure: Some(shorten_message(&chain(error))),
            expired: matches!(error, SyncError::Expired { .. }),
            failures: status.failures.saturating_add(1),
            ..status
        },
    }
}

/// Returns the step of each failure that `before` does not have: a version that failed stays listed until it is retried.
fn new_failures(before: &SyncStatus, outcome: &Result<Vec<(PackName, FailedVersion)>, SyncError>) -> Vec<String> {
    match outcome {
        Ok(failed) => {
            let new =
                failed.iter().filter(|(_, failed)| !failed.is_building()).filter(|one| !before.failed.contains(one));
            new.map(|(_, failed)| failed.step.clone()).collect()
        }
        Err(error) => vec![error.step().to_owned()],
    }
}

/// True if `after` differs from `before` in more than the number of polls, which the launcher records as well.
pub(super) fn has_news(before: &SyncStatus, after: &SyncStatus) -> bool {
    let SyncStatus { polled_at_ms, ref began, succeeded_at_ms, polls, .. } = *after;
    let began = began.clone();
    before.polls == 0 || SyncStatus { polled_at_ms, began, succeeded_at_ms, polls, ..before.clone() } != *after
}

/// Writes the status; without findings where it would be too large for its readers.
pub(super) fn write(store: &Store, status: &SyncStatus) -> Result<(), SyncError> {
    let mut bytes = serde_json::to_vec(status).expect("a status serialises");
    if bytes.len() > MAX_STATUS {
        let mut short = status.clone();
        short.failed.iter_mut().for_each(|(_, failed)| failed.findings.clear());
        bytes = serde_json::to_vec(&short).expect("a status serialises");
    }
    disk::replace(&store.status(), &bytes, 0o644).map_err(SyncError::file("write", store.status()))
}

/// Builds a pack's failure for the status.
pub(super) fn failed(digest: Option<Digest>, failure: PackFailure, at_ms: u64, attempts: u32) -> FailedVersion {
    let PackFailure { step, message, findings } = failure;
    let (step, message) = (step.as_str().to_owned(), shorten_message(&message));
    FailedVersion { version: None, digest, step, message, findings, at_ms, attempts }
}

#[cfg(test)]
mod tests {
    use packs_schema::base::finding::{Finding, Severity};

    use super::super::error::Step;
    use super::*;

    fn failing(packs: usize, text: &str) -> SyncStatus {
        let mut findings = vec![Finding::note("unknown_key", text, text); 150];
        findings.push(Finding::error("entry_point_missing", "actions/a.yaml", text));
        let failure = || PackFailure::with_findings(Step::Check, text, findings.clone());
        let pack = |number| PackName::new(format!("p{number}")).unwrap();
        let failed = (0..packs).map(|number| (pack(number), failed(None, failure(), 1, 1))).collect();
        SyncStatus { polls: 7, failed, ..SyncStatus::default() }
    }

    #[test]
    fn whatever_an_author_wrote_the_status_can_be_read() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("packs")).unwrap();
        let text = "k\u{1}".repeat(1000);
        for (packs, has_findings) in [(1, true), (40, false)] {
            let status = failing(packs, &text);
            assert_eq!(status.failed[0].1.findings[0].severity, Severity::Error, "the gravest are kept");
            write(&store, &status).unwrap();
            let length = std::fs::metadata(store.status()).unwrap().len();
            assert!(length <= MAX_STATUS as u64, "{length}");
            let read = read(&store);
            assert_eq!((read.polls, read.failed.len()), (7, packs));
            assert_eq!(!read.failed[0].1.findings.is_empty(), has_findings);
            assert_eq!(read.failed[0].1.message.chars().count(), 1000);
        }
    }
}

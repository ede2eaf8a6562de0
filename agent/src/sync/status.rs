//! `.status.json`: result of the last poll, for the api and for people.

use packs_schema::agent::rest::{FailedVersion, SyncStatus};
use packs_schema::base::name::{Digest, PackName};

use super::disk;
use super::error::{PackFailure, SyncError, chain};
use super::store::Store;

/// Maximum size of the file, in bytes.
const MAX_STATUS: u64 = 4 << 20;
/// Maximum length of a failure's message, in characters.
const MAX_MESSAGE: usize = 1000;
/// Maximum number of findings of a failed version.
const MAX_FINDINGS: usize = 100;

/// Reads the status of the previous poll; an empty one if there was none or it cannot be read.
pub(super) fn read(store: &Store) -> SyncStatus {
    let bytes = disk::read_if_there(&store.status(), MAX_STATUS).ok().flatten();
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
            failure: Some(shorten(&chain(error))),
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

/// Writes the status.
pub(super) fn write(store: &Store, status: &SyncStatus) -> Result<(), SyncError> {
    let bytes = serde_json::to_vec(status).expect("a status serialises");
    disk::replace(&store.status(), &bytes, 0o644).map_err(SyncError::file("write", store.status()))
}

/// Builds a pack's failure for the status.
pub(super) fn failed(digest: Option<Digest>, failure: PackFailure, at_ms: u64, attempts: u32) -> FailedVersion {
    let PackFailure { step, message, mut findings } = failure;
    findings.truncate(MAX_FINDINGS);
    let (step, message) = (step.as_str().to_owned(), shorten(&message));
    FailedVersion { version: None, digest, step, message, findings, at_ms, attempts }
}

/// Shortens to one line of bounded length, without control characters.
fn shorten(message: &str) -> String {
    message.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

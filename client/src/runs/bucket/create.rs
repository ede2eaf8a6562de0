//! Creation of objects that no client may overwrite.

use std::time::Duration;

use bolt_aws::{BucketError, Etag, Problem};

use super::super::StoreError;
use super::Shared;

/// Number of attempts to create an object that another request may be creating, and the pause between them.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Result of a conditional creation.
pub(super) enum Created {
    /// The object has the content that was to be written.
    Own(Etag),
    /// The object has another content.
    Taken,
}

/// Creates an object; also tells an own object, whose answer was lost, from another client's.
pub(super) async fn create_own(shared: &Shared, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
    let mut is_skewed = false;
    for _ in 0..ATTEMPTS {
        let bucket = shared.bucket().await?;
        let error = match bucket.create(name, bytes).await {
            Ok(etag) => return Ok(Created::Own(etag.ok_or_else(|| no_state(shared, name))?)),
            Err(error) => error,
        };
        if !matches!(error.problem, Problem::Conflict) {
            if shared.has_lost_the_time(&error) && !is_skewed {
                is_skewed = true;
                continue;
            }
            return Err(shared.failed(error));
        }
        // The bucket answers a conflict also while an earlier attempt of this client is still being written.
        match bucket.get(name, None, u64::MAX).await {
            Ok(_) => return Ok(Created::Taken),
            Err(BucketError { problem: Problem::Missing, .. }) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(shared.failed(error)),
        }
    }
    let problem = "the bucket answers a conflict".to_owned();
    Err(StoreError::Io { verb: "write", what: shared.address(name), problem })
}

/// Returns the error for a bucket without conditional writes.
pub(super) fn no_state(shared: &Shared, name: &str) -> StoreError {
    StoreError::Io {
        verb: "use",
        what: shared.address(name),
        problem: "the bucket gives its objects no ETag".to_owned(),
    }
}

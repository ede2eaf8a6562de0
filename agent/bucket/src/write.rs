//! Writes that never take the place of what somebody else has written.
//!
//! A request whose answer was lost is sent again, and then finds its own object there: what is there already with the
//! same content counts as written.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;

use crate::{Bucket, BucketError, Etag, Problem, times};

/// The least speed that an upload is given time for, in bytes per second.
const LEAST_SPEED: u64 = 64 << 10;

/// On which condition an object is written.
#[derive(Debug, Clone, Copy)]
enum Condition<'a> {
    /// There is none.
    Absent,
    /// It is still this.
    Still(&'a Etag),
}

impl Bucket {
    /// Writes an object that is not there yet. [`Problem::Raced`] when another content is.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
        self.put(name, bytes, Condition::Absent).await
    }

    /// Writes an object in place of the state `etag`. [`Problem::Raced`] when it is in another state.
    pub async fn replace(&self, name: &str, bytes: &[u8], etag: &Etag) -> Result<(), BucketError> {
        self.put(name, bytes, Condition::Still(etag)).await
    }

    async fn put(&self, name: &str, bytes: &[u8], condition: Condition<'_>) -> Result<(), BucketError> {
        let request = self.client.put_object().bucket(self.url.bucket()).key(self.url.key(name));
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Still(etag) => request.if_match(etag.as_str()),
        };
        let kind = if name.ends_with(".json") { "application/json" } else { "application/gzip" };
        let request = request.content_type(kind).body(ByteStream::from(bytes.to_vec()));
        let time = self.patience.saturating_add(Duration::from_secs(bytes.len() as u64 / LEAST_SPEED));
        let config = aws_sdk_s3::config::Builder::new().timeout_config(times(self.patience, time));
        match request.customize().config_override(config).send().await.map_err(Problem::of) {
            Ok(_) => Ok(()),
            Err(Problem::Raced) if self.holds(name, bytes).await? => Ok(()),
            // Of an object with a condition on its state: it is gone.
            Err(Problem::Missing) => Err(self.failed("write", name, Problem::Raced)),
            Err(problem) => Err(self.failed("write", name, problem)),
        }
    }

    async fn holds(&self, name: &str, bytes: &[u8]) -> Result<bool, BucketError> {
        match self.read(name, bytes.len() as u64).await {
            Ok(found) => Ok(found.is_some_and(|(found, _)| found == bytes)),
            Err(BucketError { problem: Problem::TooLarge(_), .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

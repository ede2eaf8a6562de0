//! Reads of objects: conditional requests, chunk by chunk within limits, with resumption of broken bodies.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use bytes::Bytes;
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::error::{BucketError, Problem, deepest};
use crate::sdk::INITIAL_BACKOFF;

/// Maximum length of an `ETag`, in bytes.
const MAX_ETAG: usize = 256;
/// Maximum number of resumptions of one body.
const MAX_RESUMES: u32 = 3;
/// Minimum average speed once the time-out has passed, in bytes per second.
const MIN_SPEED: u64 = 32 << 10;

/// Identifier of the state of an object, chosen by the bucket. Equality means "unchanged", but proves nothing about the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// Parses the header of an answer; `None` when it cannot be sent in a request.
    pub fn new(text: &str) -> Option<Etag> {
        let valid = !text.is_empty() && text.len() <= MAX_ETAG && text.bytes().all(|b| b.is_ascii_graphic());
        valid.then(|| Etag(text.to_owned()))
    }

    /// Returns the value of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Result of a conditional request.
#[derive(Debug)]
pub enum Fetched {
    /// The object is unchanged; nothing was transferred.
    Unchanged,
    /// The object has changed.
    Object(Box<Object>),
}

/// An object that is being read.
#[derive(Debug)]
pub struct Object {
    bucket: Bucket,
    name: String,
    etag: Option<Etag>,
    modified_ms: Option<u64>,
    body: ByteStream,
    /// Length according to the bucket: a shorter body was truncated.
    length: Option<u64>,
    received: u64,
    max: u64,
    started: Instant,
    resumes: u32,
}

impl Bucket {
    /// Fetches the object `name` of the repository, at most `max` bytes, unless its state is still `unless`.
    pub async fn get(&self, name: &str, unless: Option<&Etag>, max: u64) -> Result<Fetched, BucketError> {
        let request = self.client.get_object().bucket(self.url.bucket()).key(self.url.key(name));
        let request = request.set_if_none_match(unless.map(|etag| etag.0.clone()));
        let output = match request.send().await {
            Ok(output) => output,
            Err(error) if is_unchanged(&error) && unless.is_some() => return Ok(Fetched::Unchanged),
            Err(error) => return Err(self.failed("read", name, Problem::of(error))),
        };
        let length = output.content_length.and_then(|length| u64::try_from(length).ok());
        if length.is_some_and(|length| length > max) {
            return Err(self.failed("read", name, Problem::TooLarge(max)));
        }
        Ok(Fetched::Object(Box::new(Object {
            bucket: self.clone(),
            name: name.to_owned(),
            etag: output.e_tag.as_deref().and_then(Etag::new),
            modified_ms: output.last_modified.and_then(|at| u64::try_from(at.to_millis().ok()?).ok()),
            body: output.body,
            length,
            received: 0,
            max,
            started: Instant::now(),
            resumes: 0,
        })))
    }

    /// Reads an object of at most `max` bytes; `None` when it does not exist.
    pub async fn read(&self, name: &str, max: u64) -> Result<Option<(Vec<u8>, Option<Etag>)>, BucketError> {
        Ok(self.read_dated(name, max).await?.map(|(bytes, object)| (bytes, object.etag)))
    }

    /// Reads an object like [`Bucket::read`]; the second value has its state and its time.
    pub async fn read_dated(&self, name: &str, max: u64) -> Result<Option<(Vec<u8>, Box<Object>)>, BucketError> {
        let mut object = match self.get(name, None, max).await {
            Ok(Fetched::Object(object)) => object,
            Ok(Fetched::Unchanged) | Err(BucketError { problem: Problem::Missing, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = object.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some((bytes, object)))
    }

    /// Returns true if the repository contains no object.
    pub async fn is_empty(&self) -> Result<bool, BucketError> {
        let prefix = self.url.key("");
        let request = self.client.list_objects_v2().bucket(self.url.bucket()).prefix(prefix).max_keys(1);
        let listed = request.send().await.map_err(|error| self.failed("list", "", Problem::of(error)))?;
        Ok(listed.contents().is_empty())
    }
}

impl Object {
    /// Returns the `ETag` of the state that is being read.
    pub fn etag(&self) -> Option<&Etag> {
        self.etag.as_ref()
    }

    /// Returns the time of the last write by the bucket's clock, in milliseconds since 1970.
    pub fn modified_ms(&self) -> Option<u64> {
        self.modified_ms
    }

    /// Returns the next chunk; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        loop {
            match self.next_chunk().await {
                Ok(chunk) => return Ok(chunk),
                Err(problem) => self.resume(problem).await?,
            }
        }
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        let timeout = self.bucket.timeout;
        let chunk = match tokio::time::timeout(timeout, self.body.next()).await {
            Err(_) => return Err(Problem::NoData(timeout)),
            Ok(Some(Err(error))) => return Err(Problem::Truncated { received: self.received, why: deepest(&error) }),
            Ok(None) if self.length.is_some_and(|length| self.received < length) => {
                return Err(Problem::Truncated { received: self.received, why: "the connection ended".to_owned() });
            }
            Ok(None) => return Ok(None),
            Ok(Some(Ok(chunk))) => chunk,
        };
        self.received = self.received.saturating_add(chunk.len() as u64);
        if self.received > self.max {
            return Err(Problem::TooLarge(self.max));
        }
        let elapsed = self.started.elapsed();
        let measured = elapsed.saturating_sub(timeout);
        if !measured.is_zero() && self.received < measured.as_secs().saturating_mul(MIN_SPEED).max(1) {
            return Err(Problem::TooSlow { received: self.received, after: Duration::from_secs(elapsed.as_secs()) });
        }
        Ok(Some(chunk))
    }

    /// Resumes a broken body: requests the same state of the object from the first byte that is missing.
    async fn resume(&mut self, problem: Problem) -> Result<(), BucketError> {
        let failed = |problem| self.bucket.failed("read", &self.name, problem);
        let is_broken = matches!(problem, Problem::Truncated { .. } | Problem::NoData(_));
        let (true, Some(etag), true) = (is_broken, &self.etag, self.resumes < MAX_RESUMES) else {
            return Err(failed(problem));
        };
        tokio::time::sleep(backoff(self.resumes)).await;
        self.resumes += 1;
        tracing::debug!(object = %self.name, received = self.received, %problem, "resuming a broken body");
        let (bucket, key) = (self.bucket.url.bucket(), self.bucket.url.key(&self.name));
        let request = self.bucket.client.get_object().bucket(bucket).key(key).if_match(&etag.0);
        let output = request.range(format!("bytes={}-", self.received)).send().await;
        // The first problem is more useful than the failed resumption.
        let Ok(output) = output else { return Err(failed(problem)) };
        let from = output.content_range.as_deref().and_then(first_byte);
        if from != Some(self.received) {
            return Err(failed(problem));
        }
        self.body = output.body;
        Ok(())
    }
}

/// Returns a random backoff (full jitter), so that instances that failed at the same time do not retry at the same time.
fn backoff(attempt: u32) -> Duration {
    let max = INITIAL_BACKOFF.saturating_mul(1 << attempt.min(8));
    let per_mille = RandomState::new().hash_one(attempt) % 1001;
    max.saturating_mul(u32::try_from(per_mille).unwrap_or(1000)) / 1000
}

/// Parses the first byte of a `Content-Range` header such as `bytes 100-199/200`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Returns true for the status 304, which the SDK reports as an error.
fn is_unchanged(error: &SdkError<GetObjectError, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 304)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_that_cannot_be_sent_is_refused() {
        assert_eq!(Etag::new("\"abc-3\"").unwrap().as_str(), "\"abc-3\"");
        for wrong in ["", "a b", "a\r\nb", &"x".repeat(MAX_ETAG + 1)] {
            assert_eq!(Etag::new(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn backoffs_are_random_below_a_doubling_bound() {
        for attempt in 0..40 {
            assert!(backoff(attempt) <= INITIAL_BACKOFF * (1 << attempt.min(8)), "{attempt}");
        }
        let drawn: std::collections::HashSet<Duration> = (0..50).map(|_| backoff(3)).collect();
        assert!(drawn.len() > 10, "{drawn:?}");
    }

    #[test]
    fn the_first_byte_of_a_range_is_parsed() {
        assert_eq!(first_byte("bytes 100-199/200"), Some(100));
        assert_eq!([first_byte("bytes */200"), first_byte(""), first_byte("bytes x-1/2")], [None; 3]);
    }
}

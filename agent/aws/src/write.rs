//! Conditional writes, which never overwrite the object of another writer.
//!
//! Idempotent: a request whose answer was lost is retried and then finds its own object. An existing object with the same content
//! counts as written.

use std::io;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;

use crate::bucket::Bucket;
use crate::error::{BucketError, Problem};
use crate::read::{Etag, Fetched};
use crate::sdk::timeout_config;
use crate::upload::Upload;

/// Minimum speed of an upload, from which its time-out is computed, in bytes per second.
const MIN_SPEED: u64 = 64 << 10;

/// Condition of a write.
#[derive(Debug, Clone, Copy)]
enum Condition<'a> {
    /// The object does not exist.
    Absent,
    /// The object is in this state.
    InState(&'a Etag),
}

/// Content of an object.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Bytes(&'a [u8]),
    /// A file that is read while it is sent.
    File(&'a Upload),
}

impl Content<'_> {
    fn length(self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(upload) => upload.length(),
        }
    }

    fn body(self) -> ByteStream {
        match self {
            Content::Bytes(bytes) => ByteStream::from(bytes.to_vec()),
            Content::File(upload) => ByteStream::new(upload.body()),
        }
    }

    /// Returns true if the content has `chunk` at `position`.
    fn has_chunk(self, position: u64, chunk: &[u8]) -> io::Result<bool> {
        match self {
            Content::Bytes(bytes) => {
                let rest = usize::try_from(position).ok().and_then(|position| bytes.get(position..));
                Ok(rest.is_some_and(|rest| rest.starts_with(chunk)))
            }
            Content::File(upload) => upload.has_chunk(position, chunk),
        }
    }
}

impl Bucket {
    /// Creates an object and returns its state. Fails with [`Problem::Conflict`] when it exists with another content.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<Option<Etag>, BucketError> {
        self.put(name, Content::Bytes(bytes), Condition::Absent).await
    }

    /// Creates an object from a file, which is not read into memory as a whole; see [`create`](Self::create).
    pub async fn create_from(&self, name: &str, upload: &Upload) -> Result<Option<Etag>, BucketError> {
        self.put(name, Content::File(upload), Condition::Absent).await
    }

    /// Replaces the state `etag` of an object and returns the new one. Fails with [`Problem::Conflict`] when it is in another
    /// state.
    pub async fn replace(&self, name: &str, bytes: &[u8], etag: &Etag) -> Result<Option<Etag>, BucketError> {
        self.put(name, Content::Bytes(bytes), Condition::InState(etag)).await
    }

    async fn put(
        &self,
        name: &str,
        content: Content<'_>,
        condition: Condition<'_>,
    ) -> Result<Option<Etag>, BucketError> {
        let request = self.client.put_object().bucket(self.url.bucket()).key(self.url.key(name));
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::InState(etag) => request.if_match(etag.as_str()),
        };
        let media_type = if name.ends_with(".json") { "application/json" } else { "application/gzip" };
        let request = request.content_type(media_type).body(content.body());
        let attempt = self.timeout.saturating_add(Duration::from_secs(content.length() / MIN_SPEED));
        let config = aws_sdk_s3::config::Builder::new().timeout_config(timeout_config(self.timeout, attempt));
        let request = request.customize().config_override(config);
        let request = match content {
            Content::Bytes(_) => request,
            Content::File(upload) => request.interceptor(upload.signing()),
        };
        match request.send().await.map_err(Problem::of) {
            Ok(output) => Ok(output.e_tag.as_deref().and_then(Etag::new)),
            Err(Problem::Conflict) => match self.find_own(name, content).await? {
                Some(etag) => Ok(etag),
                None => Err(self.failed("write", name, Problem::Conflict)),
            },
            // The object whose state was the condition was removed.
            Err(Problem::Missing) => Err(self.failed("write", name, Problem::Conflict)),
            Err(problem) => Err(self.failed("write", name, problem)),
        }
    }

    /// Returns the state of an object if it has this content.
    async fn find_own(&self, name: &str, content: Content<'_>) -> Result<Option<Option<Etag>>, BucketError> {
        match self.compare(name, content).await {
            Err(BucketError { problem: Problem::TooLarge(_) | Problem::Missing, .. }) => Ok(None),
            compared => compared,
        }
    }

    /// Compares an object with `content`, chunk by chunk. Returns its state if they are equal.
    async fn compare(&self, name: &str, content: Content<'_>) -> Result<Option<Option<Etag>>, BucketError> {
        let Fetched::Object(mut object) = self.get(name, None, content.length()).await? else { return Ok(None) };
        let mut position = 0;
        while let Some(chunk) = object.next().await? {
            let unreadable = |error| Problem::Request(format!("cannot read the file to upload: {error}"));
            let same =
                content.has_chunk(position, &chunk).map_err(|error| self.failed("write", name, unreadable(error)))?;
            if !same {
                return Ok(None);
            }
            position += chunk.len() as u64;
        }
        Ok((position == content.length()).then(|| object.etag().cloned()))
    }
}

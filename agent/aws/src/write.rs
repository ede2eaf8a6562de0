//! Writes that never take the place of what somebody else has written.
//!
//! A request whose answer was lost is sent again, and then finds its own object there: what is there already with the
//! same content counts as written.

use std::io;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;

use crate::{Bucket, BucketError, Etag, Got, Problem, Upload, times};

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

/// Content of an object.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Bytes(&'a [u8]),
    /// A file, which is read while it is sent.
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

    /// True if `piece` is at `position` of it.
    fn holds(self, position: u64, piece: &[u8]) -> io::Result<bool> {
        match self {
            Content::Bytes(bytes) => {
                let rest = usize::try_from(position).ok().and_then(|position| bytes.get(position..));
                Ok(rest.is_some_and(|rest| rest.starts_with(piece)))
            }
            Content::File(upload) => upload.holds(position, piece),
        }
    }
}

impl Bucket {
    /// Writes an object that is not there yet. [`Problem::Raced`] when another content is.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
        self.put(name, Content::Bytes(bytes), Condition::Absent).await
    }

    /// The same with the content of a file, which is not kept in memory.
    pub async fn create_from(&self, name: &str, upload: &Upload) -> Result<(), BucketError> {
        self.put(name, Content::File(upload), Condition::Absent).await
    }

    /// Writes an object in place of the state `etag`. [`Problem::Raced`] when it is in another state.
    pub async fn replace(&self, name: &str, bytes: &[u8], etag: &Etag) -> Result<(), BucketError> {
        self.put(name, Content::Bytes(bytes), Condition::Still(etag)).await
    }

    async fn put(&self, name: &str, content: Content<'_>, condition: Condition<'_>) -> Result<(), BucketError> {
        let request = self.client.put_object().bucket(self.url.bucket()).key(self.url.key(name));
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Still(etag) => request.if_match(etag.as_str()),
        };
        let kind = if name.ends_with(".json") { "application/json" } else { "application/gzip" };
        let request = request.content_type(kind).body(content.body());
        let time = self.patience.saturating_add(Duration::from_secs(content.length() / LEAST_SPEED));
        let config = aws_sdk_s3::config::Builder::new().timeout_config(times(self.patience, time));
        let request = request.customize().config_override(config);
        let request = match content {
            Content::Bytes(_) => request,
            Content::File(upload) => request.interceptor(upload.signed()),
        };
        match request.send().await.map_err(Problem::of) {
            Ok(_) => Ok(()),
            Err(Problem::Raced) if self.holds(name, content).await? => Ok(()),
            // Of an object with a condition on its state: it is gone.
            Err(Problem::Missing) => Err(self.failed("write", name, Problem::Raced)),
            Err(problem) => Err(self.failed("write", name, problem)),
        }
    }

    /// True if an object has this content.
    async fn holds(&self, name: &str, content: Content<'_>) -> Result<bool, BucketError> {
        match self.compare(name, content).await {
            Err(BucketError { problem: Problem::TooLarge(_) | Problem::Missing, .. }) => Ok(false),
            compared => compared,
        }
    }

    /// Compares an object with `content`, piece by piece.
    async fn compare(&self, name: &str, content: Content<'_>) -> Result<bool, BucketError> {
        let Got::Object(mut object) = self.get(name, None, content.length()).await? else { return Ok(false) };
        let mut position = 0;
        while let Some(piece) = object.next().await? {
            let unreadable = |error| Problem::Request(format!("the file to upload cannot be read: {error}"));
            let same =
                content.holds(position, &piece).map_err(|error| self.failed("write", name, unreadable(error)))?;
            if !same {
                return Ok(false);
            }
            position += piece.len() as u64;
        }
        Ok(position == content.length())
    }
}

//! One object, read: asked for on a condition, and then piece by piece within bounds.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use bytes::Bytes;
use tokio::time::Instant;

use crate::error::deepest;
use crate::{Bucket, BucketError, FIRST_PAUSE, Problem};

/// The longest `ETag` that is kept, in bytes.
const MAX_ETAG: usize = 256;
/// How often a body that breaks goes on where it broke.
const MAX_RESUMES: u32 = 3;
/// After the patience is over, what has come must have come at least at this speed, in bytes per second.
const LEAST_SPEED: u64 = 32 << 10;

/// What a bucket calls one state of an object. It says that nothing changed, and nothing of what the content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// As it stood in an answer; `None` when it is not one that can be sent back.
    pub fn new(text: &str) -> Option<Etag> {
        let fits = !text.is_empty() && text.len() <= MAX_ETAG && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Etag(text.to_owned()))
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The answer to a conditional request.
#[derive(Debug)]
pub enum Got {
    /// It is as it was: nothing was transferred.
    Unchanged,
    /// It is this.
    Object(Box<Object>),
}

/// An object that is being read.
#[derive(Debug)]
pub struct Object {
    bucket: Bucket,
    name: String,
    etag: Option<Etag>,
    body: ByteStream,
    /// What the bucket says that it has; not believed, but less is a body that was cut off.
    length: Option<u64>,
    received: u64,
    max: u64,
    began: Instant,
    resumes: u32,
}

impl Bucket {
    /// Asks for what is called `name` below the prefix, unless it is still `unless`; at most `max` bytes of it.
    pub async fn get(&self, name: &str, unless: Option<&Etag>, max: u64) -> Result<Got, BucketError> {
        let request = self.client.get_object().bucket(self.url.bucket()).key(self.url.key(name));
        let request = request.set_if_none_match(unless.map(|etag| etag.0.clone()));
        let output = match request.send().await {
            Ok(output) => output,
            Err(error) if is_unchanged(&error) && unless.is_some() => return Ok(Got::Unchanged),
            Err(error) => return Err(self.failed("read", name, Problem::of(error))),
        };
        let length = output.content_length.and_then(|length| u64::try_from(length).ok());
        if length.is_some_and(|length| length > max) {
            return Err(self.failed("read", name, Problem::TooLarge(max)));
        }
        Ok(Got::Object(Box::new(Object {
            bucket: self.clone(),
            name: name.to_owned(),
            etag: output.e_tag.as_deref().and_then(Etag::new),
            body: output.body,
            length,
            received: 0,
            max,
            began: Instant::now(),
            resumes: 0,
        })))
    }

    /// The whole of an object of at most `max` bytes; `None` when there is none.
    pub async fn read(&self, name: &str, max: u64) -> Result<Option<(Vec<u8>, Option<Etag>)>, BucketError> {
        let mut object = match self.get(name, None, max).await {
            Ok(Got::Object(object)) => object,
            Ok(Got::Unchanged) | Err(BucketError { problem: Problem::Missing, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        while let Some(piece) = object.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(Some((bytes, object.etag)))
    }

    /// True if there is nothing below the prefix.
    pub async fn is_empty(&self) -> Result<bool, BucketError> {
        let prefix = self.url.key("");
        let request = self.client.list_objects_v2().bucket(self.url.bucket()).prefix(prefix).max_keys(1);
        let listed = request.send().await.map_err(|error| self.failed("list", "", Problem::of(error)))?;
        Ok(listed.contents().is_empty())
    }
}

impl Object {
    /// What the bucket calls the state that is read.
    pub fn etag(&self) -> Option<&Etag> {
        self.etag.as_ref()
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        loop {
            match self.piece().await {
                Ok(piece) => return Ok(piece),
                Err(problem) => self.resume(problem).await?,
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        let patience = self.bucket.patience;
        let piece = match tokio::time::timeout(patience, self.body.next()).await {
            Err(_) => return Err(Problem::Silent(patience)),
            Ok(Some(Err(error))) => return Err(Problem::Cut { received: self.received, why: deepest(&error) }),
            Ok(None) if self.length.is_some_and(|length| self.received < length) => {
                return Err(Problem::Cut { received: self.received, why: "the connection ended".to_owned() });
            }
            Ok(None) => return Ok(None),
            Ok(Some(Ok(piece))) => piece,
        };
        self.received = self.received.saturating_add(piece.len() as u64);
        if self.received > self.max {
            return Err(Problem::TooLarge(self.max));
        }
        let after = self.began.elapsed();
        let late = after.saturating_sub(patience);
        if !late.is_zero() && self.received < late.as_secs().saturating_mul(LEAST_SPEED).max(1) {
            return Err(Problem::Slow { received: self.received, after: Duration::from_secs(after.as_secs()) });
        }
        Ok(Some(piece))
    }

    /// Goes on where the body broke: the same object, from the byte after the last that came.
    async fn resume(&mut self, problem: Problem) -> Result<(), BucketError> {
        let failed = |problem| self.bucket.failed("read", &self.name, problem);
        let broke = matches!(problem, Problem::Cut { .. } | Problem::Silent(_));
        let (true, Some(etag), true) = (broke, &self.etag, self.resumes < MAX_RESUMES) else {
            return Err(failed(problem));
        };
        tokio::time::sleep(pause(self.resumes)).await;
        self.resumes += 1;
        tracing::debug!(object = %self.name, received = self.received, %problem, "goes on where it broke");
        let (bucket, key) = (self.bucket.url.bucket(), self.bucket.url.key(&self.name));
        let request = self.bucket.client.get_object().bucket(bucket).key(key).if_match(&etag.0);
        let output = request.range(format!("bytes={}-", self.received)).send().await;
        // What first went wrong says more than that it could not be mended.
        let Ok(output) = output else { return Err(failed(problem)) };
        let from = output.content_range.as_deref().and_then(first_byte);
        if from != Some(self.received) {
            return Err(failed(problem));
        }
        self.body = output.body;
        Ok(())
    }
}

/// A pause drawn at random, so that many instances that broke off together do not come back together.
fn pause(attempt: u32) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << attempt.min(8));
    let drawn = RandomState::new().hash_one(attempt) % 1001;
    most.saturating_mul(u32::try_from(drawn).unwrap_or(1000)) / 1000
}

/// From where a part is: `bytes 100-199/200`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// The SDK takes 304 for an error.
fn is_unchanged(error: &SdkError<GetObjectError, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 304)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_what_can_be_sent_back() {
        assert_eq!(Etag::new("\"abc-3\"").unwrap().as_str(), "\"abc-3\"");
        for wrong in ["", "a b", "a\r\nb", &"x".repeat(MAX_ETAG + 1)] {
            assert_eq!(Etag::new(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn pauses_double_and_are_drawn_below_that() {
        for attempt in 0..40 {
            assert!(pause(attempt) <= FIRST_PAUSE * (1 << attempt.min(8)), "{attempt}");
        }
        let drawn: std::collections::HashSet<Duration> = (0..50).map(|_| pause(3)).collect();
        assert!(drawn.len() > 10, "{drawn:?}");
    }

    #[test]
    fn a_part_says_where_it_begins() {
        assert_eq!(first_byte("bytes 100-199/200"), Some(100));
        assert_eq!([first_byte("bytes */200"), first_byte(""), first_byte("bytes x-1/2")], [None; 3]);
    }
}

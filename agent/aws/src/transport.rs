//! What tough reads a repository in a bucket with.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use crate::{Bucket, BucketError, Got, Object, Problem};

/// The most pieces that wait to be taken, of some 64 KiB each.
const MAX_WAITING: usize = 2;

/// Reads `s3://bucket/prefix/…` for tough.
#[derive(Debug, Clone)]
pub struct BucketTransport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bucket: Bucket,
    base: Url,
    max_metadata: u64,
    max_target: u64,
}

impl BucketTransport {
    pub(crate) fn new(bucket: Bucket, max_metadata: u64, max_target: u64) -> BucketTransport {
        let base = Url::parse(&format!("{}/", bucket.url())).expect("a checked address is one");
        BucketTransport { inner: Arc::new(Inner { bucket, base, max_metadata, max_target }) }
    }

    /// What it reads from.
    pub fn bucket(&self) -> &Bucket {
        &self.inner.bucket
    }

    /// The addresses of metadata and of targets.
    pub fn addresses(&self) -> (Url, Url) {
        let join = |part: &str| self.inner.base.join(part).expect("a fixed path joins");
        (join("metadata/"), join("targets/"))
    }

    async fn open(&self, url: &Url) -> Result<Box<Object>, TransportError> {
        let Inner { bucket, base, max_metadata, max_target } = &*self.inner;
        let unsupported = || TransportError::new(TransportErrorKind::UnsupportedUrlScheme, url.as_str());
        let name = url.as_str().strip_prefix(base.as_str()).ok_or_else(unsupported)?;
        let name = percent_decoded(name).ok_or_else(unsupported)?;
        let max = if name.starts_with("targets/") { *max_target } else { *max_metadata };
        match bucket.get(&name, None, max).await {
            Ok(Got::Object(object)) => Ok(object),
            Ok(Got::Unchanged) => Err(TransportError::new(TransportErrorKind::Other, url.as_str())),
            Err(error) => Err(to_tough(url, error)),
        }
    }
}

#[async_trait]
impl Transport for BucketTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let mut object = self.open(&url).await?;
        // tough wants a stream that threads may share, which the SDK's bodies and futures are not: a task reads ahead, by so
        // many pieces. It ends when the stream is dropped.
        let (sender, receiver) = mpsc::channel::<Result<Bytes, TransportError>>(MAX_WAITING);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = object.next() => next,
                    () = sender.closed() => return,
                };
                let (sent, last) = match next {
                    Ok(Some(piece)) => (Ok(piece), false),
                    Ok(None) => return,
                    Err(error) => (Err(to_tough(&url, error)), true),
                };
                if sender.send(sent).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Box::pin(futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|piece| (piece, receiver))
        })))
    }
}

fn to_tough(url: &Url, error: BucketError) -> TransportError {
    let kind = match &error.problem {
        Problem::Missing => TransportErrorKind::FileNotFound,
        // Without leave to list the bucket S3 says this of what is not there. That there is no newer root is all that tough
        // concludes from it, and what may withhold a root may do so anyway.
        Problem::Denied(_) if url.path().ends_with(".root.json") => TransportErrorKind::FileNotFound,
        _ => TransportErrorKind::Other,
    };
    TransportError::new_with_cause(kind, url.as_str(), error)
}

/// tough encodes the names of targets for an address; the key is what they were.
fn percent_decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_the_target_was_called() {
        assert_eq!(
            percent_decoded("targets/packs/a%2Bb/1.0.0.tar.gz").as_deref(),
            Some("targets/packs/a+b/1.0.0.tar.gz")
        );
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }
}

//! Transport through which tough reads a repository in a bucket.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use crate::bucket::Bucket;
use crate::error::{BucketError, Problem};
use crate::percent;
use crate::read::{Fetched, Object};

/// Maximum number of chunks that are read ahead, of about 64 KiB each.
const MAX_READ_AHEAD: usize = 2;

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

impl Bucket {
    /// Returns the transport for tough, with the maximum sizes of metadata and target files in bytes.
    pub fn transport(&self, max_metadata: u64, max_target: u64) -> BucketTransport {
        BucketTransport::new(self.clone(), max_metadata, max_target)
    }
}

impl BucketTransport {
    fn new(bucket: Bucket, max_metadata: u64, max_target: u64) -> BucketTransport {
        let base = Url::parse(&format!("{}/", bucket.url())).expect("a checked address is valid");
        BucketTransport { inner: Arc::new(Inner { bucket, base, max_metadata, max_target }) }
    }

    /// Returns the bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.inner.bucket
    }

    /// Returns the base addresses of metadata and of targets.
    pub fn addresses(&self) -> (Url, Url) {
        let join = |part: &str| self.inner.base.join(part).expect("a fixed path joins");
        (join("metadata/"), join("targets/"))
    }

    async fn open(&self, url: &Url) -> Result<Box<Object>, TransportError> {
        let Inner { bucket, base, max_metadata, max_target } = &*self.inner;
        let unsupported = || TransportError::new(TransportErrorKind::UnsupportedUrlScheme, url.as_str());
        let name = url.as_str().strip_prefix(base.as_str()).ok_or_else(unsupported)?;
        // tough percent-encodes names in addresses.
        let name = percent::decoded(name).ok_or_else(unsupported)?;
        let max = if name.starts_with("targets/") { *max_target } else { *max_metadata };
        match bucket.get(&name, None, max).await {
            Ok(Fetched::Object(object)) => Ok(object),
            Ok(Fetched::Unchanged) => Err(TransportError::new(TransportErrorKind::Other, url.as_str())),
            Err(error) => Err(to_tough(url, error)),
        }
    }
}

#[async_trait]
impl Transport for BucketTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let mut object = self.open(&url).await?;
        // tough requires a `Sync` stream, which the SDK's bodies and futures are not: a task reads the chunks and ends when the
        // stream is dropped.
        let (sender, receiver) = mpsc::channel::<Result<Bytes, TransportError>>(MAX_READ_AHEAD);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = object.next() => next,
                    () = sender.closed() => return,
                };
                let (sent, last) = match next {
                    Ok(Some(chunk)) => (Ok(chunk), false),
                    Ok(None) => return,
                    Err(error) => (Err(to_tough(&url, error)), true),
                };
                if sender.send(sent).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Box::pin(futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        })))
    }
}

fn to_tough(url: &Url, error: BucketError) -> TransportError {
    let kind = match &error.problem {
        Problem::Missing => TransportErrorKind::FileNotFound,
        // Without permission to list the bucket, S3 denies access to objects that do not exist. tough concludes only that there is no
        // newer root, and a bucket that withholds a root could answer 404 as well.
        Problem::Denied(_) if url.path().ends_with(".root.json") => TransportErrorKind::FileNotFound,
        _ => TransportErrorKind::Other,
    };
    TransportError::new_with_cause(kind, url.as_str(), error)
}

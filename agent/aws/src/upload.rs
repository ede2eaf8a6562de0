//! A file as the body of an upload: read in chunks while it is sent, and again from its start for every attempt.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeSerializationInterceptorContextRef;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Size of a chunk, in bytes.
const CHUNK: usize = 64 << 10;

/// A file to upload, which must not change meanwhile. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upload {
    file: Arc<File>,
    length: u64,
    sha256: String,
}

impl Upload {
    /// Describes the first `length` bytes of `file` with their SHA-256 in lower-case hexadecimal digits. Requests are signed with the
    /// digest, so that the bucket refuses any other content.
    pub fn new(file: Arc<File>, length: u64, sha256: impl Into<String>) -> Upload {
        Upload { file, length, sha256: sha256.into() }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the body of a request, which can be retried.
    pub(crate) fn body(&self) -> SdkBody {
        let upload = self.clone();
        SdkBody::retryable(move || SdkBody::from_body_1_x(FileBody { upload: upload.clone(), position: 0 }))
    }

    /// Returns an interceptor that signs requests with the known digest: the SDK alone does not sign a body that is not in memory.
    pub(crate) fn signing(&self) -> PayloadDigest {
        PayloadDigest(self.sha256.clone())
    }

    /// Returns true if the file has `chunk` at `position`.
    pub(crate) fn has_chunk(&self, position: u64, chunk: &[u8]) -> io::Result<bool> {
        if position.saturating_add(chunk.len() as u64) > self.length {
            return Ok(false);
        }
        let mut own = vec![0; chunk.len()];
        self.file.read_exact_at(&mut own, position)?;
        Ok(own == chunk)
    }
}

/// The file as an HTTP body.
#[derive(Debug)]
struct FileBody {
    upload: Upload,
    position: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let left = self.upload.length - self.position;
        if left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        Poll::Ready(Some(self.upload.file.read_exact_at(&mut chunk, self.position).map(|()| {
            self.position += chunk.len() as u64;
            Frame::data(chunk.into())
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.position == self.upload.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.upload.length - self.position)
    }
}

/// Signs requests with this SHA-256 of the body.
#[derive(Debug)]
pub(crate) struct PayloadDigest(String);

impl Intercept for PayloadDigest {
    fn name(&self) -> &'static str {
        "PayloadDigest"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

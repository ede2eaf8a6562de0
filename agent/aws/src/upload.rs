//! A file as the body of an upload: read in pieces while it is sent, and from its start again for every attempt.

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

/// The size of a piece, in bytes.
const PIECE: usize = 64 << 10;

/// A file to upload, which nobody changes meanwhile. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upload {
    file: Arc<File>,
    length: u64,
    sha256: String,
}

impl Upload {
    /// The first `length` bytes of `file`, with their SHA-256 in lower-case hexadecimal digits: requests are signed with it, so that
    /// the bucket refuses any other content.
    pub fn new(file: Arc<File>, length: u64, sha256: impl Into<String>) -> Upload {
        Upload { file, length, sha256: sha256.into() }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The body of a request, which can be sent again.
    pub(crate) fn body(&self) -> SdkBody {
        let upload = self.clone();
        SdkBody::retryable(move || SdkBody::from_body_1_x(FileBody { upload: upload.clone(), position: 0 }))
    }

    /// Signs requests with the known digest: by itself the SDK does not sign a body that is not in memory.
    pub(crate) fn signed(&self) -> SignedAs {
        SignedAs(self.sha256.clone())
    }

    /// True if `piece` is at `position` of the file.
    pub(crate) fn holds(&self, position: u64, piece: &[u8]) -> io::Result<bool> {
        if position.saturating_add(piece.len() as u64) > self.length {
            return Ok(false);
        }
        let mut own = vec![0; piece.len()];
        self.file.read_exact_at(&mut own, position)?;
        Ok(own == piece)
    }
}

/// The file as a body.
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
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        Poll::Ready(Some(self.upload.file.read_exact_at(&mut piece, self.position).map(|()| {
            self.position += piece.len() as u64;
            Frame::data(piece.into())
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.position == self.upload.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.upload.length - self.position)
    }
}

/// Has a request signed as one whose body has this SHA-256.
#[derive(Debug)]
pub(crate) struct SignedAs(String);

impl Intercept for SignedAs {
    fn name(&self) -> &'static str {
        "SignedAs"
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

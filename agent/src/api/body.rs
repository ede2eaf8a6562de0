//! Bodies of responses, sent whole or as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

/// Error that cuts a body short.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;
type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// Body of a response.
pub(crate) enum Body {
    /// Complete body.
    Whole(Bytes),
    /// Chunks, with the total length where it is known.
    Stream(Chunks, Option<u64>),
}

impl Body {
    /// Returns an empty body.
    pub(crate) fn empty() -> Body {
        Body::Whole(Bytes::new())
    }

    /// Returns a streamed body. An error in the stream cuts the connection, so that no caller takes a part for the whole.
    pub(crate) fn stream<E: Into<Failure> + 'static>(
        chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: Option<u64>,
    ) -> Body {
        use futures_util::TryStreamExt;
        Body::Stream(Box::pin(chunks.map_err(Into::into)), length)
    }
}

/// Waits until the agent is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender the agent has stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Cuts a followed stream when the agent stops, so that the client asks the next agent process.
pub(crate) fn until_stop<E: Into<Failure> + Send + 'static>(
    chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    stopping: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
    stream::try_unfold((Box::pin(chunks), stopping), |(mut chunks, mut stopping)| async move {
        tokio::select! {
            biased;
            next = chunks.next() => match next {
                Some(chunk) => Ok(Some((chunk.map_err(Into::into)?, (chunks, stopping)))),
                None => Ok(None),
            },
            () = stopped(&mut stopping) => Err("the agent is stopping: follow again".into()),
        }
    })
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream(chunks, _) => chunks.as_mut().poll_next(cx).map(|next| next.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(_, Some(length)) => SizeHint::with_exact(*length),
            Body::Stream(_, None) => SizeHint::default(),
        }
    }
}

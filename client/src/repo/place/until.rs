//! A repository as it was before its newest roots.

use async_trait::async_trait;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// A transport without the roots that come after one of them.
#[derive(Debug, Clone)]
pub(super) struct Until<T> {
    pub(super) transport: T,
    /// The version of the last root that is there; `None` when all are.
    pub(super) newest: Option<u64>,
}

#[async_trait]
impl<T: Transport + Clone> Transport for Until<T> {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().rsplit('/').next().unwrap_or_default();
        let root = name.strip_suffix(".root.json").and_then(|version| version.parse().ok());
        match (root, self.newest) {
            (Some(root), Some(newest)) if newest < root => {
                Err(TransportError::new(TransportErrorKind::FileNotFound, url))
            }
            _ => self.transport.fetch(url).await,
        }
    }
}

//! Source of a repository: a directory or a bucket. Another kind of source is another variant here.

use std::path::Path;

use async_trait::async_trait;
use bolt_aws::{Bucket, BucketTransport, Etag, Fetched, Options, Problem};
use futures_util::StreamExt;
use packs_schema::agent::config::RepositoryConfig;
use sha2::{Digest as _, Sha256};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::SyncError;
use super::cache::{Cached, TIMESTAMP};
use super::directory::{self, DirectoryTransport, directory_url, examine};

/// Maximum size of a timestamp, in bytes.
const MAX_TIMESTAMP: u64 = 1 << 20;
/// Maximum size of a metadata file, in bytes; the TUF library has further limits for each role.
const MAX_METADATA: u64 = 16 << 20;

/// Location of a repository.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Directory, as a `file:///` address that ends with `/`.
    Directory(Url),
    /// Bucket, with a cache of verified files.
    Bucket(Cached<BucketTransport>),
}

/// State of the repository's timestamp.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Timestamp {
    /// Unchanged since the given `ETag`.
    Unchanged,
    /// Fetched.
    Found {
        /// SHA-256 of the file.
        sha256: String,
        /// `ETag` of the bucket.
        etag: Option<Etag>,
    },
    /// Unreadable; the complete verification reports the reason.
    Unknown,
}

impl Source {
    /// Opens the repository of `[repository]`. Verified files of a bucket are cached in `tuf`.
    pub(super) async fn open(config: &RepositoryConfig, tuf: &Path) -> Result<Source, SyncError> {
        let Some(url) = config.bucket() else { return Ok(Source::Directory(directory_url(&config.url)?)) };
        let options = Options {
            region: config.region.clone(),
            endpoint: config.endpoint.clone(),
            path_style: config.path_style,
            profile: config.profile.clone(),
            timeout: config.timeout.0,
        };
        let bucket = Bucket::open(url, &options).await?;
        let transport = bucket.transport(MAX_METADATA, config.max_pack.0);
        let addresses = transport.addresses();
        Ok(Source::Bucket(Cached::new(transport, addresses, tuf)))
    }

    /// Returns the bucket's `Date` in its last response, in milliseconds since 1970; `None` for a directory.
    pub(super) fn date_ms(&self) -> Option<u64> {
        match self {
            Source::Directory(_) => None,
            Source::Bucket(cached) => cached.inner().bucket().date_ms(),
        }
    }

    /// Returns the addresses of metadata and of targets.
    pub(super) fn addresses(&self) -> Result<(Url, Url), SyncError> {
        let url = match self {
            Source::Directory(url) => url,
            Source::Bucket(cached) => return Ok(cached.inner().addresses()),
        };
        directory::addresses(url)
    }

    /// Returns the transport that reads the repository.
    pub(super) fn transport(&self) -> SourceTransport {
        match self {
            Source::Directory(_) => SourceTransport::Directory,
            Source::Bucket(cached) => SourceTransport::Bucket(cached.clone()),
        }
    }

    /// Fetches the timestamp, unless it still has the `ETag` `unless`. For a bucket this is one request. A poll that cannot reach
    /// its repository ends here: any further request would double the cost of an outage.
    pub(super) async fn timestamp(&self, unless: Option<&Etag>) -> Result<Timestamp, SyncError> {
        let mut hash = Sha256::new();
        let etag = match self {
            Source::Bucket(cached) => {
                let bucket = cached.inner().bucket();
                let name = format!("metadata/{TIMESTAMP}");
                let mut object = match bucket.get(&name, unless, MAX_TIMESTAMP).await {
                    Ok(Fetched::Object(object)) => object,
                    Ok(Fetched::Unchanged) => return Ok(Timestamp::Unchanged),
                    Err(error) if matches!(error.problem, Problem::Missing) => {
                        return Err(SyncError::NoRepository(bucket.url().to_string()));
                    }
                    Err(error) => return Err(error.into()),
                };
                let mut bytes = Vec::new();
                while let Some(piece) = object.next().await? {
                    hash.update(&piece);
                    bytes.extend_from_slice(&piece);
                }
                // These bytes are verified later: a second fetch would cost a request, and might return another state.
                cached.supply_timestamp(bytes);
                object.etag().cloned()
            }
            Source::Directory(url) => {
                examine(url)?;
                if self.hash_file(&mut hash).await.is_none() {
                    return Ok(Timestamp::Unknown);
                }
                None
            }
        };
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Timestamp::Found { sha256, etag })
    }

    async fn hash_file(&self, hash: &mut Sha256) -> Option<()> {
        let (metadata, _) = self.addresses().ok()?;
        let mut stream = self.transport().fetch(metadata.join(TIMESTAMP).ok()?).await.ok()?;
        let mut length = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.ok()?;
            length += chunk.len() as u64;
            if length > MAX_TIMESTAMP {
                return None;
            }
            hash.update(&chunk);
        }
        Some(())
    }

    /// True if there is no root newer than `version`, or if that need not be checked.
    ///
    /// In a directory the check costs nothing. A bucket would get a second request from every poll, so there the check is part
    /// of a complete verification only, which begins with it. That is safe: while the timestamp is the verified one, nothing new
    /// is activated by any key; the expiry of the root ends that state by itself; and a root with other keys for the timestamp
    /// comes with a new timestamp.
    pub(super) async fn no_newer_root(&self, version: u64) -> bool {
        if let Source::Bucket(_) = self {
            return true;
        }
        let Ok((metadata, _)) = self.addresses() else { return false };
        let Ok(next) = metadata.join(&format!("{}.root.json", version.saturating_add(1))) else { return false };
        match self.transport().fetch(next).await {
            Ok(_) => false,
            Err(error) => error.kind() == TransportErrorKind::FileNotFound,
        }
    }
}

/// Transport for both kinds of source.
#[derive(Debug, Clone)]
pub(super) enum SourceTransport {
    Directory,
    Bucket(Cached<BucketTransport>),
}

impl SourceTransport {
    /// Serves the timestamp with this SHA-256, which is unchanged in the bucket, from the cache.
    pub(super) fn supply_cached_timestamp(&self, sha256: &str) {
        if let SourceTransport::Bucket(cached) = self {
            cached.supply_cached_timestamp(sha256);
        }
    }

    /// After a failed verification: removes the files that were served from the cache for it; true if a retry may succeed.
    pub(super) fn forget_served(&self) -> bool {
        match self {
            SourceTransport::Directory => false,
            SourceTransport::Bucket(cached) => cached.forget_served(),
        }
    }

    /// After a successful verification: caches the files that were fetched for it.
    pub(super) fn keep_verified(&self) {
        if let SourceTransport::Bucket(cached) = self {
            cached.keep_verified();
        }
    }

    /// After every pack was processed: removes cached files that this poll did not need.
    pub(super) fn prune(&self) {
        if let SourceTransport::Bucket(cached) = self {
            cached.prune();
        }
    }
}

#[async_trait]
impl Transport for SourceTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        match self {
            SourceTransport::Directory => DirectoryTransport.fetch(url).await,
            SourceTransport::Bucket(transport) => transport.fetch(url).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_metadata_and_targets() {
        let source = Source::Directory(directory_url("file:///srv/bolt").unwrap());
        let (metadata, targets) = source.addresses().unwrap();
        assert_eq!((metadata.as_str(), targets.as_str()), ("file:///srv/bolt/metadata/", "file:///srv/bolt/targets/"));
        for wrong in ["", "/srv/bolt", "https://example.com/", "s3://bucket/x", "file://host/x", "file:///x?y"] {
            assert!(directory_url(wrong).is_err(), "{wrong}");
        }
    }
}

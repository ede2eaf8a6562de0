//! Where a repository is. The only place that knows; another kind of place is another variant.

use std::path::Path;

use async_trait::async_trait;
use bolt_aws::{Bucket, BucketTransport, Etag, Fetched, Options, Problem};
use futures_util::StreamExt;
use packs_schema::agent::config::RepositoryConfig;
use sha2::{Digest as _, Sha256};
use tough::{FilesystemTransport, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::SyncError;
use super::cache::Cached;

/// The largest timestamp, in bytes, that is looked at here.
const MAX_TIMESTAMP: u64 = 1 << 20;
/// The largest metadata file, in bytes; the verifying library has a bound of its own for each role.
const MAX_METADATA: u64 = 16 << 20;
/// The file that is asked for first.
pub(super) const TIMESTAMP: &str = "timestamp.json";

/// Where a repository is.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A directory, as a `file:///` address that ends with `/`.
    Directory(Url),
    /// A bucket, and the files of it that were verified before.
    Bucket(Cached<BucketTransport>),
}

/// What became of the repository's timestamp.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Timestamp {
    /// It is in the state that was named.
    Unchanged,
    /// It is this.
    Found {
        /// SHA-256 of it.
        sha256: String,
        /// What the bucket calls this state.
        etag: Option<Etag>,
    },
    /// It cannot be read, which the whole way will say better.
    Unknown,
}

impl Source {
    /// Where `[repository]` says. Verified files of a bucket are cached in `tuf`.
    pub(super) async fn open(config: &RepositoryConfig, tuf: &Path) -> Result<Source, SyncError> {
        let Some(url) = config.bucket() else { return Source::directory(&config.url) };
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

    fn directory(address: &str) -> Result<Source, SyncError> {
        let wrong = || SyncError::Url(address.chars().take(200).collect());
        let mut url = Url::parse(address).map_err(|_| wrong())?;
        if url.scheme() != "file" || url.host().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong());
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Source::Directory(url))
    }

    /// The time by the bucket's clock when it answered last, in milliseconds since 1970; `None` where there is no bucket.
    pub(super) fn date_ms(&self) -> Option<u64> {
        match self {
            Source::Directory(_) => None,
            Source::Bucket(cached) => cached.inner().bucket().date_ms(),
        }
    }

    /// The addresses of metadata and of targets.
    pub(super) fn addresses(&self) -> Result<(Url, Url), SyncError> {
        let url = match self {
            Source::Directory(url) => url,
            Source::Bucket(cached) => return Ok(cached.inner().addresses()),
        };
        let join = |part: &str| url.join(part).map_err(|_| SyncError::Url(url.to_string()));
        Ok((join("metadata/")?, join("targets/")?))
    }

    /// What fetches from there.
    pub(super) fn transport(&self) -> SourceTransport {
        match self {
            Source::Directory(_) => SourceTransport::Directory,
            Source::Bucket(cached) => SourceTransport::Bucket(cached.clone()),
        }
    }

    /// Looks at the timestamp, unless it is still in the state `unless`. From a bucket this is one request, and it is where a
    /// poll ends that cannot reach its repository: to ask for anything else would double what an outage costs.
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
                // It is verified as it is now: to fetch it twice would cost a request, and might find another one.
                cached.supply_timestamp(bytes);
                object.etag().cloned()
            }
            Source::Directory(_) => {
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

    /// True if no root newer than `version` is there, or none has to be looked for.
    ///
    /// In a directory the question costs nothing. A bucket would be sent a second request by every poll, so there it is
    /// asked only on the whole way, which begins with it. Nothing is lost: while the timestamp is the one that was verified,
    /// nothing is activated on the word of any key, a root that expires ends that state by its own, and a root that has other
    /// keys for the timestamp comes with a new timestamp.
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

/// What reads a repository, wherever it is.
#[derive(Debug, Clone)]
pub(super) enum SourceTransport {
    Directory,
    Bucket(Cached<BucketTransport>),
}

impl SourceTransport {
    /// Has the timestamp with this SHA-256, which the bucket says is still the one, served from the cache.
    pub(super) fn supply_cached_timestamp(&self, sha256: &str) {
        if let SourceTransport::Bucket(cached) = self {
            cached.supply_cached_timestamp(sha256);
        }
    }

    /// After a verification failed: removes what was served from the cache for it; true if it is worth another try.
    pub(super) fn forget_served(&self) -> bool {
        match self {
            SourceTransport::Directory => false,
            SourceTransport::Bucket(cached) => cached.forget_served(),
        }
    }

    /// After a verification succeeded: caches what was fetched for it.
    pub(super) fn keep_verified(&self) {
        if let SourceTransport::Bucket(cached) = self {
            cached.keep_verified();
        }
    }

    /// After every pack was looked at: removes cached files that were of no use to this poll.
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
            SourceTransport::Directory => {
                check_regular(&url)?;
                FilesystemTransport.fetch(url).await
            }
            SourceTransport::Bucket(transport) => transport.fetch(url).await,
        }
    }
}

/// Refuses what is not a regular file: to open a FIFO would wait for whoever owns the storage.
fn check_regular(url: &Url) -> Result<(), TransportError> {
    let failed = |error| TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error);
    let Ok(path) = url.to_file_path() else { return Ok(()) };
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(failed(std::io::Error::other("it is not a regular file"))),
        // What is missing, or cannot be looked at, is told when it is opened.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_metadata_and_targets() {
        let source = Source::directory("file:///srv/bolt").unwrap();
        let (metadata, targets) = source.addresses().unwrap();
        assert_eq!((metadata.as_str(), targets.as_str()), ("file:///srv/bolt/metadata/", "file:///srv/bolt/targets/"));
        for wrong in ["", "/srv/bolt", "https://example.com/", "s3://bucket/x", "file://host/x", "file:///x?y"] {
            assert!(Source::directory(wrong).is_err(), "{wrong}");
        }
    }
}

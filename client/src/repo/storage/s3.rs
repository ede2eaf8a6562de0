//! A repository in a bucket: there is no lock, so objects are only created, never overwritten.
//!
//! Targets carry their digest in their names, so that one that is there already is the same. Metadata carry their version: one
//! of another publisher under the next version means that this change begins again, a version further, since the other one may
//! have died before it came to its end. The timestamp decides: it is written only over the one that was there when the
//! change began.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bolt_aws::{Bucket, BucketError, Etag, Fetched, ListedObject, Options, Problem, Upload};
use packs_schema::base::bucket_url::BucketUrl;
use tough::{
    ExpirationEnforcement, Repository, RepositoryLoader, Transport, TransportError, TransportErrorKind, TransportStream,
};
use url::Url;

use super::super::RepoError;
use super::super::content::Content;
use super::{Stored, StoredFile, TIMESTAMP};
use crate::bucket_location::BucketLocation;
use crate::hashing::Hashing;

/// The largest metadata file, in bytes.
const MAX_METADATA: u64 = 16 << 20;
/// The largest target that the library reads, in bytes: a channel, a part of the journal, an index. Archives are copied.
const MAX_TARGET: u64 = 1 << 20;

/// A repository in a bucket.
#[derive(Debug)]
pub(in crate::repo) struct InBucket {
    url: BucketUrl,
    options: Options,
    bucket: OnceLock<Bucket>,
    began: Mutex<Began>,
}

/// State that the current change began from.
#[derive(Debug, Default)]
struct Began {
    /// The state of the timestamp then; `None` where there was none.
    timestamp: Option<Etag>,
    /// Number of versions to skip, because their files exist already.
    skipped: u64,
}

impl InBucket {
    /// `s3://bucket/prefix?region=…&endpoint=…&path_style=true&profile=…&allow_http=true`.
    pub(super) fn at(text: &str) -> Result<InBucket, RepoError> {
        let parsed = BucketLocation::parse(text).and_then(|location| location.without_others());
        let (url, options) =
            parsed.map_err(|problem| RepoError::Address { location: text.chars().take(200).collect(), problem })?;
        Ok(InBucket { url, options, bucket: OnceLock::new(), began: Mutex::default() })
    }

    pub(super) fn root(&self, version: u64) -> PathBuf {
        format!("{}/metadata/{version}.root.json", self.url).into()
    }

    pub(super) fn name(&self) -> PathBuf {
        self.url.to_string().into()
    }

    async fn bucket(&self) -> Result<&Bucket, RepoError> {
        if let Some(bucket) = self.bucket.get() {
            return Ok(bucket);
        }
        let bucket = Bucket::open(self.url.clone(), &self.options).await?;
        Ok(self.bucket.get_or_init(|| bucket))
    }

    /// Does one thing with the bucket, on a runtime of its own.
    fn with<T: Send>(&self, work: impl AsyncFnOnce(&Bucket) -> Result<T, BucketError> + Send) -> Result<T, RepoError> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RepoError::Runtime)?;
                runtime.block_on(async { work(self.bucket().await?).await.map_err(|error| self.failed(error)) })
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn failed(&self, error: BucketError) -> RepoError {
        match error.problem {
            Problem::Conflict => RepoError::Raced(self.name()),
            _ => RepoError::Bucket(error.into()),
        }
    }

    pub(super) fn check_vacant(&self) -> Result<(), RepoError> {
        let vacant = self.with(async |bucket| bucket.is_empty().await)?;
        if vacant { Ok(()) } else { Err(RepoError::Exists(self.name())) }
    }

    pub(super) fn check_repository(&self) -> Result<(), RepoError> {
        self.read_root(1)?.map(drop).ok_or_else(|| RepoError::NoRepository(self.name()))
    }

    fn read_root(&self, version: u64) -> Result<Option<Vec<u8>>, RepoError> {
        let name = format!("metadata/{version}.root.json");
        Ok(self.with(async |bucket| bucket.read(&name, MAX_METADATA).await)?.map(|(bytes, _)| bytes))
    }

    pub(super) fn write_root(&self, version: u64, bytes: &[u8]) -> Result<(), RepoError> {
        let name = format!("metadata/{version}.root.json");
        match self.with(async |bucket| bucket.create(&name, bytes).await) {
            Err(RepoError::Raced(_)) => Err(RepoError::Exists(self.root(version))),
            done => done.map(drop),
        }
    }

    pub(super) fn write_target(&self, name: &str, content: &Content) -> Result<(), RepoError> {
        let digest = content.sha256();
        let name = format!("targets/{digest}.{name}");
        let written = self.with(async |bucket| match content {
            Content::Bytes(bytes) => bucket.create(&name, bytes).await,
            Content::Archive(archive) => {
                let upload = Upload::new(archive.file(), archive.size_bytes(), digest);
                bucket.create_from(&name, &upload).await
            }
        });
        match written {
            // Named by its digest, it could only be the same.
            Err(RepoError::Raced(_)) => Err(RepoError::Unreadable {
                name: format!("{}/{name}", self.url),
                problem:
                    "it is damaged: its bytes are not those that its name says; remove the object and publish again"
                        .to_owned(),
            }),
            done => done.map(drop),
        }
    }

    pub(super) fn copy_target(
        &self,
        name: &str,
        digest: &str,
        max: u64,
        out: &mut (impl Write + Send),
    ) -> Result<StoredFile, RepoError> {
        let name = format!("targets/{digest}.{name}");
        let copied = self.with(async |bucket| {
            let mut object = match bucket.get(&name, None, max).await {
                Ok(Fetched::Object(object)) => object,
                Ok(Fetched::Unchanged) | Err(BucketError { problem: Problem::Missing, .. }) => {
                    return Ok(Ok(StoredFile::Missing));
                }
                Err(BucketError { problem: Problem::TooLarge(_), .. }) => return Ok(Ok(StoredFile::Longer)),
                Err(error) => return Err(error),
            };
            let mut hashing = Hashing::new(out);
            while let Some(piece) = object.next().await? {
                if let Err(error) = hashing.write_all(&piece) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(StoredFile::File(hashing.finish().1)))
        })?;
        copied.map_err(RepoError::file("write", std::env::temp_dir()))
    }

    pub(super) fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), RepoError> {
        let path = format!("metadata/{name}");
        if name != TIMESTAMP {
            let written = self.with(async |bucket| bucket.create(&path, bytes).await);
            if let Err(RepoError::Raced(_)) = &written {
                self.began().skipped += 1;
            }
            return written.map(drop);
        }
        let over = self.began().timestamp.clone();
        self.with(async |bucket| match over {
            Some(etag) => bucket.replace(&path, bytes, &etag).await,
            None => bucket.create(&path, bytes).await,
        })
        .map(drop)
    }

    pub(super) fn list(&self) -> Result<Vec<Stored>, RepoError> {
        let listed = self.with(async |bucket| bucket.list().await)?;
        let stored = |object: ListedObject| {
            let ListedObject { name, bytes, modified_ms } = object;
            Stored { name, bytes, modified_ms }
        };
        Ok(listed.into_iter().map(stored).collect())
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        Ok(self.with(async |bucket| bucket.read(name, MAX_METADATA).await)?.map(|(bytes, _)| bytes))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), RepoError> {
        self.with(async |bucket| bucket.remove(name).await)
    }

    pub(super) fn skipped(&self) -> u64 {
        self.began().skipped
    }

    pub(super) async fn first_root(&self) -> Result<Vec<u8>, RepoError> {
        let first = self.bucket().await?.read("metadata/1.root.json", MAX_METADATA).await;
        Ok(first.map_err(|error| self.failed(error))?.ok_or_else(|| RepoError::NoRepository(self.name()))?.0)
    }

    pub(super) async fn load(&self, root: &[u8], newest: Option<u64>) -> Result<Repository, RepoError> {
        let bucket = self.bucket().await?;
        let failed = |error| self.failed(error);
        // Looked at before anything is loaded: what is loaded is this state or a later one, and then the write is refused.
        let timestamp = bucket.read(&format!("metadata/{TIMESTAMP}"), MAX_METADATA).await.map_err(failed)?;
        let (_, etag) = timestamp.ok_or_else(|| RepoError::NoRepository(self.name()))?;
        self.begin(etag);
        let transport = bucket.transport(MAX_METADATA, MAX_TARGET);
        let (metadata, targets): (Url, Url) = transport.addresses();
        RepositoryLoader::new(&root, metadata, targets)
            .transport(Until { transport, newest })
            .expiration_enforcement(ExpirationEnforcement::Unsafe)
            .load()
            .await
            .map_err(RepoError::tuf("verify the repository's metadata"))
    }

    fn begin(&self, timestamp: Option<Etag>) {
        let mut began = self.began();
        if began.timestamp != timestamp {
            *began = Began { timestamp, skipped: 0 };
        }
    }

    fn began(&self) -> std::sync::MutexGuard<'_, Began> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket without the roots that come after one of them.
#[derive(Debug, Clone)]
struct Until<T> {
    transport: T,
    newest: Option<u64>,
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

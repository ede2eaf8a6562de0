//! Verified files of the repository that an earlier poll left in the store, so that a poll of a bucket fetches only what changed.
//!
//! ```text
//!  tough ─fetch─▶ Cached ─┬─ named by version or digest, and in the store ─▶ the file in the store
//!                         └─ everything else ─▶ the bucket, and a copy in memory until it has been verified
//! ```
//!
//! Only files whose content can never change under their name are cached: metadata named by version, and channel files named by
//! digest. The cache grants nothing. A cached file passes through the same checks of length, hash, signature and version as one
//! that comes from the bucket; one that fails them is removed and fetched. Files are written after they were verified, never
//! before, and files that the last complete poll did not need are pruned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest as _, Sha256};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::disk;

/// File that is fetched first.
pub(super) const TIMESTAMP: &str = "timestamp.json";
/// Directory in the store's `.tuf`.
const DIRECTORY: &str = "cache";
/// Maximum size of a cached file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Maximum total size of the cached files, in bytes. Files beyond it are fetched by each poll.
const MAX_BYTES: u64 = 64 << 20;
/// Maximum number of cached files.
const MAX_FILES: usize = 16_384;

/// Transport that tries the cache first.
#[derive(Debug, Clone)]
pub(super) struct Cached<T> {
    inner: T,
    cache: Arc<Cache>,
}

/// Cached files of one store, and their use in one poll.
#[derive(Debug)]
struct Cache {
    directory: PathBuf,
    /// Addresses of metadata and of targets.
    metadata: Url,
    targets: Url,
    /// Maximum size of a file, and of all files.
    limits: (u64, u64),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Timestamp that this poll has fetched already; it is served once.
    timestamp: Option<Bytes>,
    /// Files from the bucket that are not verified yet, by key.
    fetched: BTreeMap<String, Vec<u8>>,
    /// Keys served from the cache since the last verification.
    served: Vec<String>,
    /// Keys that this poll needed and verified, with their lengths.
    used: BTreeMap<String, u64>,
    /// True if the bucket failed since the last verification.
    failed: bool,
    /// True after a failed verification: the next one takes nothing from the cache.
    bypassed: bool,
}

impl<T: Transport + Clone> Cached<T> {
    /// Creates a cache in `tuf` for `inner`, which reads the repository at these addresses of metadata and targets.
    pub(super) fn new(inner: T, (metadata, targets): (Url, Url), tuf: &Path) -> Cached<T> {
        let (directory, limits) = (tuf.join(DIRECTORY), (MAX_FILE, MAX_BYTES));
        Cached { inner, cache: Arc::new(Cache { directory, metadata, targets, limits, state: Mutex::default() }) }
    }

    /// Returns the transport to the bucket.
    pub(super) fn inner(&self) -> &T {
        &self.inner
    }

    /// Serves `bytes`, which came from the bucket in this poll, for the next fetch of the timestamp.
    pub(super) fn supply_timestamp(&self, bytes: Vec<u8>) {
        self.cache.state().timestamp = Some(bytes.into());
    }

    /// Serves the cached timestamp if it has this SHA-256, in hexadecimal.
    pub(super) fn supply_cached_timestamp(&self, sha256: &str) {
        let Ok(url) = self.cache.metadata.join(TIMESTAMP) else { return };
        let bytes = self.cache.read(&key(&url)).filter(|bytes| hex(bytes) == sha256);
        self.cache.state().timestamp = bytes.map(Bytes::from);
    }

    /// After a failed verification: removes the files that were served from the cache for it. Returns true if a retry, which takes
    /// nothing from the cache, may succeed.
    pub(super) fn forget_served(&self) -> bool {
        let served = {
            let mut state = self.cache.state();
            state.fetched.clear();
            state.timestamp = None;
            let failed = std::mem::take(&mut state.failed);
            let served = std::mem::take(&mut state.served);
            state.bypassed = !failed && !served.is_empty();
            if !state.bypassed {
                return false;
            }
            served
        };
        for key in served {
            remove(&self.cache.directory.join(key));
        }
        true
    }

    /// After a successful verification: caches the files that were fetched for it. A file that cannot be written is fetched again
    /// by the next poll.
    pub(super) fn keep_verified(&self) {
        let mut state = self.cache.state();
        (state.failed, state.bypassed) = (false, false);
        for key in std::mem::take(&mut state.served) {
            let length = fs::metadata(self.cache.directory.join(&key)).map_or(0, |meta| meta.len());
            state.used.insert(key, length);
        }
        for (key, bytes) in std::mem::take(&mut state.fetched) {
            let total: u64 = state.used.values().sum();
            let fits = total.saturating_add(bytes.len() as u64) <= self.cache.limits.1 && state.used.len() < MAX_FILES;
            if fits && self.cache.write(&key, &bytes) {
                state.used.insert(key, bytes.len() as u64);
            }
        }
    }

    /// Removes the cached files that this poll did not need. Only a poll that looked at every pack may call it.
    pub(super) fn prune(&self) {
        let used: BTreeSet<String> = self.cache.state().used.keys().cloned().collect();
        for entry in fs::read_dir(&self.cache.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| used.contains(name)) {
                continue;
            }
            remove(&entry.path());
        }
    }
}

#[async_trait]
impl<T: Transport + Clone> Transport for Cached<T> {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let timestamp = self.cache.is_timestamp(&url);
        if !timestamp && !self.cache.is_immutable(&url) {
            return self.noted(self.inner.fetch(url).await);
        }
        let key = key(&url);
        let known = if timestamp { self.cache.state().timestamp.take() } else { None };
        if let Some(bytes) = known {
            // Written to the cache if it is new.
            let mut state = self.cache.state();
            state.served.push(key.clone());
            state.fetched.insert(key, bytes.to_vec());
            return Ok(once(bytes));
        }
        let looked_up = !timestamp && !self.cache.state().bypassed;
        if looked_up && let Some(bytes) = self.cache.read(&key) {
            self.cache.state().served.push(key);
            return Ok(once(bytes.into()));
        }
        let stream = self.noted(self.inner.fetch(url).await)?;
        let copy = Copying { stream, bytes: Some(Vec::new()), key, cache: Arc::clone(&self.cache) };
        Ok(Box::pin(stream::unfold(copy, Copying::next)))
    }
}

impl<T> Cached<T> {
    fn noted(&self, fetched: Result<TransportStream, TransportError>) -> Result<TransportStream, TransportError> {
        fetched.inspect_err(|error| {
            if error.kind() != TransportErrorKind::FileNotFound {
                self.cache.state().failed = true;
            }
        })
    }
}

/// Stream of a file from the bucket, with a copy of the bytes received.
struct Copying {
    stream: TransportStream,
    /// `None` if the file is too large to be cached.
    bytes: Option<Vec<u8>>,
    key: String,
    cache: Arc<Cache>,
}

impl Copying {
    async fn next(mut self) -> Option<(Result<Bytes, TransportError>, Copying)> {
        match self.stream.next().await {
            Some(Ok(piece)) => {
                let most = self.cache.limits.0;
                let fits = |bytes: &Vec<u8>| bytes.len() as u64 + piece.len() as u64 <= most;
                self.bytes = self.bytes.take().filter(fits);
                if let Some(bytes) = &mut self.bytes {
                    bytes.extend_from_slice(&piece);
                }
                Some((Ok(piece), self))
            }
            Some(Err(error)) => {
                self.bytes = None;
                self.cache.state().failed = true;
                Some((Err(error), self))
            }
            None => {
                if let Some(bytes) = self.bytes.take() {
                    self.cache.state().fetched.insert(self.key, bytes);
                }
                None
            }
        }
    }
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_timestamp(&self, url: &Url) -> bool {
        url.as_str().strip_prefix(self.metadata.as_str()) == Some(TIMESTAMP)
    }

    /// True for a file whose name says its version or its digest.
    ///
    /// Roots are not cached, because each poll checks for a newer one; nor are archives, which are unpacked once.
    fn is_immutable(&self, url: &Url) -> bool {
        if let Some(name) = url.as_str().strip_prefix(self.metadata.as_str()) {
            let Some((version, role)) = name.split_once('.') else { return false };
            return !version.is_empty()
                && version.bytes().all(|b| b.is_ascii_digit())
                && role.ends_with(".json")
                && role != "root.json"
                && !role.contains('/');
        }
        let target = url.as_str().strip_prefix(self.targets.as_str());
        let named = target.and_then(|target| target.split_once('.'));
        named.is_some_and(|(digest, name)| {
            digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) && name.starts_with("channels/")
        })
    }

    /// Reads the file cached under `key`.
    fn read(&self, key: &str) -> Option<Vec<u8>> {
        disk::read_if_there(&self.directory.join(key), self.limits.0).ok().flatten()
    }

    /// Writes a file; true on success. It need not survive a power cut: a damaged file fails its verification.
    fn write(&self, key: &str, bytes: &[u8]) -> bool {
        if self.read(key).is_some_and(|there| there == bytes) {
            return true;
        }
        let path = self.directory.join(key);
        let temporary = self.directory.join(".new");
        if path.is_dir() {
            remove(&path);
        }
        let written = disk::make_directory(&self.directory, 0o700)
            .and_then(|()| disk::remove_if_there(&temporary))
            .and_then(|()| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = &written {
            tracing::warn!(path = %path.display(), %error, "cannot cache a file of the repository");
        }
        written.is_ok()
    }
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { disk::remove_if_there(path) };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "cannot remove a cached file");
    }
}

/// Returns the name of a cached file: a hash, so that names of roles and packs never become paths.
fn key(url: &Url) -> String {
    hex(url.as_str().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn once(bytes: Bytes) -> TransportStream {
    Box::pin(stream::once(std::future::ready(Ok(bytes))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tough::IntoVec;

    use super::*;

    /// A repository in memory that counts its requests.
    #[derive(Debug, Clone, Default)]
    struct Memory {
        files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
        requests: Arc<AtomicUsize>,
        broken: Arc<Mutex<bool>>,
    }

    impl Memory {
        fn put(&self, name: &str, bytes: &[u8]) {
            self.files.lock().unwrap().insert(format!("s3://packs/bolt/{name}"), bytes.to_vec());
        }
        fn count(&self) -> usize {
            self.requests.swap(0, Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl Transport for Memory {
        async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            if *self.broken.lock().unwrap() {
                return Err(TransportError::new(TransportErrorKind::Other, url.as_str()));
            }
            match self.files.lock().unwrap().get(url.as_str()) {
                Some(bytes) => Ok(once(bytes.clone().into())),
                None => Err(TransportError::new(TransportErrorKind::FileNotFound, url.as_str())),
            }
        }
    }

    fn open(memory: &Memory, tuf: &Path) -> Cached<Memory> {
        let at = |part: &str| Url::parse(&format!("s3://packs/bolt/{part}/")).unwrap();
        Cached::new(memory.clone(), (at("metadata"), at("targets")), tuf)
    }

    async fn get(cached: &Cached<Memory>, name: &str) -> Option<Vec<u8>> {
        let url = Url::parse(&format!("s3://packs/bolt/{name}")).unwrap();
        Some(cached.fetch(url).await.ok()?.into_vec().await.unwrap())
    }

    fn channel(byte: char) -> String {
        format!("targets/{}.channels/prod/demo.json", byte.to_string().repeat(64))
    }

    #[tokio::test]
    async fn a_verified_file_is_not_fetched_again() {
        let (temp, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        let names = ["metadata/7.snapshot.json".to_owned(), "metadata/3.team-dba.json".to_owned(), channel('a')];
        for name in &names {
            memory.put(name, name.as_bytes());
        }
        let cached = open(&memory, temp.path());
        for name in &names {
            assert_eq!(get(&cached, name).await.unwrap(), name.as_bytes());
        }
        assert_eq!(memory.count(), 3);
        // Nothing has verified them yet.
        assert_eq!(get(&open(&memory, temp.path()), &names[0]).await.unwrap(), names[0].as_bytes());
        assert_eq!(memory.count(), 1);
        cached.keep_verified();
        let cached = open(&memory, temp.path());
        for name in &names {
            assert_eq!(get(&cached, name).await.unwrap(), name.as_bytes());
        }
        assert_eq!(memory.count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_may_change_under_its_name_is_always_fetched() {
        let (temp, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        let archive = format!("targets/{}.packs/demo/1.0.0.tar.gz", "a".repeat(64));
        for name in ["metadata/2.root.json", "metadata/timestamp.json", "metadata/snapshot.json", &archive] {
            memory.put(name, b"x");
            for _ in 0..2 {
                let cached = open(&memory, temp.path());
                assert!(get(&cached, name).await.is_some());
                cached.keep_verified();
            }
            assert_eq!(memory.count(), 2, "{name}");
        }
    }

    #[tokio::test]
    async fn a_cached_file_that_failed_its_verification_is_fetched() {
        let (temp, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        memory.put("metadata/7.snapshot.json", b"signed");
        let cached = open(&memory, temp.path());
        get(&cached, "metadata/7.snapshot.json").await.unwrap();
        assert!(!cached.forget_served(), "nothing came from the cache, so trying again is of no use");
        get(&cached, "metadata/7.snapshot.json").await.unwrap();
        cached.keep_verified();
        let file = fs::read_dir(temp.path().join("cache")).unwrap().next().unwrap().unwrap().path();
        fs::write(&file, "forged").unwrap();
        let cached = open(&memory, temp.path());
        assert_eq!(get(&cached, "metadata/7.snapshot.json").await.unwrap(), b"forged");
        assert!(cached.forget_served());
        assert_eq!(get(&cached, "metadata/7.snapshot.json").await.unwrap(), b"signed");
        // A bucket that fails says nothing against what is cached.
        cached.keep_verified();
        let cached = open(&memory, temp.path());
        get(&cached, "metadata/7.snapshot.json").await.unwrap();
        *memory.broken.lock().unwrap() = true;
        assert!(get(&cached, "metadata/8.targets.json").await.is_none());
        assert!(!cached.forget_served() && file.exists());
    }

    #[tokio::test]
    async fn the_timestamp_of_this_poll_is_served_once() {
        let (temp, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        memory.put("metadata/timestamp.json", b"2");
        let cached = open(&memory, temp.path());
        cached.supply_timestamp(b"1".to_vec());
        assert_eq!(get(&cached, "metadata/timestamp.json").await.unwrap(), b"1");
        cached.keep_verified();
        assert_eq!(get(&cached, "metadata/timestamp.json").await.unwrap(), b"2");
        assert_eq!(memory.count(), 1);
        let cached = open(&memory, temp.path());
        cached.supply_cached_timestamp(&hex(b"1"));
        assert_eq!(get(&cached, "metadata/timestamp.json").await.unwrap(), b"1");
        cached.supply_cached_timestamp(&hex(b"other"));
        assert_eq!(get(&cached, "metadata/timestamp.json").await.unwrap(), b"2");
        assert_eq!(memory.count(), 1);
    }

    #[tokio::test]
    async fn files_that_a_poll_did_not_need_are_pruned_and_the_cache_is_bounded() {
        let (temp, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        let count = || fs::read_dir(temp.path().join("cache")).map_or(0, Iterator::count);
        for digit in ['a', 'b', 'c'] {
            memory.put(&channel(digit), &[b'x'; 100]);
        }
        let cached = open(&memory, temp.path());
        for digit in ['a', 'b'] {
            get(&cached, &channel(digit)).await.unwrap();
        }
        cached.keep_verified();
        cached.prune();
        assert_eq!(count(), 2);
        let mut cached = open(&memory, temp.path());
        Arc::get_mut(&mut cached.cache).unwrap().limits = (150, 150);
        for digit in ['b', 'c'] {
            get(&cached, &channel(digit)).await.unwrap();
            cached.keep_verified();
        }
        cached.prune();
        assert_eq!(count(), 1, "what does not fit is not kept, and what was not needed is gone");
        memory.put("metadata/9.targets.json", &[b'x'; 151]);
        assert_eq!(get(&cached, "metadata/9.targets.json").await.unwrap().len(), 151);
        cached.keep_verified();
        assert_eq!(count(), 1);
    }
}

//! The repository's metadata: signed by who may, not expired, and not older than any seen before.

use std::path::Path;

use jiff::Timestamp;
use packs_schema::config::RepositoryConfig;
use tough::error::Error as Tough;
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader};

use super::marks::{self, Marks};
use super::seen::CLOCK_SLACK_MS;
use super::source::Source;
use super::{SyncError, disk};

/// The largest root, in bytes.
const MAX_ROOT: u64 = 1 << 20;
/// How far the clock of a publisher may be ahead, in milliseconds.
const A_DAY_MS: u64 = 24 * 3_600_000;

/// Metadata that were verified in full.
#[derive(Debug)]
pub(super) struct Metadata {
    repository: Repository,
}

impl Metadata {
    /// Loads and verifies what `source` has now. `tuf` is the directory of what was seen before.
    ///
    /// Whether metadata have expired is a question to the clock, so the clock is questioned first: it may not say less than
    /// when metadata were last verified here (`verified_at_ms`), nor than when what is signed was published.
    pub(super) async fn load(
        source: &Source,
        config: &RepositoryConfig,
        tuf: &Path,
        verified_at_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Metadata, SyncError> {
        if let Some(at_ms) = verified_at_ms.filter(|at_ms| now_ms.saturating_add(CLOCK_SLACK_MS) < *at_ms) {
            return Err(clock(now_ms, "metadata were verified on this host at", at_ms));
        }
        // The library notes the time before it verified anything: once far ahead, it would never accept the right time again.
        // The time above was noted after.
        let library_clock = tuf.join("latest_known_time.json");
        disk::remove_if_there(&library_clock).map_err(SyncError::file("remove", &library_clock))?;
        let root = disk::read_text(&config.root, MAX_ROOT).map_err(SyncError::file("read", &config.root))?;
        let marks = marks::path(tuf);
        let seen = Marks::read(&marks)?;
        let (metadata, targets) = source.addresses()?;
        let limits = Limits { max_root_updates: 256, ..Limits::default() };
        let repository = RepositoryLoader::new(&root, metadata, targets)
            .transport(source.transport())
            .limits(limits)
            .datastore(tuf)
            .expiration_enforcement(ExpirationEnforcement::Safe)
            .load()
            .await
            .map_err(|error| from_tough(error, now_ms))?;
        if let Some(at_ms) = published_at_ms(&repository).filter(|at_ms| now_ms.saturating_add(A_DAY_MS) < *at_ms) {
            return Err(clock(now_ms, "the repository holds what was published at", at_ms));
        }
        let found = Marks::of(&repository);
        let advanced = match &seen {
            Some(seen) => seen.advance(&found)?,
            None => found,
        };
        if seen.as_ref() != Some(&advanced) {
            advanced.write(&marks)?;
        }
        Ok(Metadata { repository })
    }

    /// The repository, to read targets from.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// When the newest of the signed targets was published, as its publisher says.
fn published_at_ms(repository: &Repository) -> Option<u64> {
    let targets = repository.targets().signed.targets.values();
    targets.filter_map(|target| target.custom.get("published_at_ms")?.as_u64()).max()
}

fn clock(now_ms: u64, what: &'static str, known_ms: u64) -> SyncError {
    SyncError::Clock { clock: at(now_ms), what, known: at(known_ms) }
}

/// To the second: people read it.
fn at(ms: u64) -> Timestamp {
    i64::try_from(ms / 1000).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or(Timestamp::MAX)
}

fn from_tough(error: Tough, now_ms: u64) -> SyncError {
    match error {
        Tough::ExpiredMetadata { role, .. } => SyncError::Expired { role: role.to_string(), clock: at(now_ms) },
        error => SyncError::Metadata(Box::new(error)),
    }
}

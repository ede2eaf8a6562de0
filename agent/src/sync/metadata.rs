//! The repository's metadata: signed by who may, not expired, and not older than any seen before.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use packs_schema::agent::config::RepositoryConfig;
use packs_schema::base::name::{ChannelName, PackName};
use packs_schema::delivery::marks::{Mark, Marks, SerialError};
use tough::error::Error as Tough;
use tough::schema::{DelegatedRole, RoleType, Root};
use tough::{ExpirationEnforcement, IntoVec, Limits, Repository, RepositoryLoader, TargetName};

use super::clock::{Clock, SLACK_MS};
use super::floor::{Floor, PUBLISHER_SLACK_MS};
use super::lookup::{Lookup, roles};
use super::marks;
use super::source::{Source, SourceTransport};
use super::{SyncError, disk, root};

/// Metadata that were verified in full.
#[derive(Debug)]
pub(super) struct Metadata {
    repository: Repository,
    transport: SourceTransport,
    marks: RefCell<Marks>,
    marks_file: PathBuf,
    now: Timestamp,
}

impl Metadata {
    /// Loads and verifies what `source` has now. `tuf` is the directory of what was seen before.
    ///
    /// Whether metadata have expired is a question to the clock, so the clock is questioned first: it may not be behind the
    /// earliest time that it can be (see [`Floor`]), nor more than a day behind the time at which what is signed was published.
    pub(super) async fn load(
        source: &Source,
        config: &RepositoryConfig,
        tuf: &Path,
        clock: &Clock,
    ) -> Result<Metadata, SyncError> {
        let now_ms = clock.wall_ms;
        let floor = Floor::read(tuf);
        let earliest_ms = floor.as_ref().map(|floor| floor.earliest_ms(clock));
        if let Some(at_ms) = earliest_ms.filter(|at_ms| now_ms.saturating_add(SLACK_MS) < *at_ms) {
            return Err(wrong_clock(
                now_ms,
                "by what is signed, the bucket and the time since the boot it is at least",
                at_ms,
            ));
        }
        // The library notes the time of an unchecked clock: once far ahead, it would never accept the right time again.
        let library_clock = tuf.join("latest_known_time.json");
        disk::remove_if_there(&library_clock).map_err(SyncError::file("remove", &library_clock))?;
        let root = root::read_text(&config.root)?;
        let marks_file = marks::path(tuf);
        let seen = marks::read(&marks_file)?;
        let transport = source.transport();
        let repository = match verify(source, &transport, &root, tuf).await {
            Err(error) if transport.forget_served() => {
                tracing::warn!(error = %super::error::chain(&error), "cached metadata do not verify; fetching them again");
                verify(source, &transport, &root, tuf).await
            }
            verified => verified,
        }?;
        transport.keep_verified();
        remove_copies(tuf);
        let now = at_ms(now_ms);
        if let Some(role) = expired(&repository, now) {
            return Err(SyncError::Expired { role: role.to_string(), clock: at(now_ms) });
        }
        // A snapshot that leaves a delegated role out would hide what that role lists.
        if let Some(role) = roles(&repository.targets().signed).find(|role| role.targets.is_none()) {
            return Err(SyncError::Missing { role: role.name.clone() });
        }
        let published_ms = published_at_ms(&repository);
        if let Some(at_ms) = published_ms.filter(|at_ms| now_ms.saturating_add(PUBLISHER_SLACK_MS) < *at_ms) {
            return Err(wrong_clock(now_ms, "the repository holds what was published at", at_ms));
        }
        let found = marks::of(&repository);
        let advanced = match &seen {
            Some(seen) => seen.advance(&found)?,
            None => found,
        };
        if seen.as_ref() != Some(&advanced) {
            marks::write(&advanced, &marks_file)?;
        }
        Floor::after(floor.as_ref(), clock, published_ms, source.date_ms()).write(tuf)?;
        Ok(Metadata { repository, transport, marks: RefCell::new(advanced), marks_file, now })
    }

    /// Reads a small target in full, verified. One that is cached and does not verify is fetched.
    pub(super) async fn read(&self, target: &TargetName) -> Result<Option<Vec<u8>>, Box<Tough>> {
        let read = match self.read_once(target).await {
            Err(_) if self.transport.forget_served() => self.read_once(target).await,
            read => read,
        };
        match &read {
            Ok(_) => self.transport.keep_verified(),
            // What came is of no use, and nothing of it is kept.
            Err(_) => drop(self.transport.forget_served()),
        }
        read
    }

    async fn read_once(&self, target: &TargetName) -> Result<Option<Vec<u8>>, Box<Tough>> {
        match self.repository.read_target(target).await? {
            Some(stream) => Ok(Some(stream.into_vec().await?)),
            None => Ok(None),
        }
    }

    /// Removes cached files that this poll, which has looked at every pack, did not need.
    pub(super) fn prune_cache(&self) {
        self.transport.prune();
    }

    /// The repository, to read targets from.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// To find targets.
    pub(super) fn lookup(&self) -> Lookup<'_> {
        Lookup::new(&self.repository)
    }

    /// Refuses what a delegated role lists once its metadata have expired. The other roles were looked at when all was loaded.
    pub(super) fn check_fresh(&self, role: &DelegatedRole) -> Result<(), String> {
        match role.targets.as_ref().map(|metadata| metadata.signed.expires) {
            Some(expires) if expires < self.now => Err(format!(
                "the metadata of {} expired at {expires}: nothing new of it is activated until they are signed again",
                role.name
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a channel file older than one that was seen before; notes, durably, one that is newer. `role` signed it, or
    /// the top-level targets.
    pub(super) fn note_serial(
        &self,
        channel: &ChannelName,
        pack: &PackName,
        serial: u64,
        role: Option<&DelegatedRole>,
    ) -> Result<(), String> {
        let keys = match role {
            Some(role) => marks::key_ids(&role.keyids),
            None => targets_keys(&self.repository.root().signed),
        };
        let mut marks = self.marks.borrow_mut();
        match marks.note_serial(channel, pack, Mark { version: serial, keys }) {
            Ok(true) => marks::write(&marks, &self.marks_file).map_err(|e| super::error::chain(&e)),
            Ok(false) => Ok(()),
            Err(SerialError::Older(seen)) => Err(format!(
                "channel {channel} of {pack} is at serial {serial}, but serial {seen} was seen before: \
                 somebody may be replaying an old state"
            )),
            Err(SerialError::TooMany(most)) => Err(format!("more than {most} channel files are remembered already")),
        }
    }
}

/// Loads and verifies the metadata, without a look at when they expire.
async fn verify(source: &Source, transport: &SourceTransport, root: &str, tuf: &Path) -> Result<Repository, SyncError> {
    let (metadata, targets) = source.addresses()?;
    let limits = Limits { max_root_updates: 256, ..Limits::default() };
    RepositoryLoader::new(&root, metadata, targets)
        .transport(transport.clone())
        .limits(limits)
        .datastore(tuf)
        // Expiry is enforced by the caller: the library would stop every pack when one team's metadata have expired.
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load()
        .await
        .map_err(from_tough)
}

/// Removes the copies of delegated roles that the library leaves, one for each version, and never reads.
fn remove_copies(tuf: &Path) {
    for entry in fs::read_dir(tuf).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_suffix(".json")?.split_once('.'));
        if version.is_some_and(|(version, _)| !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()))
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove a copy of old metadata");
        }
    }
}

fn targets_keys(root: &Root) -> Vec<String> {
    root.roles.get(&RoleType::Targets).map_or_else(Vec::new, |keys| marks::key_ids(&keys.keyids))
}

/// The first of the four roles whose metadata have expired, in the order in which TUF looks at them.
fn expired(repository: &Repository, now: Timestamp) -> Option<RoleType> {
    let roles = [
        (RoleType::Root, repository.root().signed.expires),
        (RoleType::Timestamp, repository.timestamp().signed.expires),
        (RoleType::Snapshot, repository.snapshot().signed.expires),
        (RoleType::Targets, repository.targets().signed.expires),
    ];
    roles.into_iter().find(|(_, expires)| *expires < now).map(|(role, _)| role)
}

/// When the newest of the signed targets was published, as its publisher says.
fn published_at_ms(repository: &Repository) -> Option<u64> {
    repository.all_targets().filter_map(|(_, target)| target.custom.get("published_at_ms")?.as_u64()).max()
}

fn wrong_clock(now_ms: u64, what: &'static str, known_ms: u64) -> SyncError {
    SyncError::Clock { clock: at(now_ms), what, known: at(known_ms) }
}

/// To the second: people read it.
fn at(ms: u64) -> Timestamp {
    at_ms(ms / 1000 * 1000)
}

fn at_ms(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

fn from_tough(error: Tough) -> SyncError {
    match error {
        Tough::InvalidPath { source } => SyncError::Outside(source.to_string()),
        error => SyncError::Metadata(Box::new(error)),
    }
}

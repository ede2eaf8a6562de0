//! Metadata of the repository: signed by the accepted keys, not expired, and not older than the high-water marks.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use packs_schema::agent::config::RepositoryConfig;
use packs_schema::agent::rest::SignatureEnd;
use packs_schema::base::name::{ChannelName, PackName};
use packs_schema::delivery::marks::{Mark, Marks, SerialError};
use tough::error::Error as Tough;
use tough::schema::{DelegatedRole, RoleType, Root};
use tough::{ExpirationEnforcement, IntoVec, Limits, Repository, RepositoryLoader, TargetName, TransportErrorKind};

use super::clock::{Clock, SLACK_MS};
use super::clock_floor::{ClockFloor, PUBLISHER_SLACK_MS};
use super::high_water_marks;
use super::lookup::{Lookup, roles};
use super::source::{Source, SourceTransport};
use super::{SyncError, disk, root};

/// Maximum number of roots that one verification follows.
pub(super) const MAX_ROOT_UPDATES: u64 = 256;

/// Maximum number of teams whose ends are reported.
const MAX_TEAMS: usize = 20;

/// Metadata that were verified completely.
#[derive(Debug)]
pub(super) struct Metadata {
    repository: Repository,
    transport: SourceTransport,
    marks: RefCell<Marks>,
    marks_file: PathBuf,
    now: Timestamp,
}

impl Metadata {
    /// Loads and verifies the current metadata of `source`. `tuf` is the directory of the records of previous polls.
    ///
    /// Expiry is decided by the clock, so the clock is checked first: it must not be behind the earliest possible time (see
    /// [`ClockFloor`]), nor more than a day behind the newest signed publication time.
    pub(super) async fn load(
        source: &Source,
        config: &RepositoryConfig,
        tuf: &Path,
        clock: &Clock,
    ) -> Result<Metadata, SyncError> {
        let now_ms = clock.wall_ms;
        let floor = ClockFloor::read(tuf);
        let earliest_ms = floor.as_ref().map(|floor| floor.earliest_ms(clock));
        if let Some(at_ms) = earliest_ms.filter(|at_ms| now_ms.saturating_add(SLACK_MS) < *at_ms) {
            return Err(wrong_clock(
                now_ms,
                "by signed metadata, the bucket and the time since the boot it is at least",
                at_ms,
            ));
        }
        // The library records the time of the unchecked clock: after a clock far ahead it would refuse the right time.
        let library_clock = tuf.join("latest_known_time.json");
        disk::remove_if_there(&library_clock).map_err(SyncError::file("remove", &library_clock))?;
        let root = root::read_text(&config.root)?;
        let marks_file = high_water_marks::path(tuf);
        let seen = high_water_marks::read(&marks_file)?;
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
        // A snapshot that omits a delegated role would hide that role's targets.
        if let Some(role) = roles(&repository.targets().signed).find(|role| role.targets.is_none()) {
            return Err(SyncError::Missing { role: role.name.clone() });
        }
        let published_ms = published_at_ms(&repository);
        if let Some(at_ms) = published_ms.filter(|at_ms| now_ms.saturating_add(PUBLISHER_SLACK_MS) < *at_ms) {
            return Err(wrong_clock(now_ms, "the repository has a target that was published at", at_ms));
        }
        let found = high_water_marks::of(&repository);
        let advanced = match &seen {
            Some(seen) => seen.advance(&found)?,
            None => found,
        };
        if seen.as_ref() != Some(&advanced) {
            high_water_marks::write(&advanced, &marks_file)?;
        }
        ClockFloor::after(floor.as_ref(), clock, published_ms, source.date_ms()).write(tuf)?;
        Ok(Metadata { repository, transport, marks: RefCell::new(advanced), marks_file, now })
    }

    /// Reads a small target completely, verified. A cached one that does not verify is fetched.
    pub(super) async fn read(&self, target: &TargetName) -> Result<Option<Vec<u8>>, Box<Tough>> {
        let read = match self.read_once(target).await {
            Err(_) if self.transport.forget_served() => self.read_once(target).await,
            read => read,
        };
        match &read {
            Ok(_) => self.transport.keep_verified(),
            // The received bytes are not cached.
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

    /// Removes cached files that this poll, which processed every pack, did not need.
    pub(super) fn prune_cache(&self) {
        self.transport.prune();
    }

    /// Returns the repository.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the ends of the signatures: of the four roles, and of the teams whose signatures end first.
    pub(super) fn expires(&self) -> Vec<SignatureEnd> {
        let end = |role: String, at: Timestamp| SignatureEnd {
            role,
            expires_at_ms: u64::try_from(at.as_millisecond()).unwrap_or_default(),
        };
        let mut ends: Vec<SignatureEnd> =
            roles_with_ends(&self.repository).into_iter().map(|(role, at)| end(role.to_string(), at)).collect();
        let teams = roles(&self.repository.targets().signed);
        let mut teams: Vec<SignatureEnd> =
            teams.filter_map(|role| Some(end(role.name.clone(), role.targets.as_ref()?.signed.expires))).collect();
        teams.sort_by_key(|team| team.expires_at_ms);
        teams.truncate(MAX_TEAMS);
        ends.extend(teams);
        ends
    }

    /// Returns the lookup of targets.
    pub(super) fn lookup(&self) -> Lookup<'_> {
        Lookup::new(&self.repository)
    }

    /// Refuses targets of a delegated role whose metadata have expired. The other roles were checked when the metadata were loaded.
    pub(super) fn check_fresh(&self, role: &DelegatedRole) -> Result<(), String> {
        match role.targets.as_ref().map(|metadata| metadata.signed.expires) {
            Some(expires) if expires < self.now => Err(format!(
                "the metadata of {} expired at {expires}: none of its new versions is activated until they are signed again",
                role.name
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a channel file with a serial below its high-water mark; records a higher one durably. `role` signed it, or the
    /// top-level targets.
    pub(super) fn check_serial(
        &self,
        channel: &ChannelName,
        pack: &PackName,
        serial: u64,
        role: Option<&DelegatedRole>,
    ) -> Result<(), String> {
        let keys = match role {
            Some(role) => high_water_marks::key_ids(&role.keyids),
            None => targets_keys(&self.repository.root().signed),
        };
        let mut marks = self.marks.borrow_mut();
        match marks.note_serial(channel, pack, Mark { version: serial, keys }) {
            Ok(true) => high_water_marks::write(&marks, &self.marks_file).map_err(|e| super::error::chain(&e)),
            Ok(false) => Ok(()),
            Err(SerialError::Older(seen)) => Err(format!(
                "channel {channel} of {pack} is at serial {serial}, but serial {seen} was seen before: \
                 an attacker may be replaying an old state"
            )),
            Err(SerialError::TooMany(most)) => {
                Err(format!("there are high-water marks of {most} channel files already, which is the maximum"))
            }
        }
    }
}

/// Loads and verifies the metadata, except for their expiry.
async fn verify(source: &Source, transport: &SourceTransport, root: &str, tuf: &Path) -> Result<Repository, SyncError> {
    let (metadata, targets) = source.addresses()?;
    let limits = Limits { max_root_updates: MAX_ROOT_UPDATES, ..Limits::default() };
    RepositoryLoader::new(&root, metadata, targets)
        .transport(transport.clone())
        .limits(limits)
        .datastore(tuf)
        // The caller enforces expiry: the library would stop every pack when one team's metadata have expired.
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load()
        .await
        .map_err(from_tough)
}

/// Removes the copies of delegated roles that the library writes, one for each version, and never reads.
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
    root.roles.get(&RoleType::Targets).map_or_else(Vec::new, |keys| high_water_marks::key_ids(&keys.keyids))
}

/// Returns the first of the four roles whose metadata have expired, in TUF's order.
pub(super) fn expired(repository: &Repository, now: Timestamp) -> Option<RoleType> {
    roles_with_ends(repository).into_iter().find(|(_, expires)| *expires < now).map(|(role, _)| role)
}

fn roles_with_ends(repository: &Repository) -> [(RoleType, Timestamp); 4] {
    [
        (RoleType::Root, repository.root().signed.expires),
        (RoleType::Timestamp, repository.timestamp().signed.expires),
        (RoleType::Snapshot, repository.snapshot().signed.expires),
        (RoleType::Targets, repository.targets().signed.expires),
    ]
}

/// Returns the newest publication time of the signed targets.
fn published_at_ms(repository: &Repository) -> Option<u64> {
    repository.all_targets().filter_map(|(_, target)| target.custom.get("published_at_ms")?.as_u64()).max()
}

fn wrong_clock(now_ms: u64, what: &'static str, known_ms: u64) -> SyncError {
    SyncError::Clock { clock: at(now_ms), what, known: at(known_ms) }
}

/// Truncates to seconds, for messages.
fn at(ms: u64) -> Timestamp {
    at_ms(ms / 1000 * 1000)
}

fn at_ms(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// Converts an error of the TUF library; missing files and paths outside a delegation have texts of their own.
pub(super) fn from_tough(error: Tough) -> SyncError {
    match error {
        Tough::InvalidPath { source } => SyncError::Outside(source.to_string()),
        Tough::Transport { url, source, .. } if source.kind() == TransportErrorKind::FileNotFound => {
            SyncError::Incomplete(url.to_string())
        }
        error => SyncError::Metadata(Box::new(error)),
    }
}

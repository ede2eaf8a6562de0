//! A publisher's pinned root, and its high-water marks: the highest versions that it has seen. Both are files beside its keys, and
//! never come from the repository itself, whose storage may belong to others.
//!
//! ```text
//!  init, trust ──▶ root.json ──Pinned──load──▶ Verified ──▶ State, which can be changed and committed
//!                    ▲                           │
//!                    └─ newer root, verified ────┤
//!                  marks.json ◀─ versions seen ──┘ and those written
//! ```
//!
//! A [`State`](super::state::State) that can be committed holds a [`Verified`], and only [`Pinned::load`] makes one: a command
//! cannot sign on the word of a repository that it did not verify from the pinned root.
//!
//! Order on the disk: a new root is written to the repository first and pinned afterwards, when it was verified from there. A
//! publisher that stops in between follows the chain from the old pin the next time. Processes that share the files take turns
//! by a lock; the pin and the marks only ever move forward.
//!
//! `--accept-older` accepts one older state, by the digest of its timestamp; the next change signs everything in it with versions
//! above the marks, so that agents take it. The serial of a channel may then be one that an agent saw: the agent refuses that
//! channel until the serial has risen.

mod files;
mod pin;

use std::path::{Path, PathBuf};

use packs_schema::delivery::marks::{Mark, Marks, MarksError};
use tough::Repository;
use tough::schema::{Role, RoleType, Root, Signed};

use super::access::Access;
use super::storage::Storage;
use super::{RepoError, hex};
use crate::repo::PinError;
pub(super) use files::TrustFiles;
pub use pin::{TrustOptions, Trusted, trust};

/// Maximum size of a root, in bytes.
pub(super) const MAX_ROOT: u64 = 1 << 20;

/// Root that a change is verified from.
#[derive(Debug, Clone)]
pub(super) struct Pinned {
    files: TrustFiles,
    /// A root that was given for this command only; it is used instead of the pinned one.
    given: Option<PathBuf>,
}

/// Proof that a repository was verified, with the high-water marks afterwards.
#[derive(Debug)]
pub(super) struct Verified {
    pinned: Pinned,
    marks: Marks,
    /// True if the state is older than one seen before, and was accepted with `--accept-older`.
    pub(super) is_older: bool,
}

impl Pinned {
    /// Opens the pinned root of the publisher. It is an error if there is none, or if the versions seen cannot be kept.
    pub(super) fn open(access: &Access) -> Result<Pinned, RepoError> {
        let files = TrustFiles::of(&access.keys, access.state.as_deref());
        let pinned = Pinned { files, given: access.root.clone() };
        pinned.root()?;
        pinned.files.check_writable()?;
        Ok(pinned)
    }

    /// Reads the trusted root; again for each use, since another process may have advanced it.
    fn root(&self) -> Result<Vec<u8>, RepoError> {
        match &self.given {
            Some(path) => files::read_root(path),
            None => self
                .files
                .root()?
                .ok_or_else(|| RepoError::Trust(PinError::NotPinned { directory: self.files.directory().to_owned() })),
        }
    }

    /// Loads and verifies the repository, under the root of version `newest` at most when that is given, and keeps the versions seen.
    pub(super) async fn load(
        &self,
        storage: &Storage,
        newest: Option<u64>,
    ) -> Result<(Repository, Verified), RepoError> {
        // Before the repository is read: another process of this publisher may write marks in between.
        let seen = self.files.marks()?;
        let repository = storage.load(&self.root()?, newest).await?;
        let found = marks(&repository);
        let (marks, is_older) = match seen.as_ref().map_or_else(|| Ok(found.clone()), |seen| seen.advance(&found)) {
            Ok(marks) => (marks, false),
            Err(MarksError::Older { .. }) if self.files.is_accepted(&digest(&repository)?) => {
                (seen.map_or_else(|| found.clone(), |seen| seen.highest(&found)), true)
            }
            Err(source) => {
                let (storage, directory) = (storage.name(), self.files.directory().to_owned());
                return Err(RepoError::Trust(PinError::Older { storage, directory, source }));
            }
        };
        // With a root that was given it is not known yet whether this is the repository of these keys: signing will show.
        if self.given.is_none() {
            self.files.keep(Some(repository.root()), &marks)?;
        }
        Ok((repository, Verified { pinned: self.clone(), marks, is_older }))
    }

    /// Pins the root in another directory with new keys, unless one is pinned there.
    pub(super) fn copy_to(&self, directory: &Path) -> Result<(), RepoError> {
        let root = self.root()?;
        files::pin_unless_there(directory, &root)
    }
}

impl Verified {
    /// Returns the highest version of `role` that was ever seen.
    pub(super) fn seen(&self, role: &str) -> u64 {
        self.marks.version(role)
    }

    /// Records the versions of the roles that were just written.
    pub(super) fn written(self, roles: Vec<(String, Mark)>) -> Result<(), RepoError> {
        let mut marks = self.marks;
        for (role, mark) in roles {
            marks.set(&role, mark);
        }
        let files = &self.pinned.files;
        let kept = files.keep(None, &marks).and_then(|()| if self.is_older { files.forget_accepted() } else { Ok(()) });
        kept.map_err(|source| RepoError::Trust(PinError::NotKept { source: Box::new(source) }))
    }
}

/// Repository to read, and the root to verify it against.
#[derive(Debug, Clone)]
pub struct View {
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    pub repository: PathBuf,
    /// Directory of the publisher's keys, where its root is pinned.
    pub keys: Option<PathBuf>,
    /// Directory of pin and marks; absent: that of the keys.
    pub state: Option<PathBuf>,
    /// A trusted root to use instead of the pinned one.
    pub root: Option<PathBuf>,
    /// Read the archives that channels hold in a bucket, instead of only listing them.
    pub read_archives: bool,
}

impl View {
    /// Returns a view that verifies nothing: the repository vouches for itself.
    pub fn unverified(repository: impl Into<PathBuf>) -> View {
        View { repository: repository.into(), keys: None, state: None, root: None, read_archives: false }
    }

    /// Returns a view that verifies from the root pinned beside these keys.
    pub fn pinned(repository: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> View {
        View { keys: Some(keys.into()), ..View::unverified(repository) }
    }

    /// True if there is something to verify the repository against.
    pub fn is_verified(&self) -> bool {
        self.keys.is_some() || self.state.is_some() || self.root.is_some()
    }

    /// Loads the repository; writes nothing.
    pub(super) async fn load(&self, storage: &Storage) -> Result<Repository, RepoError> {
        let files = match (&self.keys, &self.state) {
            (Some(keys), state) => Some(TrustFiles::of(keys, state.as_deref())),
            (None, Some(state)) => Some(TrustFiles::of(state, None)),
            (None, None) => None,
        };
        let root = match (&self.root, &files) {
            (Some(path), _) => files::read_root(path)?,
            (None, Some(files)) => {
                let directory = files.directory().to_owned();
                files.root()?.ok_or(RepoError::Trust(PinError::NotPinned { directory }))?
            }
            // The caller says loudly that this verifies nothing.
            (None, None) => storage.first_root().await?,
        };
        let repository = storage.load(&root, None).await?;
        let Some(files) = files else { return Ok(repository) };
        match files.marks()?.map(|seen| seen.advance(&marks(&repository))) {
            Some(Err(source)) if !files.is_accepted(&digest(&repository)?) => {
                let (storage, directory) = (storage.name(), files.directory().to_owned());
                Err(RepoError::Trust(PinError::Older { storage, directory, source }))
            }
            _ => Ok(repository),
        }
    }
}

/// Pins the root of a new repository beside its keys.
pub(super) fn pin_new(keys: &Path, root: &[u8]) -> Result<Signed<Root>, RepoError> {
    files::pin_unless_there(keys, root)?;
    files::parse_root(&keys.join("root.json"), root)
}

/// Returns the digest of a root's signed part: the same for the same root, however its file is formatted.
pub(super) fn fingerprint(root: &Signed<Root>) -> Result<String, RepoError> {
    digest_of(&root.signed)
}

fn digest(repository: &Repository) -> Result<String, RepoError> {
    digest_of(&repository.timestamp().signed)
}

fn digest_of(role: &impl Role) -> Result<String, RepoError> {
    use sha2::Digest as _;
    let canonical = role.canonical_form().map_err(|e| RepoError::Tuf { what: "read a role", error: e.to_string() })?;
    Ok(hex(&sha2::Sha256::digest(&canonical)))
}

/// Returns the high-water marks of a verified repository.
fn marks(repository: &Repository) -> Marks {
    let root = &repository.root().signed;
    let top = |name, role: RoleType, version: u64| (name, Mark::new(version, top_keys(root, role)));
    let top = [
        top("root", RoleType::Root, root.version.get()),
        top("targets", RoleType::Targets, repository.targets().signed.version.get()),
        top("snapshot", RoleType::Snapshot, repository.snapshot().signed.version.get()),
        top("timestamp", RoleType::Timestamp, repository.timestamp().signed.version.get()),
    ];
    let delegations = repository.targets().signed.delegations.iter();
    let delegated = delegations.flat_map(|delegations| &delegations.roles).filter_map(|role| {
        let version = role.targets.as_ref()?.signed.version.get();
        Some((role.name.clone(), Mark::new(version, role.keyids.iter().map(|id| hex(id)).collect())))
    });
    Marks::of(top, delegated)
}

/// Returns the ids of the keys that a root gives a role.
pub(super) fn top_keys(root: &Root, role: RoleType) -> Vec<String> {
    root.roles.get(&role).map_or_else(Vec::new, |keys| keys.keyids.iter().map(|id| hex(id)).collect())
}

//! Errors of a publisher's pinned root and high-water marks.

use std::io;
use std::path::PathBuf;

use packs_schema::delivery::marks::MarksError;

use super::RepoError;

/// Error about the pinned root or the versions seen.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No trusted root is pinned.
    #[error(
        "no trusted root is pinned in {}: get root.json from whoever ran `bolt repo init`, or the file of repository.root from an \
         agent's configuration, and never from the repository itself; pin it with `bolt repo trust --root FILE`, with the same --repo, \
         --keys and --state, and compare its fingerprint",
        crate::show::path(directory)
    )]
    NotPinned {
        /// Directory in which it would be.
        directory: PathBuf,
    },
    /// Another root is pinned.
    #[error(
        "{} pins another root: leave --root out to keep it, or remove the file first if this repository was made again",
        crate::show::path(path)
    )]
    PinnedAlready {
        /// The pinned root.
        path: PathBuf,
    },
    /// The root has another fingerprint than the given one.
    #[error("{} has the fingerprint {found}, not {wanted}: it is not the root that was meant", crate::show::path(path))]
    OtherFingerprint {
        /// The file.
        path: PathBuf,
        /// Its fingerprint.
        found: String,
        /// The given fingerprint.
        wanted: String,
    },
    /// The repository is at an older state than one seen before.
    #[error(
        "{} is at an older state than one that was seen before (see {}/marks.json): it was restored from an old copy, or an \
         attacker replays it, so nothing is signed; restore the newest copy, use another --state directory for a different repository, or \
         go on from this state with `bolt repo trust --accept-older`",
        crate::show::path(storage),
        crate::show::path(directory)
    )]
    Older {
        /// The repository.
        storage: PathBuf,
        /// Directory of the high-water marks.
        directory: PathBuf,
        /// The role.
        #[source]
        source: MarksError,
    },
    /// A file of pin or marks is damaged.
    #[error("{} cannot be used: {problem}; restore it from a copy", crate::show::path(path))]
    BadTrustFile {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A file of pin or marks can be changed by others.
    #[error(
        "{} can be changed by others (mode {mode:04o}), and it says whom to trust: run `chmod go-w {}`",
        crate::show::path(path),
        crate::show::path(path)
    )]
    LaxTrustFile {
        /// The file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A file of pin or marks, or a directory or link on the way to it, belongs to another user.
    #[error(
        "{} belongs to user {owner}, who could change whom this publisher trusts: run `chown` with your own user on it, or move \
         the files to a directory of yours",
        crate::show::path(path)
    )]
    ForeignTrustFile {
        /// The file, directory or link.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
    },
    /// The versions seen cannot be kept.
    #[error(
        "cannot keep the trusted root and the versions seen in {}: give a directory that can be written, and that stays between runs, \
         with --state",
        crate::show::path(directory)
    )]
    NoState {
        /// The directory.
        directory: PathBuf,
        /// Error of the operating system or library.
        #[source]
        source: io::Error,
    },
    /// The change was made, but its versions could not be recorded.
    #[error("the change was made, but the versions that were written could not be noted for the next one")]
    NotKept {
        /// Error of the operating system or library.
        #[source]
        source: Box<RepoError>,
    },
}

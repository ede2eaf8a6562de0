//! Checks owners and modes of files that decide what is trusted, for the api and the sync, by the rule of
//! [`packs_schema::base::trust`].

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use packs_schema::base::trust::{self, PathMetadata, Purpose, ReaderIds, TrustError};

/// Checks the file at `path`, and every directory and link on the way to it.
pub(crate) fn check(path: &Path, purpose: Purpose) -> Result<(), TrustError<io::Error>> {
    trust::check(path, purpose, &reader(), read_metadata)
}

fn read_metadata(path: &Path) -> io::Result<PathMetadata> {
    let meta = path.symlink_metadata()?;
    let link = if meta.is_symlink() { Some(path.read_link()?) } else { None };
    Ok(PathMetadata { owner: meta.uid(), group: meta.gid(), mode: meta.mode() & 0o7777, link })
}

/// Describes this process with its current effective user. It is separated from its launcher unless the parent runs as the
/// same user; a parent that cannot be examined counts as another user.
fn reader() -> ReaderIds {
    static KNOWN: Mutex<Option<ReaderIds>> = Mutex::new(None);
    let user = nix::unistd::geteuid().as_raw();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // `check-config` changes its effective user.
    if let Some(reader) = known.as_ref().filter(|reader| reader.user == user) {
        return reader.clone();
    }
    let parent = std::fs::metadata(format!("/proc/{}", nix::unistd::getppid()));
    let mut groups: Vec<u32> = nix::unistd::getgroups().unwrap_or_default().iter().map(|g| g.as_raw()).collect();
    let group = nix::unistd::getegid().as_raw();
    groups.push(group);
    let reader = ReaderIds { user, group, groups, separated: !parent.is_ok_and(|parent| parent.uid() == user) };
    known.insert(reader).clone()
}

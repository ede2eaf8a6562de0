//! Checks owners and modes of trusted files, by the rule of [`packs_schema::base::trust`].

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use packs_schema::base::trust::{self, PathMetadata, Purpose, ReaderIds, TrustError};

/// Checks that only root (without root, also this user) can change or replace the file at `path`.
pub(crate) fn check(path: &Path) -> Result<(), TrustError<io::Error>> {
    let user = nix::unistd::geteuid().as_raw();
    let group = nix::unistd::getegid().as_raw();
    trust::check(path, Purpose::Anchor, &ReaderIds { user, group, groups: Vec::new(), separated: false }, read_owner)
}

/// Reads owner, mode and link target without following a symbolic link.
fn read_owner(path: &Path) -> io::Result<PathMetadata> {
    let meta = path.symlink_metadata()?;
    let link = if meta.is_symlink() { Some(path.read_link()?) } else { None };
    Ok(PathMetadata { owner: meta.uid(), group: meta.gid(), mode: meta.mode() & 0o7777, link })
}

//! `bolt repo key-passphrase`: encrypts key files with another passphrase, for a copy that goes to a team or a job.

use std::path::{Path, PathBuf};

use super::RepoError;
use super::keys::{self, KeyRing};
use super::passphrase::{Passphrase, Unlock};

/// Encrypts the keys in `paths`, which `unlock` opens, with a new passphrase. Every file is opened before the first is replaced.
pub fn key_passphrase(paths: &[PathBuf], unlock: &Unlock, new: &Passphrase) -> Result<(), RepoError> {
    let mut ring = KeyRing::new(Path::new("."), unlock);
    let mut changed = Vec::new();
    for path in paths {
        changed.push((path.as_path(), keys::encrypt_again(path, &mut ring, new)?));
    }
    changed.into_iter().try_for_each(|(path, text)| write(path, &text))
}

fn write(path: &Path, text: &str) -> Result<(), RepoError> {
    Ok(crate::files::replace_private(path, text.as_bytes())?)
}

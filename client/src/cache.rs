//! Files in the client's cache directory, `$XDG_CACHE_HOME/bolt` (mode 0600): one of each kind for each client configuration.
//!
//! A cache makes things faster and is never needed: what cannot be read or written is ignored.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::config::{Config, Setting};
use crate::files;

/// Maximum number of files of a kind.
const MAX_FILES: usize = 16;

/// Returns the file of a kind for a client configuration; `None` without a home directory of one's own, or without a
/// certificate.
pub(crate) fn path(config: &Config, kind: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    let directory = base.join("bolt");
    if !is_own(&directory) {
        return None;
    }
    let mut hash = Sha256::new();
    let inventory = match config.sources() {
        [] => config.value(Setting::Inventory)?,
        _ => config.file().path.as_deref()?,
    };
    for path in [inventory, config.value(Setting::Certificate)?, config.value(Setting::Ca)?] {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        hash.update(absolute.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(directory.join(format!("{kind}-{digest}.json")))
}

/// True if only this user and root can put something else in the place of the directory or its parents, as far as these
/// exist: with `sudo`, `HOME` may be that of another user, who could lead a write of root elsewhere.
fn is_own(directory: &Path) -> bool {
    let user = geteuid().as_raw();
    directory.ancestors().take(3).all(|directory| match fs::metadata(directory) {
        Ok(meta) => {
            let others_may_write = meta.mode() & 0o002 != 0;
            let is_sticky = meta.mode() & 0o1000 != 0;
            meta.is_dir() && [user, 0].contains(&meta.uid()) && (is_sticky || !others_may_write)
        }
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    })
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Option<T> {
    // Without waiting for a writer of a pipe.
    let file = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).ok()?;
    let meta = file.metadata().ok().filter(|meta| meta.is_file() && meta.len() <= limit)?;
    let mut text = Vec::with_capacity(usize::try_from(meta.len()).ok()?);
    file.take(limit).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Replaces a file, unless it would be larger than `limit` bytes, and removes the oldest ones of its kind.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T, limit: u64) -> Option<()> {
    let text = serde_json::to_vec(value).ok().filter(|text| text.len() as u64 <= limit)?;
    let directory = path.parent()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let (kind, _) = name.split_once('-')?;
    files::create_dir(directory).ok()?;
    // A link is replaced, not followed.
    let mut temporary = tempfile::Builder::new().prefix(kind).suffix(".tmp").tempfile_in(directory).ok()?;
    temporary.write_all(&text).ok()?;
    temporary.persist(path).ok()?;
    remove_oldest(directory, kind);
    Some(())
}

/// Removes the oldest files of a kind beyond [`MAX_FILES`].
fn remove_oldest(directory: &Path, kind: &str) {
    let is_cache = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".json"))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_cache);
    let mut files: Vec<(std::time::SystemTime, PathBuf)> =
        entries.filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).collect();
    files.sort();
    let surplus = files.len().saturating_sub(MAX_FILES);
    files.into_iter().take(surplus).for_each(|(_, path)| drop(fs::remove_file(path)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_of_a_kind_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("bolt");
        for number in 0..MAX_FILES + 3 {
            write(&directory.join(format!("some-{number}.json")), &number, 100).unwrap();
            write(&directory.join("other-0.json"), &number, 100).unwrap();
        }
        let names = |kind: &str| {
            let entries = fs::read_dir(&directory).unwrap();
            entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(kind)).count()
        };
        assert_eq!((names("some-"), names("other-")), (MAX_FILES, 1));
        assert_eq!(read::<usize>(&directory.join("other-0.json"), 100), Some(MAX_FILES + 2));
        assert_eq!(write(&directory.join("some-x.json"), &"x".repeat(100), 100), None);
    }

    #[test]
    fn a_cache_directory_that_another_user_could_replace_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let cache = temp.path().join("cache");
        let directory = cache.join("bolt");
        assert!(is_own(&directory), "it is made when it is missing");
        fs::create_dir_all(&directory).unwrap();
        assert!(is_own(&directory));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&cache, 0o777);
        assert!(!is_own(&directory));
        mode(&cache, 0o1777);
        assert!(is_own(&directory), "others cannot rename in a sticky directory");
        mode(&cache, 0o755);
        if geteuid().is_root() {
            for path in [&directory, &cache] {
                std::os::unix::fs::chown(path, Some(12345), None).unwrap();
                assert!(!is_own(&directory), "{path:?}");
                std::os::unix::fs::chown(path, Some(0), None).unwrap();
            }
        }
    }
}

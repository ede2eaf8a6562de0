//! Reads of the store of activated packs: by descriptor, with a size limit, and only what belongs to root or the account of the
//! sync.

use std::io;
use std::path::Path;

use nix::sys::stat::FileStat;
use packs_schema::agent::launch::Refusal;
use serde::de::DeserializeOwned;

use crate::dir::{Dir, WRITABLE_BY_OTHERS};
use crate::host::Host;
use crate::refusal::{Refused, refuse};

/// Reads a JSON file of at most `limit` bytes; a missing file is refused with the code `absent`.
pub(super) fn read_json<T: DeserializeOwned>(
    host: &Host,
    dir: &Dir,
    name: &str,
    limit: u64,
    absent: Refusal,
) -> Result<T, Refused> {
    let path = dir.path().join(name);
    let (bytes, stat) = match dir.read(name, limit) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return refuse(absent, format!("{} does not exist", path.display()));
        }
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("{}: {e}", path.display())),
    };
    check_owner(host, &stat, &path, Refusal::StoreUntrusted)?;
    serde_json::from_slice(&bytes).or_else(|e| refuse(Refusal::StoreUntrusted, format!("{}: {e}", path.display())))
}

/// Returns `dir` if it belongs to root or the sync and no other account can change it.
pub(super) fn trusted(host: &Host, dir: Dir) -> Result<Dir, Refused> {
    let stat = dir.stat().or_else(|e| refuse(Refusal::StoreUntrusted, format!("{}: {e}", dir.path().display())))?;
    check_owner(host, &stat, dir.path(), Refusal::StoreUntrusted)?;
    Ok(dir)
}

/// Refuses, with `code`, a file or directory that another account than root or the sync's can change.
pub(super) fn check_owner(host: &Host, stat: &FileStat, path: &Path, code: Refusal) -> Result<(), Refused> {
    if host.trusts(stat.st_uid) && stat.st_mode & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let message = format!(
        "{} must belong to root or the sync's account and not be writable by group or others; it has owner {owner}, mode {mode:o}",
        path.display()
    );
    refuse(code, message)
}

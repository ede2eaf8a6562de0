//! Reads of the store of activated packs: by descriptor, with a size limit, and only what belongs to root or the account of the
//! sync.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::stat::FileStat;
use packs_schema::agent::launch::Refusal;
use serde::de::DeserializeOwned;

use crate::dir::{Dir, WRITABLE_BY_OTHERS};
use crate::host::Host;
use crate::parsed::Parsed;
use crate::refusal::{Refused, refuse};

/// Reads a JSON file of at most `limit` bytes; a missing file is refused with the code `absent`.
pub(super) fn read_json<T: DeserializeOwned>(
    host: &Host,
    dir: &Dir,
    name: &str,
    limit: u64,
    absent: Refusal,
) -> Result<T, Refused> {
    let (file, _, path) = open(host, dir, name, absent)?;
    parse(file, &path, limit)
}

/// Does the same, and keeps the value in `parsed` for the next time.
pub(super) fn read_json_once<T: DeserializeOwned>(
    host: &Host,
    dir: &Dir,
    name: &str,
    limit: u64,
    absent: Refusal,
    parsed: &Parsed<T>,
) -> Result<Rc<T>, Refused> {
    let (file, stat, path) = open(host, dir, name, absent)?;
    match parsed.get(&stat) {
        Some(value) => Ok(value),
        None => Ok(parsed.put(&stat, parse(file, &path, limit)?)),
    }
}

fn open(host: &Host, dir: &Dir, name: &str, absent: Refusal) -> Result<(File, FileStat, PathBuf), Refused> {
    let path = dir.path().join(name);
    let (file, stat) = match dir.regular_file(name) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return refuse(absent, format!("{} does not exist", path.display()));
        }
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("{}: {e}", path.display())),
    };
    check_owner(host, &stat, &path, Refusal::StoreUntrusted)?;
    Ok((file, stat, path))
}

fn parse<T: DeserializeOwned>(file: File, path: &Path, limit: u64) -> Result<T, Refused> {
    let untrusted =
        |e: &dyn fmt::Display| Refused { code: Refusal::StoreUntrusted, message: format!("{}: {e}", path.display()) };
    let bytes = Dir::read_all(file, limit).map_err(|e| untrusted(&e))?;
    serde_json::from_slice(&bytes).map_err(|e| untrusted(&e))
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

//! Withdrawn versions: no execution may start in them, not even one that was accepted while they were active. Their definitions
//! are removed at once; their files remain for running executions.
//!
//! The definitions are set aside instead of deleted, so that a version that is activated again is recognized.

use std::fs;
use std::io;
use std::path::Path;

use packs_schema::agent::store::{META, WITHDRAWN};
use packs_schema::base::name::{PackName, PackVersion};

use super::error::{PackFailure, Step};
use super::store::{Store, parse_version_directory};
use super::{disk, pushed};

/// Sets the definitions of these versions aside, except for the signed version that is active or covered by a pushed one: that
/// one is replaced first.
pub(super) fn strip(store: &Store, pack: &PackName, withdrawn: &[PackVersion]) -> Result<(), PackFailure> {
    let home = store.pack(pack);
    if withdrawn.is_empty() || !home.is_dir() {
        return Ok(());
    }
    strip_all(&home, withdrawn).map_err(PackFailure::file(Step::Activate, "withdraw versions in", &home))
}

fn strip_all(home: &Path, withdrawn: &[PackVersion]) -> io::Result<()> {
    let record = pushed::read(home)?;
    let pushed = pushed::pushed_directories(&record);
    let kept = [pushed::current(home)?, pushed::signed(home)?];
    for entry in fs::read_dir(home)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let is_withdrawn = parse_version_directory(&name).is_some_and(|version| withdrawn.contains(&version));
        if !is_withdrawn || pushed.contains(name.as_str()) || kept.iter().flatten().any(|kept| *kept == name) {
            continue;
        }
        let version = home.join(&name);
        if version.join(META).symlink_metadata().is_err() {
            continue;
        }
        discard(&version)?;
        fs::rename(version.join(META), version.join(WITHDRAWN))?;
        disk::sync_directory(&version)?;
        tracing::warn!(version = %version.display(), "version withdrawn: nothing can be started in it");
    }
    Ok(())
}

/// Removes definitions that were set aside, for a version that is activated again.
pub(super) fn discard(version: &Path) -> io::Result<()> {
    disk::remove_directory_if_there(&version.join(WITHDRAWN))
}

//! Owners and modes of the agent's directories. The launcher creates those that are missing.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use packs_schema::agent::config::Config;

use super::{Identity, Report, is_root};

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Checks the directories under `[paths]` against the accounts that must own them.
pub(super) fn check(config: &Config, api: Option<&Identity>, sync: Option<&Identity>, report: &mut Report) {
    let paths = &config.paths;
    let us = nix::unistd::geteuid().as_raw();
    let owner = |identity: Option<&Identity>| identity.map(|identity| identity.account.uid);
    for (path, key, owner) in [
        (&paths.state, "paths.state", owner(api)),
        (&paths.executions(), "paths.state", owner(api)),
        (&paths.packs, "paths.packs", owner(sync)),
        (&paths.runtime, "paths.runtime", Some(us)),
    ] {
        if let Some(owner) = owner {
            check_own(path, key, owner, report);
        }
    }
    if is_root() {
        check_above(&paths.packs, owner(sync), report);
    }
}

fn check_own(path: &Path, key: &str, owner: u32, report: &mut Report) {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        // The launcher creates it at its start.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return report.error(path, format!("cannot examine it ({key}): {error}")),
    };
    let mode = meta.mode() & 0o7777;
    if !meta.is_dir() {
        report.error(path, format!("{key} must be a directory, not a link or file"));
    } else if meta.uid() != owner {
        let message =
            format!("{key} belongs to user {}, not to {owner}: run `chown {owner} {}`", meta.uid(), path.display());
        report.error(path, message);
    } else if mode & GROUP_OR_OTHERS_WRITE != 0 {
        let message = format!("{key} may be written by others (mode {mode:04o}): run `chmod go-w {}`", path.display());
        report.error(path, message);
    }
}

/// Checks that no other account can replace the store of packs by way of a directory above it.
fn check_above(packs: &Path, sync: Option<u32>, report: &mut Report) {
    let real = packs.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_else(|| "/".into());
    let above = real.ancestors().skip(usize::from(real.as_path() == packs));
    for path in above {
        let Ok(meta) = path.metadata() else { continue };
        let mode = meta.mode() & 0o7777;
        let owned = meta.uid() == 0 || Some(meta.uid()) == sync;
        if !owned {
            let message =
                format!("above paths.packs, it belongs to user {}: run `chown root {}`", meta.uid(), path.display());
            report.error(path, message);
        } else if mode & GROUP_OR_OTHERS_WRITE != 0 && mode & STICKY == 0 {
            let message = format!(
                "above paths.packs, it may be written by others (mode {mode:04o}): run `chmod go-w {}`",
                path.display()
            );
            report.error(path, message);
        }
    }
}

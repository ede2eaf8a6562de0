//! The store of activated packs: resolves a request to an action of the active version, its configuration and its entry point.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::fstat;
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::agent::store::{self, PushOverlay};
use packs_schema::base::strict;
use packs_schema::delivery::facts::{Facts, StoredFacts};
use packs_schema::pack::action::Action;
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value};

use super::store_file::{check_owner, read_json, read_json_once, trusted};
use super::venv::{self, Venv};
use crate::clock;
use crate::dir::{Dir, is_kind};
use crate::host::Host;
use crate::refusal::{Refused, refuse};

const MAX_PACK: u64 = 64 << 10;
const MAX_ACTION: u64 = 256 << 10;
const MAX_CONFIG: u64 = 64 << 10;
const MAX_FACTS: u64 = 256 << 10;
const MAX_PUSH_OVERLAY: u64 = 1 << 20;

/// Action of a request, with everything of the store that its execution needs. All of it was checked.
pub(super) struct ResolvedAction {
    pub(super) action: Action,
    /// The directory of the pack, with all its versions.
    pub(super) home: Dir,
    /// The directory of the version.
    pub(super) directory: Dir,
    pub(super) entry_path: PathBuf,
    /// The virtual environment of a Python action.
    pub(super) venv: Option<Venv>,
    /// The site configuration; empty if there is none.
    pub(super) config: SiteConfig,
    /// Time until a pushed version expires; absent for a signed version.
    pub(super) push_expires_in: Option<Duration>,
}

/// The open directories of a version.
struct VersionDirs {
    packs: Dir,
    pack: Dir,
    directory: Dir,
}

fn open_version(host: &Host, start: &Start) -> Result<VersionDirs, Refused> {
    let unknown_pack = |e: Errno| Refused {
        code: if e == Errno::ENOENT { Refusal::UnknownPack } else { Refusal::StoreUntrusted },
        message: format!("pack {} {} ({}) cannot be opened: {e}", start.pack, start.version, start.digest.short()),
    };
    let packs = trusted(host, Dir::open(&host.config.paths.packs).map_err(unknown_pack)?)?;
    let pack = trusted(host, packs.dir(start.pack.as_str()).map_err(unknown_pack)?)?;
    let version = store::version_directory(&start.version, &start.digest);
    let directory = trusted(host, pack.dir(&version).map_err(unknown_pack)?)?;
    if !directory.has(store::META).map_err(unknown_pack)? {
        let message = format!(
            "pack {} {} ({}) was withdrawn, or was pushed and has expired: no action of it can be started",
            start.pack,
            start.version,
            start.digest.short()
        );
        return refuse(Refusal::UnknownPack, message);
    }
    Ok(VersionDirs { packs, pack, directory })
}

/// Refuses a version that is not the active version of its pack.
pub(crate) fn check_active(host: &Host, start: &Start) -> Result<(), Refused> {
    let pack = open_version(host, start)?.pack;
    require_active(&pack, start)
}

/// Refuses a version that is not the active version of the pack with this directory.
pub(super) fn require_active(pack: &Dir, start: &Start) -> Result<(), Refused> {
    let now = match readlinkat(pack, store::CURRENT) {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(Errno::ENOENT) => "none".to_owned(),
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("the active version of {}: {e}", start.pack)),
    };
    if now == store::version_directory(&start.version, &start.digest) {
        return Ok(());
    }
    let message = format!(
        "{} {} ({}) is not the active version of its pack, which is {now}: only executions accepted while it was active can start",
        start.pack,
        start.version,
        start.digest.short()
    );
    refuse(Refusal::NotActive, message)
}

/// Resolves the action that a request names.
pub(super) fn resolve(host: &Host, start: &Start) -> Result<ResolvedAction, Refused> {
    let VersionDirs { packs, pack, directory } = open_version(host, start)?;
    if !host.accepted.contains(start) {
        require_active(&pack, start)?;
    }
    let (action, is_pushed) = read_action(host, start, &directory)?;
    let push_expires_in = is_pushed.then(|| push_expires_in(host, start, &pack)).transpose()?;
    let config = read_site_config(host, start, &pack, &directory)?;
    let entry_path = entry_point(host, &action, &directory)?;
    let venv = venv::find(host, &action, &packs, &directory)?;
    Ok(ResolvedAction { action, home: pack, directory, entry_path, venv, config, push_expires_in })
}

/// Returns the facts of this instance: from the configuration, and from what the sync stored in this boot.
pub(crate) fn instance_facts(host: &Host) -> Result<Facts, Refused> {
    let config = &host.config.instance;
    let found = if config.metadata { stored_facts(host)? } else { None };
    config.facts(found.as_ref()).map_or_else(
        || refuse(Refusal::Resources, "the id of this instance is unknown: the sync has not fetched it from the metadata service in this boot"),
        Ok,
    )
}

fn stored_facts(host: &Host) -> Result<Option<StoredFacts>, Refused> {
    let untrusted = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("{}: {e}", host.config.paths.packs.join(store::FACTS).display()),
    };
    let packs = trusted(host, Dir::open(&host.config.paths.packs).map_err(untrusted)?)?;
    if !packs.has(store::FACTS).map_err(untrusted)? {
        return Ok(None);
    }
    let found: StoredFacts = read_json(host, &packs, store::FACTS, MAX_FACTS, Refusal::StoreUntrusted)?;
    Ok(found.of_boot(&host.boot_id))
}

/// Returns the time until a pushed version expires, as the sync recorded it. Refuses an expired version, because the sync removes
/// it only at its next poll.
fn push_expires_in(host: &Host, start: &Start, pack: &Dir) -> Result<Duration, Refused> {
    let expired = |why: &str| {
        let message = format!(
            "the pushed version {} {} ({}) cannot be started: {why}",
            start.pack,
            start.version,
            start.digest.short()
        );
        refuse(Refusal::NotActive, message)
    };
    let overlay: PushOverlay = read_json(host, pack, store::PUSH_OVERLAY, MAX_PUSH_OVERLAY, Refusal::NotActive)?;
    let Some(pushed) = overlay.active.filter(|pushed| pushed.digest == start.digest) else {
        return expired("there is no record of when it expires");
    };
    if pushed.boot != host.boot_id {
        return expired("the host was restarted, which ends pushed versions");
    }
    let boot_ms = clock::boot_ms().or_else(|e| refuse(Refusal::Resources, format!("the clock cannot be read: {e}")))?;
    let left_ms = pushed.until_boot_ms.saturating_sub(boot_ms).min(pushed.until_ms.saturating_sub(clock::wall_ms()));
    if left_ms == 0 { expired("it has expired") } else { Ok(Duration::from_millis(left_ms)) }
}

/// Reads the definition of the action; the second value is true for a pushed version.
fn read_action(host: &Host, start: &Start, directory: &Dir) -> Result<(Action, bool), Refused> {
    let untrusted = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("{}: {e}; let the sync restore the store", directory.path().join(store::META).display()),
    };
    let meta = trusted(host, directory.dir(store::META).map_err(untrusted)?)?;
    let stored = read_json_once(host, &meta, store::PACK, MAX_PACK, Refusal::UnknownPack, &host.packs)?;
    if stored.digest != start.digest || stored.pack.name != start.pack || stored.pack.version != start.version {
        let message = format!("{} holds another pack, version or digest than requested", directory.path().display());
        return refuse(Refusal::UnknownPack, message);
    }
    let actions = trusted(host, meta.dir(store::ACTIONS).map_err(untrusted)?)?;
    let name = format!("{}.json", start.action);
    let action = read_json_once(host, &actions, &name, MAX_ACTION, Refusal::UnknownAction, &host.actions)?;
    if action.pack != start.pack || action.name != start.action {
        return refuse(Refusal::StoreUntrusted, format!("the definition of {} describes another action", start.action));
    }
    Ok(((*action).clone(), stored.dev.is_some()))
}

/// Reads the site configuration of the version. A version activated by an earlier release of the
/// sync has none; then the copy in the pack's directory applies.
fn read_site_config(host: &Host, start: &Start, pack: &Dir, version: &Dir) -> Result<SiteConfig, Refused> {
    let untrusted = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("configuration of pack {}: {e}", start.pack),
    };
    let meta = trusted(host, version.dir(store::META).map_err(untrusted)?)?;
    let home = if meta.has(store::CONFIG).map_err(untrusted)? { &meta } else { pack };
    let public = read_config(host, start, home, store::CONFIG)?;
    Ok(SiteConfig::new(public, read_config(host, start, home, store::CONFIG_SECRETS)?))
}

fn read_config(host: &Host, start: &Start, home: &Dir, name: &str) -> Result<Map<String, Value>, Refused> {
    match home.has(name) {
        Ok(false) => return Ok(Map::new()),
        Ok(true) => {}
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("configuration of pack {}: {e}", start.pack)),
    }
    let strict::StrictValue(value) = read_json(host, home, name, MAX_CONFIG, Refusal::StoreUntrusted)?;
    match value {
        Value::Object(map) => Ok(map),
        other => {
            let message =
                format!("configuration of pack {} must be an object, not {}", start.pack, strict::type_name(&other));
            refuse(Refusal::StoreUntrusted, message)
        }
    }
}

/// Opens the entry point component by component and checks that it is a protected, executable file.
fn entry_point(host: &Host, action: &Action, directory: &Dir) -> Result<PathBuf, Refused> {
    let shown = format!("entry point {} of {}", action.entry_point.as_str(), action.reference());
    let failed = |e: Errno| match e {
        Errno::ENOENT => Refused { code: Refusal::EntryPointMissing, message: format!("{shown} does not exist") },
        // A symbolic link, refused by O_NOFOLLOW, or a component that is not a directory.
        Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO => Refused {
            code: Refusal::EntryPointOutside,
            message: format!(
                "{shown} is reached by a symbolic link or is not a regular file; entry points must be regular files of the pack"
            ),
        },
        e => Refused { code: Refusal::EntryPointNotExecutable, message: format!("{shown} cannot be opened: {e}") },
    };
    let protected = |dir: Dir| {
        let stat = dir.stat().map_err(failed)?;
        check_owner(host, &stat, dir.path(), Refusal::EntryPointWritable).map(|()| dir)
    };
    let mut parts: Vec<&str> = action.entry_point.components().collect();
    let file_name = parts.pop().unwrap_or_default();
    let mut dir = protected(directory.dir("actions").map_err(failed)?)?;
    for part in parts {
        dir = protected(dir.dir(part).map_err(failed)?)?;
    }
    let file = dir.file(file_name).map_err(failed)?;
    let stat = fstat(&file).map_err(failed)?;
    let path = dir.path().join(file_name);
    if !is_kind(&stat, libc::S_IFREG) {
        return refuse(Refusal::EntryPointOutside, format!("{shown} is not a regular file"));
    }
    check_owner(host, &stat, &path, Refusal::EntryPointWritable)?;
    if stat.st_mode & 0o111 == 0 {
        return refuse(Refusal::EntryPointNotExecutable, format!("{shown} is not executable: chmod +x it in the pack"));
    }
    Ok(path)
}

//! The store of activated packs, as the launcher reads it: by descriptor, bounded, and only what belongs to root or the sync.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::agent::store::{self, PushOverlay};
use packs_schema::base::strict;
use packs_schema::delivery::facts::{Facts, StoredFacts};
use packs_schema::pack::action::Action;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::venv::{self, Venv};
use super::{Refused, refuse};
use crate::clock;
use crate::dir::{Dir, LAX, is_kind};
use crate::host::Host;

const MAX_PACK: u64 = 64 << 10;
const MAX_ACTION: u64 = 256 << 10;
const MAX_CONFIG: u64 = 64 << 10;
const MAX_FACTS: u64 = 256 << 10;
const MAX_PUSH_OVERLAY: u64 = 1 << 20;

/// An action that exists, is what the request named, and whose entry point may be run.
pub(super) struct Found {
    pub(super) action: Action,
    /// The pack's directory in its version.
    pub(super) directory: Dir,
    pub(super) entry_path: PathBuf,
    /// The virtual environment that it runs in.
    pub(super) venv: Option<Venv>,
    /// The pack's configuration on this site, without what is secret; empty when there is none.
    pub(super) config: Map<String, Value>,
    /// What of it is secret.
    pub(super) config_secrets: Map<String, Value>,
    /// How long a version that was pushed may still run; absent for one that is signed.
    pub(super) push_ends_in: Option<Duration>,
}

/// The directories of a version.
struct Version {
    packs: Dir,
    pack: Dir,
    directory: Dir,
}

fn open(host: &Host, start: &Start) -> Result<Version, Refused> {
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
            "pack {} {} ({}) was withdrawn, or was pushed and its time is over: nothing can be started in it",
            start.pack,
            start.version,
            start.digest.short()
        );
        return refuse(Refusal::UnknownPack, message);
    }
    Ok(Version { packs, pack, directory })
}

/// Refuses what is not the active version of its pack.
pub(crate) fn check_active(host: &Host, start: &Start) -> Result<(), Refused> {
    let pack = open(host, start)?.pack;
    active(&pack, start)
}

fn active(pack: &Dir, start: &Start) -> Result<(), Refused> {
    let now = match readlinkat(pack, store::CURRENT) {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(Errno::ENOENT) => "none".to_owned(),
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("the active version of {}: {e}", start.pack)),
    };
    if now == store::version_directory(&start.version, &start.digest) {
        return Ok(());
    }
    let message = format!(
        "{} {} ({}) is not the active version of its pack, which is {now}: only what was accepted while it was active is started",
        start.pack,
        start.version,
        start.digest.short()
    );
    refuse(Refusal::NotActive, message)
}

/// Finds the action that a request names.
pub(super) fn find(host: &Host, start: &Start) -> Result<Found, Refused> {
    let Version { packs, pack, directory } = open(host, start)?;
    if !host.accepted.covers(start) {
        active(&pack, start)?;
    }
    let (action, is_pushed) = read_action(host, start, &directory)?;
    let push_ends_in = is_pushed.then(|| push_ends_in(host, start, &pack)).transpose()?;
    let (mut config, config_secrets) = read_configs(host, start, &pack, &directory)?;
    // The two files are not replaced in the same moment: what is secret in either is.
    config.retain(|name, _| !config_secrets.contains_key(name));
    let entry_path = entry_point(host, &action, &directory)?;
    let venv = venv::find(host, &action, &packs, &directory)?;
    Ok(Found { action, directory, entry_path, venv, config, config_secrets, push_ends_in })
}

/// What is known of this instance, by the configuration and by what the sync was told in this boot.
pub(crate) fn instance(host: &Host) -> Result<Facts, Refused> {
    let config = &host.config.instance;
    let found = if config.metadata { found_facts(host)? } else { None };
    config.facts(found.as_ref()).map_or_else(
        || refuse(Refusal::Resources, "it is not known who this instance is: the sync has not learnt it in this boot"),
        Ok,
    )
}

fn found_facts(host: &Host) -> Result<Option<StoredFacts>, Refused> {
    let untrusted = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("{}: {e}", host.config.paths.packs.join(store::FACTS).display()),
    };
    let packs = trusted(host, Dir::open(&host.config.paths.packs).map_err(untrusted)?)?;
    if !packs.has(store::FACTS).map_err(untrusted)? {
        return Ok(None);
    }
    let found: StoredFacts = json(host, &packs, store::FACTS, MAX_FACTS, Refusal::StoreUntrusted)?;
    Ok(found.of_boot(&host.boot_id))
}

/// How long a pushed version may still run, as the sync recorded it. Refused when that is over: the sync ends it with its next
/// poll, and may not come to one.
fn push_ends_in(host: &Host, start: &Start, pack: &Dir) -> Result<Duration, Refused> {
    let over = |why: &str| {
        let message = format!(
            "{} {} ({}) was pushed, and {why}: nothing can be started in it any more",
            start.pack,
            start.version,
            start.digest.short()
        );
        refuse(Refusal::NotActive, message)
    };
    let overlay: PushOverlay = json(host, pack, store::PUSH_OVERLAY, MAX_PUSH_OVERLAY, Refusal::NotActive)?;
    let Some(pushed) = overlay.active.filter(|pushed| pushed.digest == start.digest) else {
        return over("there is no record of how long it may run");
    };
    if pushed.boot != host.boot_id {
        return over("the host was restarted");
    }
    let boot_ms = clock::boot_ms().or_else(|e| refuse(Refusal::Resources, format!("the clock cannot be read: {e}")))?;
    let left_ms = pushed.until_boot_ms.saturating_sub(boot_ms).min(pushed.until_ms.saturating_sub(clock::wall_ms()));
    if left_ms == 0 { over("its time is over") } else { Ok(Duration::from_millis(left_ms)) }
}

/// The definition of the action, and whether its version was pushed.
fn read_action(host: &Host, start: &Start, directory: &Dir) -> Result<(Action, bool), Refused> {
    let untrusted = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("{}: {e}; let the sync make the store again", directory.path().join(store::META).display()),
    };
    let meta = trusted(host, directory.dir(store::META).map_err(untrusted)?)?;
    let stored: store::StoredPack = json(host, &meta, store::PACK, MAX_PACK, Refusal::UnknownPack)?;
    if stored.digest != start.digest || stored.pack.name != start.pack || stored.pack.version != start.version {
        let message = format!("{} holds another pack, version or digest", directory.path().display());
        return refuse(Refusal::UnknownPack, message);
    }
    let actions = trusted(host, meta.dir(store::ACTIONS).map_err(untrusted)?)?;
    let action: Action = json(host, &actions, &format!("{}.json", start.action), MAX_ACTION, Refusal::UnknownAction)?;
    if action.pack != start.pack || action.name != start.action {
        return refuse(Refusal::StoreUntrusted, format!("the definition of {} is of another action", start.action));
    }
    Ok((action, stored.dev.is_some()))
}

/// The values of a configuration by name.
type Values = Map<String, Value>;

/// The site's configuration of this version, open and secret. A version that an earlier sync activated has none of its own;
/// then that of the pack applies.
fn read_configs(host: &Host, start: &Start, pack: &Dir, version: &Dir) -> Result<(Values, Values), Refused> {
    let untrusted = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("configuration of pack {}: {e}", start.pack),
    };
    let meta = trusted(host, version.dir(store::META).map_err(untrusted)?)?;
    let place = if meta.has(store::CONFIG).map_err(untrusted)? { &meta } else { pack };
    Ok((read_config(host, start, place, store::CONFIG)?, read_config(host, start, place, store::CONFIG_SECRETS)?))
}

fn read_config(host: &Host, start: &Start, pack: &Dir, name: &str) -> Result<Map<String, Value>, Refused> {
    match pack.has(name) {
        Ok(false) => return Ok(Map::new()),
        Ok(true) => {}
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("configuration of pack {}: {e}", start.pack)),
    }
    let strict::StrictValue(value) = json(host, pack, name, MAX_CONFIG, Refusal::StoreUntrusted)?;
    match value {
        Value::Object(map) => Ok(map),
        other => {
            let message =
                format!("configuration of pack {} must be an object, not {}", start.pack, strict::type_name(&other));
            refuse(Refusal::StoreUntrusted, message)
        }
    }
}

/// Reads a JSON file of the store; `absent` is the refusal when there is none.
pub(super) fn json<T: DeserializeOwned>(
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
            return refuse(absent, format!("there is no {}", path.display()));
        }
        Err(e) => return refuse(Refusal::StoreUntrusted, format!("{}: {e}", path.display())),
    };
    check_owner(host, &stat, &path, Refusal::StoreUntrusted)?;
    serde_json::from_slice(&bytes).or_else(|e| refuse(Refusal::StoreUntrusted, format!("{}: {e}", path.display())))
}

/// `dir`, if it belongs to root or the sync and nobody else may change it.
pub(super) fn trusted(host: &Host, dir: Dir) -> Result<Dir, Refused> {
    let stat = dir.stat().or_else(|e| refuse(Refusal::StoreUntrusted, format!("{}: {e}", dir.path().display())))?;
    check_owner(host, &stat, dir.path(), Refusal::StoreUntrusted)?;
    Ok(dir)
}

fn check_owner(host: &Host, stat: &FileStat, path: &std::path::Path, code: Refusal) -> Result<(), Refused> {
    if host.trusts(stat.st_uid) && stat.st_mode & LAX == 0 {
        return Ok(());
    }
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let message = format!(
        "{} must belong to root or the sync's account and not be writable by group or others; it has owner {owner}, mode {mode:o}",
        path.display()
    );
    refuse(code, message)
}

/// Walks to the entry point and judges it.
fn entry_point(host: &Host, action: &Action, directory: &Dir) -> Result<PathBuf, Refused> {
    let shown = format!("entry point {} of {}", action.entry_point.as_str(), action.reference());
    let lost = |e: Errno| match e {
        Errno::ENOENT => Refused { code: Refusal::EntryPointMissing, message: format!("{shown} is not there") },
        // A link where O_NOFOLLOW met it, or something that is no directory on the way.
        Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO => Refused {
            code: Refusal::EntryPointOutside,
            message: format!(
                "{shown} is reached by a link, or is not a regular file; entry points are plain files of the pack"
            ),
        },
        e => Refused { code: Refusal::EntryPointNotExecutable, message: format!("{shown} cannot be opened: {e}") },
    };
    let protected = |dir: Dir| {
        let stat = dir.stat().map_err(lost)?;
        check_owner(host, &stat, dir.path(), Refusal::EntryPointWritable).map(|()| dir)
    };
    let mut parts: Vec<&str> = action.entry_point.components().collect();
    let file_name = parts.pop().unwrap_or_default();
    let mut dir = protected(directory.dir("actions").map_err(lost)?)?;
    for part in parts {
        dir = protected(dir.dir(part).map_err(lost)?)?;
    }
    let file = dir.file(file_name).map_err(lost)?;
    let stat = fstat(&file).map_err(lost)?;
    let path = dir.path().join(file_name);
    if !is_kind(&stat, libc::S_IFREG) {
        return refuse(Refusal::EntryPointOutside, format!("{shown} is not a regular file"));
    }
    check_owner(host, &stat, &path, Refusal::EntryPointWritable)?;
    if stat.st_mode & 0o111 == 0 {
        return refuse(Refusal::EntryPointNotExecutable, format!("{shown} has no run bit: chmod +x it in the pack"));
    }
    Ok(path)
}

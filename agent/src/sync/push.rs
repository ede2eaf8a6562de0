//! Packs that somebody pushed onto this instance: the api leaves archive and request in the inbox, and here they go the way
//! of every archive, with a mark that they are not signed.
//!
//! ```text
//!  .inbox/<id>.json ─▶ Allowed ─▶ Fetched ─▶ Verified ─▶ Staged ─▶ Checked ─▶ Configured ─▶ Equipped ─▶ Activated ─▶ .pushes/<id>.json
//!                      agent.toml  copied     the digest                                   over the
//!                      grants.toml            asked for                                    signed one
//! ```
//!
//! The api may have been taken over: its word counts for nothing but what somebody is said to have asked for. Whether pushes
//! are allowed, for how long, of what size and by whom is read here once more, and archives are copied before they are looked at.

mod inbox;

use std::time::Instant;

use packs_schema::agent::config::Config;
use packs_schema::agent::grants::{Grants, Verb};
use packs_schema::agent::push::{FORMAT, PushOperation, PushOutcome, PushRequest, PushResult, archive_file};
use packs_schema::agent::rest::{Code, PushInfo, Pushed};
use packs_schema::agent::store::{META, PACK, PushedVersion, StoredPack, version_directory};
use packs_schema::base::finding::Finding;
use packs_schema::base::name::{Digest, PackName, PackVersion};
use packs_schema::pack::action::LeftoverPolicy;
use tough::TargetName;

use super::choose::Chosen;
use super::clock::Clock;
use super::error::{PackFailure, Step};
use super::store::{Store, parse_version_directory};
use super::{activate, check, disk, fetch, pushed, shadow, site_config, unpack, venv};
use inbox::Inbox;

/// How old a request may be, in milliseconds: one that was left lying surprises nobody later.
const FRESH_MS: u64 = 10 * 60_000;
/// The largest file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A request that may be carried out.
struct Allowed {
    pack: PackName,
    version: PackVersion,
    digest: Digest,
    size_bytes: u64,
    dev: PushInfo,
    ttl_ms: u64,
}

/// Why it is not.
#[derive(Debug)]
struct Refusal {
    code: Code,
    message: String,
    findings: Vec<Finding>,
}

fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into(), findings: Vec::new() })
}

/// Carries out every request in the inbox that has no outcome yet; `until` is when the poll must be through.
pub(super) fn take(config: &Config, store: &Store, clock: &Clock, until: Instant) {
    let inbox = match Inbox::open(config, store) {
        Ok(Some(inbox)) => inbox,
        Ok(None) => return,
        Err(error) => return tracing::warn!(%error, "the inbox of pushed packs cannot be read"),
    };
    for id in inbox.waiting() {
        let result = match inbox.request(&id) {
            Ok(request) => match carry_out(config, store, &inbox, &request, clock, until) {
                Ok(result) => result,
                Err(Refusal { code, message, findings }) => {
                    store.clear_staging();
                    tracing::warn!(pack = %request.pack, by = %request.by, %code, reason = message, "push refused");
                    PushResult::Refused { code, message, findings }
                }
            },
            Err(problem) => {
                tracing::warn!(push = %id, problem, "push refused");
                PushResult::Refused { code: Code::Internal, message: problem.to_owned(), findings: Vec::new() }
            }
        };
        let outcome = PushOutcome { format: FORMAT, id, result };
        if let Err(error) = inbox.answer(&outcome) {
            tracing::warn!(push = %outcome.id, %error, "the outcome of a push cannot be written");
        }
    }
}

fn carry_out(
    config: &Config,
    store: &Store,
    inbox: &Inbox,
    request: &PushRequest,
    clock: &Clock,
    until: Instant,
) -> Result<PushResult, Refusal> {
    may(config, request, clock)?;
    let home = store.pack(&request.pack);
    let internal = |e: std::io::Error| Refusal {
        code: Code::Internal,
        message: format!("the store cannot be used: {e}"),
        findings: Vec::new(),
    };
    match request.operation.clone() {
        PushOperation::Remove => {
            if pushed::active(&home).map_err(internal)?.is_none() {
                return refuse(
                    Code::NotPushed,
                    format!("no version of {} was pushed onto this instance", request.pack),
                );
            }
            shadow::end(store, &request.pack, "it was taken back").map_err(internal)?;
            let version = pushed::signed(&home).map_err(internal)?;
            Ok(PushResult::Removed { version: version.and_then(|name| parse_version_directory(&name)) })
        }
        PushOperation::Install { version, digest, size_bytes, ttl_ms } => {
            let until_ms = clock.wall_ms.saturating_add(ttl_ms);
            let dev = PushInfo { by: request.by.clone(), pushed_at_ms: clock.wall_ms, until_ms };
            let allowed = Allowed { pack: request.pack.clone(), version, digest, size_bytes, dev, ttl_ms };
            room(config, store, &allowed)?;
            let pushed = install(config, store, inbox, request, allowed, clock, until)?;
            tracing::info!(pack = %pushed.pack, version = %pushed.version, by = %request.by, until_ms, "pack pushed");
            Ok(PushResult::Installed(pushed))
        }
    }
}

/// Whether this may be asked for here, by this reading of the configuration and the grants.
fn may(config: &Config, request: &PushRequest, clock: &Clock) -> Result<(), Refusal> {
    if !config.dev.push {
        return refuse(Code::PushNotAllowed, "agent.toml does not say [dev] push = true");
    }
    let grants = disk::read_text(&config.paths.grants, MAX_FILE).map_err(|e| e.to_string());
    let grants = grants.and_then(|text| Grants::parse(&text).map_err(|e| e.to_string()));
    let grants = grants.or_else(|e| refuse(Code::Internal, format!("grants.toml cannot be used: {e}")))?;
    if !grants.allows_pack(&request.by, Verb::Push, &request.pack) {
        return refuse(Code::Forbidden, format!("no grant lets {} push {}.*", request.by, request.pack));
    }
    if clock.wall_ms.abs_diff(request.at_ms) > FRESH_MS {
        return refuse(Code::Unavailable, "the request lay too long before it was looked at: push again");
    }
    if let PushOperation::Install { size_bytes, ttl_ms, .. } = request.operation {
        let most_ms = u64::try_from(config.dev.max_ttl.0.as_millis()).unwrap_or(u64::MAX);
        if !(1..=most_ms).contains(&ttl_ms) {
            return refuse(Code::TtlTooLong, format!("the time to live must be from 1 to {most_ms} ms (dev.max_ttl)"));
        }
        let most = config.repository.max_pack.0;
        if size_bytes > most {
            return refuse(Code::BodyTooLarge, format!("the archive has {size_bytes} bytes; {most} are allowed"));
        }
    }
    Ok(())
}

/// Whether there is room for it beside what is there.
fn room(config: &Config, store: &Store, allowed: &Allowed) -> Result<(), Refusal> {
    let Allowed { pack, version, digest, .. } = allowed;
    let directory = store.pack(pack).join(version_directory(version, digest));
    let record = disk::read_if_there(&directory.join(META).join(PACK), MAX_FILE).ok().flatten();
    let there: Option<StoredPack> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(there) = there.filter(|there| there.dev.is_none()) {
        let what =
            if there.digest == *digest { "this archive is" } else { "an archive with a digest like this one's is" };
        return refuse(Code::AlreadySigned, format!("{what} here as the signed version {version}: nothing to push"));
    }
    let others = store.directories().into_iter().filter(|other| other != pack);
    let pushed = others.filter(|other| matches!(pushed::active(&store.pack(other)), Ok(Some(_)) | Err(_))).count();
    if pushed >= config.dev.max_packs as usize {
        let message = format!("{pushed} packs are pushed already, and dev.max_packs allows no more: unpush one");
        return refuse(Code::TooManyPushed, message);
    }
    Ok(())
}

/// The bytes of all pushed versions that are there, but for one of this digest.
fn bytes_there(store: &Store, but: &Digest) -> u64 {
    let mut bytes: u64 = 0;
    for shadow in store.directories().iter().filter_map(|pack| pushed::read(&store.pack(pack)).ok()) {
        let active = shadow.active.iter().map(|v| (&v.digest, v.size_bytes));
        let all = active.chain(shadow.ended.iter().map(|v| (&v.digest, v.size_bytes)));
        bytes = all.filter(|(digest, _)| *digest != but).fold(bytes, |sum, (_, more)| sum.saturating_add(more));
    }
    bytes
}

fn install(
    config: &Config,
    store: &Store,
    inbox: &Inbox,
    request: &PushRequest,
    allowed: Allowed,
    clock: &Clock,
    until: Instant,
) -> Result<Pushed, Refusal> {
    let Allowed { pack, version, digest, size_bytes, dev, ttl_ms } = allowed;
    let target = TargetName::new(format!("pushed/{pack}/{version}.tar.gz"));
    let target = target.or_else(|e| refuse(Code::Internal, e.to_string()))?;
    let chosen = Chosen {
        pack: pack.clone(),
        version: version.clone(),
        digest: digest.clone(),
        length: size_bytes,
        target,
        dev: Some(dev.clone()),
    };
    let archive = inbox.archive(&archive_file(&request.id)).or_else(|e| refuse(Code::Internal, e.to_string()))?;
    let fetched = fetch::receive(store, chosen, archive)?;
    let staged = unpack::unpack(store, fetched.verify()?)?;
    let unpacked = staged.files.iter().map(|file| file.size_bytes).sum::<u64>();
    let together = bytes_there(store, &digest).saturating_add(unpacked);
    if together > config.dev.max_bytes.0 {
        let message = format!(
            "pushed packs would have {together} bytes together; dev.max_bytes allows {}",
            config.dev.max_bytes.0
        );
        return refuse(Code::TooManyPushed, message);
    }
    let checked = check::check(staged)?;
    accounts(config, &check::definitions(&checked)?)?;
    let pushed = PushedVersion {
        directory: version_directory(&version, &digest),
        digest: digest.clone(),
        size_bytes: unpacked,
        until_ms: dev.until_ms,
        until_boot_ms: clock.boot_ms.saturating_add(ttl_ms),
        boot: clock.boot.clone(),
    };
    let configured = site_config::configure(config, checked)?;
    let equipped = venv::equip(store, &config.python, venv::Builds::Here(until), configured)?;
    let activated = activate::push_over(store, equipped, &pushed)?;
    // The files of the version itself are in effect already.
    let warning = site_config::refresh(store, config, &pack, &activated.directory).err().map(|failure| failure.message);
    let signed = pushed::read(&store.pack(&pack)).ok().and_then(|shadow| shadow.signed);
    let signed = signed.and_then(|name| parse_version_directory(&name));
    Ok(Pushed { pack, version, digest, dev: Some(dev), signed, warning })
}

/// A pushed action runs as the default account, or as one that is allowed by name, and gains nothing on the way.
fn accounts(config: &Config, actions: &[packs_schema::pack::action::Action]) -> Result<(), Refusal> {
    let mut findings = Vec::new();
    for action in actions {
        let at = format!("action {}: bolt", action.name);
        if let Some(user) = action.run_as.as_ref().filter(|user| !config.dev.run_as.contains(user)) {
            let message =
                format!("a pushed action may not run as {user} here: agent.toml does not name it under dev.run_as");
            findings.push(Finding::error("run_as_not_allowed", format!("{at}.run_as"), message));
        }
        if action.new_privileges {
            let message = "a pushed action may not gain privileges";
            findings.push(Finding::error("new_privileges_not_allowed", at.clone(), message));
        }
        if action.leftovers == LeftoverPolicy::Keep {
            let message = "a pushed action may not keep processes: they would outlive the push";
            findings.push(Finding::error("leftovers_not_allowed", format!("{at}.leftovers"), message));
        }
    }
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(Refusal { code: Code::InvalidPack, message: first.to_string(), findings }),
    }
}

impl From<PackFailure> for Refusal {
    fn from(failure: PackFailure) -> Refusal {
        let PackFailure { step, message, findings } = failure;
        let code = match step {
            Step::Unpack | Step::Check | Step::Configure | Step::Environment => Code::InvalidPack,
            _ => Code::Internal,
        };
        Refusal { code, message, findings }
    }
}

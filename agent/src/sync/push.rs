//! Pushed packs: unsigned versions that a caller installs on one instance for a limited time, where `[dev] push = true`. They
//! pass through the same steps as every archive, and are marked as not signed.
//!
//! The api may not write the store, and the launcher accepts no request for a sync with arguments, so a push goes through files:
//!
//! ```text
//!  caller ─archive─▶ api ─▶ packs/.inbox/<id>.tar.gz, <id>.json ─Sync─▶ launcher ─▶ sync ─▶ packs/.pushes/<id>.json ─▶ api ─▶ caller
//!                           (api writes, the sync's group reads)                  └─▶ current ─▶ pushed version, covers the signed one
//! ```
//!
//! The steps here:
//!
//! ```text
//!  .inbox/<id>.json ─▶ Allowed ─▶ Fetched ─▶ Verified ─▶ Staged ─▶ Checked ─▶ Configured ─▶ Equipped ─▶ Activated ─▶ .pushes/<id>.json
//!                      agent.toml  copied     the digest                                   over the
//!                      grants.toml            asked for                                    signed one
//! ```
//!
//! The api may be compromised, so nothing in a request is trusted. The sync reads `agent.toml` and `grants.toml` itself to decide
//! whether pushes are allowed, for how long, of which size and by whom, and copies archives before it reads them. It takes
//! requests before it contacts the repository, which need not be reachable. The result has `dev` in its `pack.json`, so that
//! everything that shows the version marks it.
//!
//! The launcher reads `.dev.json` of a pack at each start: the time-out of an execution is never later than the end of its pushed
//! version, and after that end, or in another boot, nothing is started. How a pushed version ends is described in
//! [`push_overlay`].

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

use super::attempts::Attempt;
use super::choose::Chosen;
use super::clock::Clock;
use super::error::{PackFailure, Step};
use super::store::{Store, parse_version_directory};
use super::{activate, check, disk, facts, fetch, push_overlay, pushed, site_config, unpack, venv};
use inbox::Inbox;

/// Maximum age of a request, in milliseconds: a forgotten one is not carried out later.
const FRESH_MS: u64 = 10 * 60_000;
/// Maximum size of a file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Request that is allowed.
struct Allowed {
    pack: PackName,
    version: PackVersion,
    digest: Digest,
    size_bytes: u64,
    dev: PushInfo,
    ttl_ms: u64,
}

/// Reason for refusing a request.
#[derive(Debug)]
struct Refusal {
    code: Code,
    message: String,
    findings: Vec<Finding>,
}

fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into(), findings: Vec::new() })
}

/// Processes every request in the inbox that has no outcome yet; `until` is the deadline of the poll.
pub(super) fn process_requests(config: &Config, store: &Store, clock: &Clock, until: Instant) {
    let inbox = match Inbox::open(config, store) {
        Ok(Some(inbox)) => inbox,
        Ok(None) => return,
        Err(error) => return tracing::warn!(%error, "cannot read the inbox of pushed packs"),
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
            tracing::warn!(push = %outcome.id, %error, "cannot write the outcome of a push");
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
    check_allowed(config, store, request, clock)?;
    let home = store.pack(&request.pack);
    let internal = |e: std::io::Error| Refusal {
        code: Code::Internal,
        message: format!("cannot use the store: {e}"),
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
            push_overlay::end(store, &request.pack, "it was unpushed").map_err(internal)?;
            let version = pushed::signed(&home).map_err(internal)?;
            Ok(PushResult::Removed { version: version.and_then(|name| parse_version_directory(&name)) })
        }
        PushOperation::Install { version, digest, size_bytes, ttl_ms } => {
            let until_ms = clock.wall_ms.saturating_add(ttl_ms);
            let dev = PushInfo { by: request.by.clone(), pushed_at_ms: clock.wall_ms, until_ms };
            let allowed = Allowed { pack: request.pack.clone(), version, digest, size_bytes, dev, ttl_ms };
            check_limits(config, store, &allowed)?;
            let pushed = install(config, store, inbox, request, allowed, clock, until)?;
            tracing::info!(pack = %pushed.pack, version = %pushed.version, by = %request.by, until_ms, "pack pushed");
            Ok(PushResult::Installed(pushed))
        }
    }
}

/// Checks whether configuration and grants allow the request.
fn check_allowed(config: &Config, store: &Store, request: &PushRequest, clock: &Clock) -> Result<(), Refusal> {
    if !config.dev.push {
        return refuse(Code::PushNotAllowed, "agent.toml does not say [dev] push = true");
    }
    let grants = disk::read_text(&config.paths.grants, MAX_FILE).map_err(|e| e.to_string());
    let grants = grants.and_then(|text| Grants::parse(&text).map_err(|e| e.to_string()));
    let grants = grants.or_else(|e| refuse(Code::Internal, format!("grants.toml cannot be used: {e}")))?;
    let facts = config.instance.known_facts(facts::stored(store, &clock.boot).as_ref());
    let grants = grants.in_effect(facts.as_ref(), i64::try_from(clock.wall_ms / 1000).unwrap_or(i64::MAX));
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

/// Checks the limits on all pushed versions.
fn check_limits(config: &Config, store: &Store, allowed: &Allowed) -> Result<(), Refusal> {
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

/// Returns the total size of all pushed versions, without one of this digest.
fn total_bytes(store: &Store, but: &Digest) -> u64 {
    let mut bytes: u64 = 0;
    for overlay in store.directories().iter().filter_map(|pack| pushed::read(&store.pack(pack)).ok()) {
        let active = overlay.active.iter().map(|v| (&v.digest, v.size_bytes));
        let all = active.chain(overlay.ended.iter().map(|v| (&v.digest, v.size_bytes)));
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
    // In memory or time it may need more than the process has: then no poll would get beyond it.
    let _attempt = Attempt::of_push(store, clock, &request.id)?;
    let archive = inbox.archive(&archive_file(&request.id)).or_else(|e| refuse(Code::Internal, e.to_string()))?;
    let fetched = fetch::receive(store, chosen, archive)?;
    let staged = unpack::unpack(store, fetched.verify()?)?;
    let unpacked = staged.files.iter().map(|file| file.size_bytes).sum::<u64>();
    let together = total_bytes(store, &digest).saturating_add(unpacked);
    if together > config.dev.max_bytes.0 {
        let message = format!(
            "pushed packs would have {together} bytes together; dev.max_bytes allows {}",
            config.dev.max_bytes.0
        );
        return refuse(Code::TooManyPushed, message);
    }
    let checked = check::check(staged)?;
    check_accounts(config, &check::definitions(&checked)?)?;
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
    // The version's own files are in effect already.
    let warning = site_config::refresh(store, config, &pack, &activated.directory).err().map(|failure| failure.message);
    let signed = pushed::read(&store.pack(&pack)).ok().and_then(|overlay| overlay.signed);
    let signed = signed.and_then(|name| parse_version_directory(&name));
    Ok(Pushed { pack, version, digest, dev: Some(dev), signed, warning })
}

/// Checks that pushed actions run as the default account or as an allowed one, and leave no processes behind.
fn check_accounts(config: &Config, actions: &[packs_schema::pack::action::Action]) -> Result<(), Refusal> {
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

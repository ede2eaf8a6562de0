//! Poll: brings every pack of the channel up to date, and writes the status.
//!
//! A poll that finds nothing new (see [`last_verified`](super::last_verified)) writes nothing at all, so the status file cannot
//! have the time of the last poll. The launcher records how each sync ended in `sync.json` in its run-time directory (in memory
//! on a host with `/run`), and the api combines that with `.status.json`; so a sync that crashed or was killed degrades health,
//! too. `.status.json` is written when a poll was asked for, failed, or changes its content; its `polls` counts those.
//!
//! A poll that a caller asked for verifies everything, whatever the last verification was, and always writes a status, for which
//! the caller waits. A poll of a bucket fetches only what changed (see [`cache`](super::cache)): one change among many packs
//! takes six requests, a poll that was asked for and finds nothing new two.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use packs_schema::agent::config::Config;
use packs_schema::agent::rest::{BootMoment, EmptyChannel, FailedVersion, Rollout, SignatureEnd, SyncStatus};
use packs_schema::base::name::{PackName, PackVersion};
use packs_schema::delivery::facts::Facts;

use super::attempts::Attempt;
use super::choose::{Choice, Chosen, OfChannel, choose, empty_channel, packs};
use super::clock::Clock;
use super::error::{PackFailure, Step, SyncError};
use super::last_verified::{self, LastVerified};
use super::metadata::Metadata;
use super::retry;
use super::source::{Source, Timestamp};
use super::store::{Active, Store};
use super::venv::Builds;
use super::{activate, check, facts, fetch, prune, push, push_overlay, site_config, status, unpack, venv, withdrawn};

/// Reason for a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The poll interval has passed.
    Due,
    /// A caller asked for it: failed versions are retried.
    Asked,
    /// A virtual environment has been built, or could not be.
    Built,
}

/// Time after which no virtual environment is begun: the time limit of the process follows soon.
const ENVIRONMENTS_WITHIN: Duration = Duration::from_secs(480);

/// Failed versions, by pack.
type Failed = Vec<(PackName, FailedVersion)>;

/// Polls once: locks the store, brings it up to date, and writes the status if its content changes.
///
/// Virtual environments are built before it returns.
pub fn poll(config: &Config, occasion: Occasion) -> Result<(), SyncError> {
    let clock = read_clock()?;
    poll_at(config, occasion, &clock)
}

/// As [`poll`], but leaves virtual environments to a process that is started at the end, with the configuration at `path`.
pub(super) fn poll_and_build(config: &Config, path: &Path, occasion: Occasion) -> Result<(), SyncError> {
    let store = Store::open(&config.paths.packs)?;
    let polled = poll_in(config, &store, occasion, &read_clock()?, Builds::Apart);
    venv::builder::start(&store, path);
    polled
}

fn read_clock() -> Result<Clock, SyncError> {
    Clock::read().map_err(SyncError::file("read", "/proc/sys/kernel/random/boot_id"))
}

/// As [`poll`], at the moment `clock`.
pub(super) fn poll_at(config: &Config, occasion: Occasion, clock: &Clock) -> Result<(), SyncError> {
    let store = Store::open(&config.paths.packs)?;
    poll_in(config, &store, occasion, clock, Builds::Here(Instant::now() + ENVIRONMENTS_WITHIN))
}

fn poll_in(config: &Config, store: &Store, occasion: Occasion, clock: &Clock, builds: Builds) -> Result<(), SyncError> {
    let began_ms = clock.wall_ms;
    let before = status::read(store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SyncError::Runtime)?;
    push_overlay::reconcile(store, clock, config.dev.push);
    push::process_requests(config, store, clock, Instant::now() + ENVIRONMENTS_WITHIN);
    let channel_empty = RefCell::new(before.channel_empty.clone());
    let expires = RefCell::new(before.expires.clone());
    let rollouts = RefCell::new(before.rollouts.clone());
    let poll = Poll {
        config,
        store,
        before: &before,
        occasion,
        clock,
        now_ms: began_ms,
        builds,
        channel_empty,
        expires,
        rollouts,
    };
    let outcome = runtime.block_on(poll.bring_up_to_date());
    if outcome.is_err() {
        // Active versions remain, and their configuration may have changed.
        poll.configure_all(&[]);
    }
    prune::prune(store);
    let (channel_empty, expires) = (poll.channel_empty.into_inner(), poll.expires.into_inner());
    let rollouts = poll.rollouts.into_inner();
    let began = Some(BootMoment { boot: clock.boot.clone(), ms: clock.boot_ms });
    let after = SyncStatus { channel_empty, began, expires, rollouts, ..status::after(&before, began_ms, &outcome) };
    if occasion == Occasion::Asked || status::has_news(&before, &after) {
        status::write(store, &after)?;
    }
    outcome.map(drop)
}

/// Inputs of a poll.
struct Poll<'a> {
    config: &'a Config,
    store: &'a Store,
    before: &'a SyncStatus,
    occasion: Occasion,
    clock: &'a Clock,
    now_ms: u64,
    builds: Builds,
    /// Value of the previous poll, until this one has read the metadata.
    channel_empty: RefCell<Option<EmptyChannel>>,
    /// Value of the previous poll, until this one has verified the metadata.
    expires: RefCell<Vec<SignatureEnd>>,
    /// Value of the previous poll, until this one has read the channel.
    rollouts: RefCell<Vec<(PackName, Rollout)>>,
}

impl Poll<'_> {
    async fn bring_up_to_date(&self) -> Result<Failed, SyncError> {
        let Poll { config, store, .. } = *self;
        if config.instance.metadata || config.repository.bucket().is_some() {
            bolt_aws::environment::check()?;
        }
        // Before the repository: facts decide the choices, and the api waits for them after a boot.
        let instance = facts::determine(&config.instance, store).await?;
        let source = Source::open(&config.repository, &store.tuf()).await?;
        let inputs = last_verified::inputs(config, &instance)?;
        let seen = LastVerified::read(&store.tuf());
        let unless = seen.as_ref().and_then(LastVerified::etag);
        let found = source.timestamp(unless.as_ref()).await?;
        if let (Timestamp::Unchanged, Some(seen)) = (&found, &seen) {
            source.transport().supply_cached_timestamp(seen.timestamp_sha256());
        }
        let timestamp = LastVerified::timestamp(seen.as_ref(), found);
        if let Some(seen) = &seen
            && self.occasion != Occasion::Asked
            // Written by an earlier version.
            && !self.before.expires.is_empty()
            && !self.before.failed.iter().any(|(pack, failed)| self.is_due(pack, failed))
            && seen
                .is_current(&source, store, timestamp.as_ref().map(|(sha256, _)| sha256.as_str()), &inputs, self.now_ms)
                .await
        {
            tracing::debug!("nothing new in the repository");
            return Ok(self.repeat_failures());
        }
        let metadata = Metadata::load(&source, &config.repository, &store.tuf(), self.clock).await?;
        self.expires.replace(metadata.expires());
        let again = self.occasion == Occasion::Asked || seen.is_none_or(|seen| seen.has_other_inputs(&inputs));
        let failed = self.every_pack(&metadata, &instance, again).await?;
        metadata.prune_cache();
        if let Some(timestamp) = timestamp {
            LastVerified::of(metadata.repository(), timestamp, inputs, store, self.now_ms).write(&store.tuf())?;
        }
        Ok(failed)
    }

    /// Returns the known failures, and checks site configuration and environments again.
    fn repeat_failures(&self) -> Failed {
        // The configuration of active versions is checked again at each poll.
        let of_active = |failed: &FailedVersion| failed.step == Step::Configure.as_str() && failed.digest.is_none();
        let kept = self.before.failed.iter().filter(|(_, failed)| !of_active(failed));
        let mut failed: Failed = kept.cloned().collect();
        let others = self.configure_all(&failed);
        failed.extend(others);
        let others = self.repair_environments(&failed);
        failed.extend(others);
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        failed
    }

    async fn every_pack(&self, metadata: &Metadata, instance: &Facts, again: bool) -> Result<Failed, SyncError> {
        let channel = &self.config.repository.channel;
        let lookup = metadata.lookup();
        let wanted = packs(&lookup, channel);
        let empty = empty_channel(&lookup, channel, &wanted);
        if let Some(empty) = empty.as_ref().filter(|_| empty != self.before.channel_empty) {
            tracing::warn!("{empty}");
        }
        self.channel_empty.replace(empty);
        self.rollouts.borrow_mut().retain(|(pack, _)| wanted.contains(pack));
        let mut failed = Failed::new();
        for pack in &wanted {
            let mut withdrawn_versions = Vec::new();
            let done = self.one_pack(metadata, instance, pack, again, &mut withdrawn_versions).await;
            let stripped = withdrawn::strip(self.store, pack, &withdrawn_versions);
            if let Err(failure) = done.and(stripped.map_err(|failure| self.failed(pack, None, failure))) {
                failed.push((pack.clone(), *failure));
            }
        }
        let active = self.store.packs().map_err(SyncError::file("read", &self.config.paths.packs))?;
        let signed = |pack: &&PackName| matches!(self.store.signed(pack), Ok(Some(_)));
        for pack in active.iter().filter(|pack| !wanted.contains(pack)).filter(signed) {
            tracing::info!(%pack, %channel, "pack is no longer in the channel; it stays active");
        }
        let others = self.configure_all(&failed);
        failed.extend(others);
        let others = self.repair_environments(&failed);
        failed.extend(others);
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        let peak_kb = super::process::peak_kb();
        tracing::info!(packs = wanted.len(), failed = failed.len(), peak_kb, "poll done");
        Ok(failed)
    }

    /// Brings one pack up to date, unless its version failed recently and its retry is not due.
    async fn one_pack(
        &self,
        metadata: &Metadata,
        instance: &Facts,
        pack: &PackName,
        again: bool,
        withdrawn: &mut Vec<PackVersion>,
    ) -> Result<(), Box<FailedVersion>> {
        let active = signed(self.store, pack).map_err(|failure| self.failed(pack, None, failure))?;
        let mut channel = OfChannel::default();
        let chosen =
            choose(metadata, &self.config.repository.channel, instance, pack, active.as_ref(), &mut channel).await;
        *withdrawn = channel.withdrawn;
        self.set_rollout(pack, channel.rollout);
        let chosen = match chosen {
            Ok(Choice::Activate(chosen)) => chosen,
            Ok(Choice::Keep | Choice::NotHere) => return Ok(()),
            Ok(Choice::Withdraw) => {
                return activate::withdraw(self.store, pack).map_err(|failure| self.failed(pack, None, failure));
            }
            Err((version, failure)) => {
                let mut failed = self.failed(pack, None, failure);
                failed.version = version;
                return Err(failed);
            }
        };
        if !again
            && let Some(before) = self.failed_before(pack)
            && before.digest.as_ref() == Some(&chosen.digest)
            && !self.is_due(pack, before)
        {
            return Err(Box::new(before.clone()));
        }
        let what = (chosen.version.clone(), chosen.digest.clone());
        match self.install(metadata, chosen).await {
            Ok(done) => {
                tracing::info!(%pack, version = %done.version, directory = %done.directory.display(), "pack activated");
                Ok(())
            }
            Err(failure) => {
                self.store.clear_staging();
                let mut failed = self.failed(pack, Some(&what.1), failure);
                failed.version = Some(what.0);
                Err(failed)
            }
        }
    }

    /// Records how far the newest version of a pack has come; `None` while its channel holds no version.
    fn set_rollout(&self, pack: &PackName, rollout: Option<Rollout>) {
        let mut rollouts = self.rollouts.borrow_mut();
        rollouts.retain(|(other, _)| other != pack);
        rollouts.extend(rollout.map(|rollout| (pack.clone(), rollout)));
        rollouts.sort_by(|a, b| a.0.cmp(&b.0));
    }

    async fn install(&self, metadata: &Metadata, chosen: Chosen) -> Result<activate::Activated, PackFailure> {
        let Poll { config, store, .. } = *self;
        let _attempt = Attempt::of_version(store, self.clock, &chosen)?;
        let fetched = fetch::fetch(metadata, store, chosen, config.repository.max_pack).await?;
        let verified = fetched.verify()?;
        let staged = unpack::unpack(store, verified)?;
        let checked = check::check(staged)?;
        let configured = site_config::configure(config, checked)?;
        let equipped = venv::equip(store, &config.python, self.builds, configured)?;
        activate::activate(store, equipped)
    }

    /// Brings the configuration of every active version up to date, and returns the packs whose configuration is invalid.
    ///
    /// Packs in `failed` are configured as well, and keep their failure.
    fn configure_all(&self, failed: &[(PackName, FailedVersion)]) -> Failed {
        let mut newly_failed = Failed::new();
        for pack in self.store.packs().unwrap_or_default() {
            let done = match active(self.store, &pack) {
                Ok(Some(active)) => site_config::refresh(self.store, self.config, &pack, &active.directory)
                    .map_err(|failure| (Some(active.stored.pack.version), failure)),
                Ok(None) => Ok(()),
                Err(failure) => Err((None, failure)),
            };
            if let Err((version, failure)) = done
                && !failed.iter().any(|(other, _)| *other == pack)
            {
                newly_failed.push((pack.clone(), self.unconfigured(&pack, version, failure)));
            }
        }
        newly_failed
    }

    /// Makes sure that every active version still has its virtual environment.
    fn repair_environments(&self, failed: &[(PackName, FailedVersion)]) -> Failed {
        let mut newly_failed = Failed::new();
        for pack in self.store.packs().unwrap_or_default() {
            let Ok(Some(active)) = active(self.store, &pack) else { continue };
            if failed.iter().any(|(other, _)| *other == pack) {
                continue;
            }
            let of_venv = |before: &&FailedVersion| {
                [Step::Environment, Step::Building].iter().any(|step| before.step == step.as_str())
            };
            if let Some(before) = self.failed_before(&pack).filter(of_venv)
                && self.occasion != Occasion::Asked
                && !self.is_due(&pack, before)
            {
                newly_failed.push((pack, before.clone()));
                continue;
            }
            let kept = venv::repair(self.store, &self.config.python, self.builds, &active.directory);
            if let Err(failure) = kept {
                let mut failed = self.failed(&pack, None, failure);
                failed.version = Some(active.stored.pack.version);
                newly_failed.push((pack, *failed));
            }
        }
        newly_failed
    }

    /// Returns the failure of an invalid configuration; it is logged once while it stays the same.
    fn unconfigured(&self, pack: &PackName, version: Option<PackVersion>, failure: PackFailure) -> FailedVersion {
        let failure = PackFailure { step: Step::Configure, ..failure };
        let failed = FailedVersion { version, ..status::failed(None, failure, self.now_ms, 1) };
        match self.failed_before(pack) {
            Some(before) if (&before.version, &before.message) == (&failed.version, &failed.message) => before.clone(),
            _ => {
                log(pack, &failed);
                failed
            }
        }
    }

    /// True if a version is to be retried: its backoff has passed, or the configuration that failed has changed since.
    fn is_due(&self, pack: &PackName, failed: &FailedVersion) -> bool {
        if failed.step == Step::Building.as_str() {
            return self.occasion == Occasion::Built || !venv::is_building(self.store);
        }
        let reconfigured = || {
            failed.step == Step::Configure.as_str()
                && failed.digest.is_some()
                && site_config::changed_at_ms(self.config, pack)
                    .is_some_and(|at_ms| failed.at_ms < at_ms && at_ms <= self.now_ms)
        };
        retry::is_due(failed, self.now_ms) || reconfigured()
    }

    fn failed_before(&self, pack: &PackName) -> Option<&FailedVersion> {
        self.before.failed.iter().find(|(name, _)| name == pack).map(|(_, failed)| failed)
    }

    /// Records a failure for the status, and logs it.
    fn failed(
        &self,
        pack: &PackName,
        digest: Option<&packs_schema::base::name::Digest>,
        failure: PackFailure,
    ) -> Box<FailedVersion> {
        // A build and its result are one attempt.
        let of =
            |step: &str| if step == Step::Building.as_str() { Step::Environment.as_str() } else { step }.to_owned();
        let same =
            |before: &&FailedVersion| before.digest.as_ref() == digest && of(&before.step) == of(failure.step.as_str());
        let before = self.failed_before(pack).filter(same).map_or(0, |before| before.attempts);
        let attempts = before.saturating_add(u32::from(failure.step != Step::Building));
        let failed = status::failed(digest.cloned(), failure, self.now_ms, attempts);
        log(pack, &failed);
        Box::new(failed)
    }
}

fn log(pack: &PackName, failed: &FailedVersion) {
    if failed.step == Step::Building.as_str() {
        return tracing::info!(%pack, "{}", failed.message);
    }
    tracing::warn!(%pack, step = %failed.step, reason = %failed.message, "pack failed; the active version is unchanged");
}

fn signed(store: &Store, pack: &PackName) -> Result<Option<Active>, PackFailure> {
    store.signed(pack).map_err(PackFailure::file(Step::Choose, "read", store.pack(pack)))
}

fn active(store: &Store, pack: &PackName) -> Result<Option<Active>, PackFailure> {
    store.active(pack).map_err(PackFailure::file(Step::Choose, "read", store.pack(pack)))
}

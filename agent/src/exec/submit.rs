//! Taking an execution: its place, its directory, its row on disk, and then its start.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::{FORMAT, Spec, State};
use packs_schema::agent::grants::Verb;
use packs_schema::agent::launch::Start;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, ExecutionId, PackVersion, RunId};
use packs_schema::pack::param::bind::BoundParams;
use serde_json::{Map, Value};

use super::admission::{Claim, Now, Refused, on_this_boot};
use super::room::{DISK_FAILED, DISK_FULL};
use super::{Exec, Shortage, directory};
use crate::access::Permit;
use crate::clock;
use crate::history::{Born, HistoryError, Inserted, Key};
use crate::registry::ActiveAction;

/// What is to be run. Has no `Debug`: parameters may be secret.
pub struct Order {
    /// The action.
    pub action: Arc<ActiveAction>,
    /// Pack version that must be active, when the caller named one.
    pub version: Option<PackVersion>,
    /// Its parameters, checked.
    pub bound: BoundParams,
    /// Only say what it would do.
    pub noop: bool,
    /// A shorter time-out, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Why.
    pub note: Option<String>,
    /// The fan-out.
    pub run: Option<RunId>,
    /// The caller's key.
    pub key: Option<Key>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
}

/// An execution that was taken.
#[derive(Debug)]
pub struct Accepted {
    /// As it stands.
    pub execution: Execution,
    /// It was taken before, with the same key.
    pub replayed: bool,
}

/// Why an execution is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The agent is starting or stopping.
    #[error("the agent is starting or stopping: ask again in a moment")]
    NotReady,
    /// The permit is for something else.
    #[error("the permit does not cover this")]
    NotPermitted,
    /// Another version of the pack is active than the caller named.
    #[error("version {active} of {action} is active here, not {wanted}: nothing was started")]
    VersionMismatch {
        /// Action that was to run.
        action: ActionRef,
        /// Version that the caller named.
        wanted: PackVersion,
        /// Version that is active.
        active: PackVersion,
    },
    /// Too many wait.
    #[error("{max} executions wait already: ask again in {after:?}, when one may have been started")]
    QueueFull {
        /// The most that may wait.
        max: u32,
        /// When a place may have come free.
        after: Duration,
    },
    /// The group is busy.
    #[error(
        "the group {group} has as many executions running as it may, and its action says not to wait: \
         one may have ended in {after:?}"
    )]
    Busy {
        /// The group.
        group: String,
        /// When a place in it may have come free.
        after: Duration,
    },
    /// Too many were accepted.
    #[error("{action} may be started {max} times in {per:?}; it may be again in {after:?}")]
    TooOften {
        /// Which action.
        action: ActionRef,
        /// The most …
        max: u32,
        /// … within.
        per: Duration,
        /// When one may be started again.
        after: Duration,
    },
    /// The key was used with another body.
    #[error("the idempotency key stands for execution {0}, which was made with another body: use a new key")]
    KeyMismatch(ExecutionId),
    /// No space.
    #[error("the disk of the state directory is full, or nearly so: nothing was accepted; make room and ask again")]
    DiskFull,
    /// The directory cannot be made.
    #[error("cannot make the execution's directory")]
    Directory(#[source] io::Error),
    /// The history failed.
    #[error("cannot remember the execution")]
    History(#[source] HistoryError),
    /// The task that took it ended early.
    #[error("the agent failed while it took the execution")]
    Task,
}

/// Refuses a request for another version than `active`, which is the one that would run.
pub fn check_version(wanted: Option<&PackVersion>, active: &ActiveAction) -> Result<(), SubmitError> {
    match wanted {
        Some(wanted) if *wanted != active.version => {
            let action = active.action.reference();
            Err(SubmitError::VersionMismatch { action, wanted: wanted.clone(), active: active.version.clone() })
        }
        _ => Ok(()),
    }
}

impl Order {
    /// What the launcher is asked for a spec.
    pub(super) fn start_of(spec: Spec) -> Start {
        Start {
            execution: spec.id,
            pack: spec.action.pack(),
            version: spec.version,
            digest: spec.digest,
            action: spec.action.action(),
            parameters: spec.parameters,
            noop: spec.noop,
            timeout_ms: spec.timeout_ms,
            run: spec.run,
            traceparent: spec.traceparent,
        }
    }

    fn has_secrets(&self) -> bool {
        let parameters = &self.action.action.parameters;
        parameters.iter().any(|(name, schema)| schema.holds_secret() && self.bound.given().contains_key(name.as_str()))
    }

    /// What the caller gave, secrets masked.
    fn shown(&self) -> Map<String, Value> {
        let public = self.bound.public().iter();
        public
            .filter(|(name, _)| self.bound.given().contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl Exec {
    /// Takes an execution. Goes on to its end even when the asker has gone.
    pub async fn submit(self: &Arc<Self>, permit: Permit, order: Order) -> Result<Accepted, SubmitError> {
        let exec = self.clone();
        tokio::spawn(async move { exec.take(permit, order).await }).await.unwrap_or(Err(SubmitError::Task))
    }

    async fn take(self: Arc<Self>, permit: Permit, order: Order) -> Result<Accepted, SubmitError> {
        if !self.health.takes_executions() {
            return Err(SubmitError::NotReady);
        }
        let action = order.action.action.reference();
        if permit.verb() != Verb::Run || *permit.action() != action {
            return Err(SubmitError::NotPermitted);
        }
        if let Some(key) = &order.key
            && let Some(found) =
                self.history.by_key(permit.principal(), &key.key).await.map_err(SubmitError::History)?
        {
            return self.replay(found.0, &found.1, key).await;
        }
        check_version(order.version.as_ref(), &order.action)?;
        if !self.has_room() {
            return Err(SubmitError::DiskFull);
        }
        let claim = Claim::of(&order.action.action);
        self.tell_past(&claim).await?;
        let id = ExecutionId::new(uuid::Uuid::now_v7().hyphenated().to_string()).expect("a UUID is an execution id");
        let (now_ms, boottime_ms) = (clock::now_ms(), clock::boottime_ms());
        let placed = self.lock().board.admit(&id, claim.clone(), i64::try_from(boottime_ms).unwrap_or(i64::MAX));
        placed.map_err(|refused| self.refusal(refused, &claim))?;
        let taken = self.write_down(&id, &permit, &order, (now_ms, boottime_ms)).await;
        match taken {
            Ok(None) => {}
            other => {
                self.lock().board.release(&id);
                directory::remove(&self.directory(&id));
                self.pump();
                let Some((existing, fingerprint)) = other? else { return Err(SubmitError::Task) };
                let Some(key) = &order.key else { return Err(SubmitError::Task) };
                return self.replay(existing, &fingerprint, key).await;
            }
        }
        let execution = self.lock().live.get(&id).map(|live| live.record.clone()).ok_or(SubmitError::Task)?;
        self.metrics.execution(&action, State::Queued);
        if order.action.dev.is_some() {
            self.metrics.dev_execution(State::Queued);
        }
        tracing::info!(execution = %id, action = %action, principal = %permit.principal(), dev = order.action.dev.is_some(), "accepted");
        // Asked only now: a place may have come free while it was written down.
        if self.lock().board.is_running(&id) {
            self.launch(&id);
        } else {
            self.record_waiting(&id);
            self.expire_in(&id, order.action.action.start_within.0);
        }
        Ok(Accepted { execution, replayed: false })
    }

    /// Directory, then row. `Some`: the caller's key stands for another execution already.
    async fn write_down(
        self: &Arc<Self>,
        id: &ExecutionId,
        permit: &Permit,
        order: &Order,
        (now_ms, boottime_ms): (u64, u64),
    ) -> Result<Option<(Execution, String)>, SubmitError> {
        let active = &order.action;
        let start_within_ms = u64::try_from(active.action.start_within.0.as_millis()).unwrap_or(u64::MAX);
        let spec = Spec {
            format: FORMAT,
            id: id.clone(),
            action: active.action.reference(),
            version: active.version.clone(),
            digest: active.digest.clone(),
            dev: active.dev.clone(),
            parameters: order.shown(),
            has_secrets: order.has_secrets(),
            noop: order.noop,
            timeout_ms: order.timeout_ms,
            principal: permit.principal().clone(),
            note: order.note.clone(),
            run: order.run.clone(),
            idempotency_key: order.key.as_ref().map(|key| key.key.clone()),
            fingerprint: order.key.as_ref().map(|key| key.fingerprint.clone()),
            traceparent: order.traceparent.clone(),
            created_at_ms: now_ms,
            created_boottime_ms: Some(boottime_ms),
            start_within_ms,
            boot_id: self.settings.boot_id.clone(),
        };
        directory::create(&self.directory(id), &spec).map_err(|e| self.cannot_make(e))?;
        let mut record = self.record_of(&spec);
        record.parameters = order.bound.public().clone();
        let born = active.action.rate.is_some();
        let born = born.then(|| Born { boot_id: self.settings.boot_id.clone(), boottime_ms });
        let inserted = self.history.insert(record.clone(), order.key.clone(), born).await;
        match inserted {
            Ok(Inserted::Existing(existing, fingerprint)) => return Ok(Some((*existing, fingerprint))),
            Ok(Inserted::New | Inserted::Unchanged) => {}
            Err(error) => return Err(self.cannot_remember(error)),
        }
        let start = Order::start_of(Spec { parameters: order.bound.given().clone(), ..spec });
        // On disk from here on: it must end in a state, whatever happens.
        self.track(record, Some(Box::new(start)));
        Ok(None)
    }

    fn cannot_make(self: &Arc<Self>, error: io::Error) -> SubmitError {
        match Shortage::of(&error) {
            Some(Shortage::Storage) => {
                self.mend(DISK_FULL, format!("an execution's directory cannot be made: {error}"));
                SubmitError::DiskFull
            }
            Some(Shortage::Device) => {
                self.mend(DISK_FAILED, format!("an execution's directory cannot be made: {error}"));
                SubmitError::Directory(error)
            }
            Some(Shortage::Resources) | None => SubmitError::Directory(error),
        }
    }

    fn cannot_remember(self: &Arc<Self>, error: HistoryError) -> SubmitError {
        match &error {
            HistoryError::DiskFull | HistoryError::ReadOnly => {
                self.mend(DISK_FULL, error.to_string());
                SubmitError::DiskFull
            }
            // Not every way in which a disk can be full has a number of its own.
            HistoryError::Device(_) if directory::is_short(&self.settings.executions) => {
                self.mend(DISK_FULL, error.to_string());
                SubmitError::DiskFull
            }
            HistoryError::Device(_) => {
                self.mend(DISK_FAILED, error.to_string());
                SubmitError::History(error)
            }
            _ => SubmitError::History(error),
        }
    }

    async fn replay(&self, found: Execution, fingerprint: &str, key: &Key) -> Result<Accepted, SubmitError> {
        if fingerprint != key.fingerprint {
            return Err(SubmitError::KeyMismatch(found.id));
        }
        let now = self.view(&found.id).await.map_err(SubmitError::History)?;
        Ok(Accepted { execution: now.unwrap_or(found), replayed: true })
    }

    async fn tell_past(&self, claim: &Claim) -> Result<(), SubmitError> {
        let Some((_, per)) = claim.rate else { return Ok(()) };
        if self.lock().board.needs_past(&claim.action) {
            let per_ms = u64::try_from(per.as_millis()).unwrap_or(u64::MAX);
            let now = Now { wall_ms: clock::now_ms(), boottime_ms: clock::boottime_ms() };
            let boot_id = &self.settings.boot_id;
            let since = Born { boot_id: boot_id.clone(), boottime_ms: now.boottime_ms.saturating_sub(per_ms) };
            let since_ms = now.wall_ms.saturating_sub(per_ms);
            let past = self.history.accepted_since(&claim.action, since_ms, since).await;
            let past = past.map_err(SubmitError::History)?;
            let past = past.iter().map(|accepted| on_this_boot(accepted, boot_id, now)).collect();
            self.lock().board.tell_past(&claim.action, past);
        }
        Ok(())
    }

    fn refusal(&self, refused: Refused, claim: &Claim) -> SubmitError {
        match refused {
            Refused::QueueFull(after) => SubmitError::QueueFull { max: self.settings.max_queued, after },
            Refused::Busy(after) => SubmitError::Busy { group: claim.group.clone(), after },
            Refused::TooOften(after) => {
                let (max, per) = claim.rate.unwrap_or_default();
                SubmitError::TooOften { action: claim.action.clone(), max, per, after }
            }
        }
    }
}

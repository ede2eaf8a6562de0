//! Accepting an execution: admission, then its directory with `spec`, then its row (`synchronous = FULL`), then the start, which the
//! launcher prepares meanwhile. The answer 202 is sent once the row is on disk; from then on the execution reaches a terminal state
//! whatever happens.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::{FORMAT, Spec, State};
use packs_schema::agent::grants::Verb;
use packs_schema::agent::launch::Start;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, ExecutionId, PackVersion, Principal, RunId};
use packs_schema::base::quantity::format_duration;
use packs_schema::pack::action::Class;
use packs_schema::pack::param::bind::BoundParams;
use serde_json::{Map, Value};

use super::admission::{AdmissionRules, Now, Rejection, on_this_boot};
use super::audited::entry_of_start;
use super::caller_limits::LimitRejection;
use super::disk_reserve::{DISK_FAILED, DISK_FULL};
use super::{Exec, HostFault, directory};
use crate::access::Permit;
use crate::audit::AuditError;
use crate::clock;
use crate::history::{BootTime, HistoryError, Key, WriteOutcome};
use crate::registry::ActiveAction;

/// Time after which a caller with too many executions may try again.
const UNTIL_ONE_ENDS: Duration = Duration::from_secs(5);

/// Request to run an action. Has no `Debug`: parameters may be secret.
pub struct Order {
    /// Action.
    pub action: Arc<ActiveAction>,
    /// Pack version that must be active, when the caller named one.
    pub version: Option<PackVersion>,
    /// Class that the action must have, when the caller named one.
    pub class: Option<Class>,
    /// Checked parameters.
    pub bound: BoundParams,
    /// True for a dry run.
    pub noop: bool,
    /// Shorter time-out than the action's, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Reason given by the caller.
    pub note: Option<String>,
    /// Fan-out that it is part of.
    pub run: Option<RunId>,
    /// Idempotency key of the caller.
    pub key: Option<Key>,
    /// `traceparent` of W3C Trace Context.
    pub traceparent: Option<String>,
}

/// Accepted execution.
#[derive(Debug)]
pub struct Accepted {
    /// The execution in its present state.
    pub execution: Execution,
    /// True if it was accepted before, with the same key.
    pub replayed: bool,
}

/// Error returned when an execution is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The agent is starting or stopping.
    #[error("the agent is starting or stopping: try again in a moment")]
    NotReady,
    /// The permit is for another verb or action.
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
    /// The action has another class than the caller named.
    #[error("{action} is a {class} action here, not {wanted}: nothing was started")]
    ClassMismatch {
        /// Action that was to run.
        action: ActionRef,
        /// Class that the caller named.
        wanted: Class,
        /// Class of the action.
        class: Class,
    },
    /// The queue is full.
    #[error(
        "the queue is full: {max} executions are waiting; try again in {wait}, when one may have been started",
        wait = format_wait(*after)
    )]
    QueueFull {
        /// Maximum length of the queue.
        max: u32,
        /// Estimated time until a slot is free.
        after: Duration,
    },
    /// The concurrency group is busy, and the action does not queue.
    #[error(
        "the concurrency group {group} is busy and its action does not queue; try again in {wait}, \
         when a running execution may have ended",
        wait = format_wait(*after)
    )]
    Busy {
        /// Concurrency group.
        group: String,
        /// Estimated time until the group has a slot.
        after: Duration,
    },
    /// The rate of the action is exceeded.
    #[error(
        "{action} may be started {max} times in {per}; try again in {wait}",
        per = format_duration(*per), wait = format_wait(*after)
    )]
    TooOften {
        /// Action.
        action: ActionRef,
        /// Maximum number of acceptances.
        max: u32,
        /// Period that the maximum applies to.
        per: Duration,
        /// Time until it may be started again.
        after: Duration,
    },
    /// The caller starts executions faster than a limit of `grants.toml` allows.
    #[error(
        "a limit of grants.toml lets this caller start {max} executions in {per}; try again in {wait}",
        per = format_duration(*per), wait = format_wait(*after)
    )]
    CallerTooOften {
        /// Maximum number of starts.
        max: u32,
        /// Period that the maximum applies to.
        per: Duration,
        /// Time until the next one is allowed.
        after: Duration,
    },
    /// The caller has as many executions as a limit of `grants.toml` allows.
    #[error(
        "a limit of grants.toml lets this caller have {max} executions that have not ended; try again in {wait}, \
         when one may have ended",
        wait = format_wait(*after)
    )]
    CallerTooMany {
        /// Maximum number of executions.
        max: u32,
        /// Time after which to try again.
        after: Duration,
    },
    /// The idempotency key was used with another body.
    #[error("the idempotency key belongs to execution {0}, which was started with another body: use a new key")]
    KeyMismatch(ExecutionId),
    /// The disk is full.
    #[error(
        "the disk of the state directory is full, or nearly so: nothing was accepted; free some space and try again"
    )]
    DiskFull,
    /// The execution could not be recorded in the audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The directory cannot be created.
    #[error("cannot create the execution's directory")]
    Directory(#[source] io::Error),
    /// The history failed.
    #[error("cannot write the execution to the history")]
    History(#[source] HistoryError),
    /// The accepting task panicked.
    #[error("the agent failed while accepting the execution")]
    Task,
}

/// Returns whole seconds to wait, at least one: a caller that waits them is not refused for the same reason.
pub(crate) fn seconds_to_wait(after: Duration) -> u64 {
    after.saturating_add(Duration::from_millis(999)).as_secs().max(1)
}

fn format_wait(after: Duration) -> String {
    format_duration(Duration::from_secs(seconds_to_wait(after)))
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

/// Refuses a request for an action of another class than `active` has.
pub fn check_class(wanted: Option<Class>, active: &ActiveAction) -> Result<(), SubmitError> {
    match wanted {
        Some(wanted) if wanted != active.action.class => {
            Err(SubmitError::ClassMismatch { action: active.action.reference(), wanted, class: active.action.class })
        }
        _ => Ok(()),
    }
}

impl Order {
    /// Makes the start request for a spec.
    pub(super) fn start_request(spec: Spec) -> Start {
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

    /// Returns the parameters that the caller gave, secrets masked.
    fn masked_parameters(&self) -> Map<String, Value> {
        let public = self.bound.public().iter();
        public
            .filter(|(name, _)| self.bound.given().contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl Exec {
    /// Accepts an execution. Completes also when the caller has disconnected.
    pub async fn submit(self: &Arc<Self>, permit: Permit, order: Order) -> Result<Accepted, SubmitError> {
        let exec = self.clone();
        tokio::spawn(async move { exec.accept(permit, order).await }).await.unwrap_or(Err(SubmitError::Task))
    }

    async fn accept(self: Arc<Self>, permit: Permit, order: Order) -> Result<Accepted, SubmitError> {
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
        check_class(order.class, &order.action)?;
        if !self.has_disk_space() {
            return Err(SubmitError::DiskFull);
        }
        self.audit.check()?;
        let rules = AdmissionRules::of(&order.action.action);
        self.load_past_acceptances(&rules).await?;
        let id = ExecutionId::new(uuid::Uuid::now_v7().hyphenated().to_string()).expect("a UUID is an execution id");
        let (now_ms, boottime_ms) = (clock::now_ms(), clock::boottime_ms());
        self.admit(&id, permit.principal(), &rules, i64::try_from(boottime_ms).unwrap_or(i64::MAX))?;
        let created = self.create(&id, &permit, &order, (now_ms, boottime_ms)).await;
        self.lock().limits.accepting.remove(&id);
        match created {
            Ok(None) => {}
            other => {
                self.lock().slots.release(&id);
                directory::remove(&self.directory(&id));
                self.start_ready();
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
        // Checked only now: a slot may have become free meanwhile.
        if self.lock().slots.is_running(&id) {
            self.launch(&id);
        } else {
            self.register_queued(&id);
            self.expire_after(&id, order.action.action.start_within.0);
        }
        // Behind the start, which it must not delay and whose task has its turn first: the row is marked, so that a crash does not
        // lose the entry.
        tokio::task::yield_now().await;
        self.audit.committed(id, entry_of_start(&execution)).await;
        Ok(Accepted { execution, replayed: false })
    }

    /// Creates the directory, then the row. `Some`: the caller's key belongs to another execution, with this fingerprint.
    async fn create(
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
            parameters: order.masked_parameters(),
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
        let start = Order::start_request(Spec { parameters: order.bound.given().clone(), ..spec.clone() });
        // Not of a pushed version, whose end by the wall clock the launcher checks when it looks the action up.
        if spec.dev.is_none() {
            self.prepare(id, &start);
        }
        let directory = self.directory(id);
        let created = self.spares.create(&directory).and_then(|()| directory::write_spec(&directory, &spec));
        created.map_err(|e| self.directory_error(e))?;
        let mut record = self.new_record(&spec);
        record.parameters = order.bound.public().clone();
        let has_rate = active.action.rate.is_some();
        let boot_time = has_rate.then(|| BootTime { boot_id: self.settings.boot_id.clone(), boottime_ms });
        let position = self.audit.position();
        let inserted = self.history.insert_unaudited(record.clone(), order.key.clone(), boot_time, position).await;
        match inserted {
            Ok(WriteOutcome::KeyExists(existing, fingerprint)) => return Ok(Some((*existing, fingerprint))),
            Ok(WriteOutcome::Written | WriteOutcome::Unchanged) => {}
            Err(error) => return Err(self.history_error(error)),
        }
        // The row is on disk: from here on the execution must reach a terminal state.
        self.track(record, Some(Box::new(start)), Some(active.action.class));
        Ok(None)
    }

    fn directory_error(self: &Arc<Self>, error: io::Error) -> SubmitError {
        match HostFault::classify(&error) {
            Some(HostFault::Storage) => {
                self.report_disk_problem(DISK_FULL, format!("cannot create an execution's directory: {error}"));
                SubmitError::DiskFull
            }
            Some(HostFault::Device) => {
                self.report_disk_problem(DISK_FAILED, format!("cannot create an execution's directory: {error}"));
                SubmitError::Directory(error)
            }
            Some(HostFault::Resources) | None => SubmitError::Directory(error),
        }
    }

    fn history_error(self: &Arc<Self>, error: HistoryError) -> SubmitError {
        match &error {
            HistoryError::DiskFull | HistoryError::ReadOnly => {
                self.report_disk_problem(DISK_FULL, error.to_string());
                SubmitError::DiskFull
            }
            // SQLite reports some kinds of a full disk as I/O errors.
            HistoryError::Device(_) if directory::is_low_on_space(&self.settings.executions) => {
                self.report_disk_problem(DISK_FULL, error.to_string());
                SubmitError::DiskFull
            }
            HistoryError::Device(_) => {
                self.report_disk_problem(DISK_FAILED, error.to_string());
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

    async fn load_past_acceptances(&self, rules: &AdmissionRules) -> Result<(), SubmitError> {
        let Some((_, per)) = rules.rate else { return Ok(()) };
        if self.lock().slots.lacks_past_acceptances(&rules.action) {
            let per_ms = u64::try_from(per.as_millis()).unwrap_or(u64::MAX);
            let now = Now { wall_ms: clock::now_ms(), boottime_ms: clock::boottime_ms() };
            let boot_id = &self.settings.boot_id;
            let since = BootTime { boot_id: boot_id.clone(), boottime_ms: now.boottime_ms.saturating_sub(per_ms) };
            let since_ms = now.wall_ms.saturating_sub(per_ms);
            let past = self.history.accepted_since(&rules.action, since_ms, since).await;
            let past = past.map_err(SubmitError::History)?;
            let past = past.iter().map(|accepted| on_this_boot(accepted, boot_id, now)).collect();
            self.lock().slots.set_past_acceptances(&rules.action, past);
        }
        Ok(())
    }

    /// Gives an execution a slot or a place in the queue, within the limits of its caller.
    fn admit(
        &self,
        id: &ExecutionId,
        who: &Principal,
        rules: &AdmissionRules,
        boottime_ms: i64,
    ) -> Result<(), SubmitError> {
        let limits = self.access.limits_of(who);
        let mut tables = self.lock();
        if !limits.is_empty() {
            let unfinished = tables.unfinished_of(who);
            tables.limits.check(&limits, who, unfinished, boottime_ms).map_err(|rejection| match rejection {
                LimitRejection::TooOften { rate, after } => {
                    SubmitError::CallerTooOften { max: rate.max, per: rate.per.0, after }
                }
                LimitRejection::TooMany(max) => SubmitError::CallerTooMany { max, after: UNTIL_ONE_ENDS },
            })?;
        }
        let placed = tables.slots.admit(id, rules.clone(), boottime_ms);
        placed.map_err(|rejection| self.submit_error(rejection, rules))?;
        if !limits.is_empty() {
            tables.limits.take(&limits, who, boottime_ms);
            tables.limits.accepting.insert(id.clone(), who.clone());
        }
        Ok(())
    }

    fn submit_error(&self, rejection: Rejection, rules: &AdmissionRules) -> SubmitError {
        match rejection {
            Rejection::QueueFull(after) => SubmitError::QueueFull { max: self.settings.max_queued, after },
            Rejection::Busy(after) => SubmitError::Busy { group: rules.group.clone(), after },
            Rejection::RateExceeded(after) => {
                let (max, per) = rules.rate.unwrap_or_default();
                SubmitError::TooOften { action: rules.action.clone(), max, per, after }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whole_seconds_after_which_the_same_request_fits() {
        let said = |ms: u64| {
            let (per, after) = (Duration::from_secs(3600), Duration::from_millis(ms));
            SubmitError::TooOften { action: ActionRef::new("a.b").unwrap(), max: 2, per, after }.to_string()
        };
        assert_eq!(said(0), "a.b may be started 2 times in 1h; try again in 1s");
        assert_eq!(said(300), "a.b may be started 2 times in 1h; try again in 1s");
        assert_eq!(said(59_001), "a.b may be started 2 times in 1h; try again in 1m");
    }
}

//! Starting executions that have a slot, through the launcher.
//!
//! The grants in force are checked again before each start request. The launcher counts running executions itself, by the
//! directories in its run-time directory, and refuses more than `execution.max_shims`; the request is then retried.
//!
//! The launcher starts only the active version of a pack, and what was registered while a version was active, once each
//! (`agent/launcher/src/accepted.rs`). A queued execution is therefore registered (`Accept`), so that it may still start when its
//! version is replaced while it waits; a start request that differs in anything from the registration is refused. An execution
//! that is being started at the very moment in which its version is replaced ends as `error` with that reason.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, Refusal, Start};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, Principal};
use packs_schema::pack::action::Class;
use packs_schema::pack::param::bind::bind;
use serde_json::{Map, Value};

use super::live::LiveExecution;
use super::state::{Ownership, StartOutcome, interpret_start, may_expire};
use super::{Exec, LauncherError};
use crate::clock;

/// Number of attempts to start while the launcher is at its limit of running executions.
const START_ATTEMPTS: u32 = 120;
/// Pause between two attempts.
const START_PAUSE: Duration = Duration::from_millis(500);

/// Maximum number of running executions with which the start of the last one is prepared. With more, the processors are busy, and
/// preparing would only cost a request.
const MAX_PREPARED: u32 = 2;

/// Beginning of the reason of an execution whose caller lost the grant before the start.
const REVOKED: &str = "not started: the grant was revoked while it waited";

impl Exec {
    /// Has the launcher prepare the start of an execution that is about to be accepted, if it has a slot. Waits for nothing. Until
    /// the start itself, which follows the commit, nothing of the action runs.
    pub(super) fn prepare(&self, id: &ExecutionId, start: &Start) {
        let is_next = {
            let slots = &self.lock().slots;
            slots.is_running(id) && slots.running() <= MAX_PREPARED
        };
        if !is_next || !self.launcher.prepares() {
            return;
        }
        self.launcher.prepare(Box::new(start.clone()));
    }

    /// Starts the queued executions that can have a slot now.
    pub(super) fn start_ready(self: &Arc<Self>) {
        let next = self.lock().slots.take_ready(clock::signed_boottime_ms());
        for id in next {
            self.launch(&id);
        }
    }

    /// Asks the launcher to start an execution that has a slot, if its caller still has the grant.
    pub(super) fn launch(self: &Arc<Self>, id: &ExecutionId) {
        if !self.access.is_known() {
            // The file of grants could not be used since the start: neither a start nor a refusal is right. Its start deadline holds.
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move {
                exec.access.known().await;
                exec.launch(&id);
            });
            return;
        }
        if let Some(principal) = self.revoked_caller(id) {
            if self.claim_start(id, may_expire) {
                tracing::warn!(execution = %id, %principal, "{REVOKED}");
                self.abort(id, State::Error, format!("{REVOKED}: no grant lets {principal} run it any more"));
            }
            return;
        }
        let start = {
            let mut tables = self.lock();
            let Some(live) = tables.live.get_mut(id) else { return };
            if let Some(expiry) = live.expiry.take() {
                expiry.abort();
            }
            let start = if live.ownership() == Ownership::Ours { live.start.take() } else { None };
            live.start_requested |= start.is_some();
            start
        };
        let Some(start) = start else { return };
        let (exec, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let outcome = interpret_start(exec.request_start(&id, start).await);
            if let Some(live) = exec.lock().live.get_mut(&id) {
                live.start_requested = outcome == StartOutcome::Unknown;
            }
            match outcome {
                StartOutcome::Unknown => {}
                // The shim may have ended before the answer came.
                StartOutcome::Started | StartOutcome::AlreadyStarted => exec.reconcile_answered(&id),
                StartOutcome::Refused(reason) => {
                    tracing::warn!(execution = %id, reason, "the launcher refused to start it");
                    let expired = exec.is_of_expired_push(&id);
                    let reason = if expired { format!("the pushed version has expired: {reason}") } else { reason };
                    exec.abort(&id, State::Error, reason);
                }
            }
            // While the action runs: the launcher may have to wait for this processor, and the next caller must not. If it has
            // ended already, the writer is woken before.
            tokio::task::yield_now().await;
            exec.spares.refill();
        });
    }

    /// Registers a queued execution with the launcher, so that it may start although its version is replaced meanwhile. A
    /// refusal is only logged: the start request will be refused as well, and that decides.
    pub(super) fn register_queued(self: &Arc<Self>, id: &ExecutionId) {
        let start = self.lock().live.get(id).and_then(|live| live.start.clone());
        let Some(start) = start else { return };
        let (exec, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            if let Ok(Outcome::Refused { code, message }) = exec.launcher.ask(Operation::Accept(start)).await {
                tracing::warn!(execution = %id, ?code, reason = message, "the launcher refused to register a queued execution");
            }
        });
    }

    /// Returns the caller of a waiting execution, if the grants in force no longer let it run the action.
    fn revoked_caller(&self, id: &ExecutionId) -> Option<Principal> {
        let waiting = |live: &LiveExecution| {
            let given = live.start.as_ref().map(|start| start.parameters.clone()).unwrap_or_default();
            (live.ownership() == Ownership::Ours).then(|| (live.record.clone(), live.class, given))
        };
        let (record, class, given) = self.lock().live.get(id).and_then(waiting)?;
        self.revoked_caller_of(record, class, &given)
    }

    /// As [`revoked_caller`](Self::revoked_caller), for a record. The class is looked up if it is not known.
    fn revoked_caller_of(
        &self,
        record: Execution,
        class: Option<Class>,
        given: &Map<String, Value>,
    ) -> Option<Principal> {
        let Execution { action, version, digest, principal, .. } = record;
        let look_up = || self.registry.action_in(&action, &version, &digest);
        let class = class.or_else(|| look_up().map(|active| active.action.class));
        let lets_run = |values: &Map<String, Value>| self.access.lets_run(&principal, &action, class, values);
        // The values are bound again only where all grants constrain them: without values, only a grant counts that does not.
        let is_allowed = lets_run(&Map::new())
            || look_up()
                .and_then(|active| bind(&active.action.parameters, given).ok())
                .is_some_and(|bound| lets_run(bound.values()));
        (!is_allowed).then_some(principal)
    }

    /// Requests a start, and retries while the launcher is at its limit: it may count executions that the api does not, such as
    /// what a dead shim left behind, until they are cleaned up. A kill meanwhile takes effect when the shim starts.
    async fn request_start(&self, id: &ExecutionId, start: Box<Start>) -> Result<Outcome, LauncherError> {
        for _ in 0..START_ATTEMPTS {
            match self.launcher.ask(Operation::Start(start.clone())).await {
                Ok(Outcome::Refused { code: Refusal::TooManyRunning, message }) => {
                    tracing::warn!(execution = %id, reason = message, "its start has to wait; retrying");
                    tokio::time::sleep(START_PAUSE).await;
                    let record = self.live_record(id);
                    if let Some(principal) =
                        record.and_then(|record| self.revoked_caller_of(record, None, &start.parameters))
                    {
                        tracing::warn!(execution = %id, %principal, "{REVOKED}");
                        return Ok(Outcome::Refused { code: Refusal::Other, message: REVOKED.to_owned() });
                    }
                }
                answer => return answer,
            }
        }
        self.launcher.ask(Operation::Start(start)).await
    }

    /// True if an execution belongs to a pushed version that expired before the start.
    fn is_of_expired_push(&self, id: &ExecutionId) -> bool {
        self.live_record(id).is_some_and(|record| {
            let Execution { action, version, digest, dev, .. } = &record;
            dev.is_some() && self.registry.action_in(action, version, digest).is_none()
        })
    }
}

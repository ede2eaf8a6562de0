//! Reconciling a live execution with its directory: reads the records there and applies what they say.
//!
//! Entered through [`Exec::reconcile`] when something in the directory may have changed, and through [`Exec::reconcile_started`] and
//! [`Exec::reconcile_exit`] when one file is known to have: only that one is read, which is what a reader of the whole directory
//! would have found a moment earlier, or decides alone. An execution whose shim died without an
//! exit record is checked a second time, cleaned up by the launcher, and ended as `lost`. Nothing here signals a process.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::launch::Operation;
use packs_schema::base::name::ExecutionId;

use super::Exec;
use packs_schema::agent::execution::{State, file};

use super::directory::{self, Lock, RETRY_AFTER, read_evidence, read_evidence_retrying, read_record};
use super::state::{
    Change, CleanUpOutcome, LostCheck, Ownership, end_lost, inspect, inspect_exit, inspect_started, interpret_clean_up,
    recheck_lost,
};
use crate::clock;

/// Maximum time the launcher may take to clean up after a shim that died.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(15);

/// Pauses between checks of a lock that was closed and is about to be released.
const RELEASE_PAUSES: [Duration; 4] =
    [Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(5)];

impl Exec {
    /// Reads an execution's directory and applies what it says.
    pub(super) fn reconcile(self: &Arc<Self>, id: &ExecutionId) {
        let Some((state, ownership)) = self.live_state(id) else { return };
        if ownership == Ownership::Ending {
            return;
        }
        let evidence = match read_evidence(&self.directory(id)) {
            Ok(evidence) => evidence,
            Err(error) => {
                tracing::warn!(execution = %id, %error, "cannot read its directory; retrying");
                let (exec, id) = (self.clone(), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY_AFTER).await;
                    exec.reconcile(&id);
                });
                return;
            }
        };
        let inspection = inspect(evidence, state, ownership);
        if let Some(change) = inspection.change {
            self.apply_change(id, change);
        }
        if inspection.shim_lost {
            // Cleaning up may take seconds; other executions do not wait for it.
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move { exec.clean_up_lost(&id).await });
        }
    }

    /// Reads the exit record that has appeared, and applies it; false if it is not valid.
    pub(super) fn reconcile_exit(self: &Arc<Self>, id: &ExecutionId) -> bool {
        match self.live_state(id) {
            None | Some((_, Ownership::Ending)) => true,
            Some(_) => match read_record(&self.directory(id).join(file::EXIT)).map(inspect_exit) {
                Ok(Some(change)) => {
                    self.apply_change(id, change);
                    true
                }
                Ok(None) | Err(_) => {
                    self.reconcile(id);
                    false
                }
            },
        }
    }

    /// Reads the record of the start that has appeared, and applies it.
    pub(super) fn reconcile_started(self: &Arc<Self>, id: &ExecutionId) {
        // Whatever else has changed has an event of its own.
        if let Some((State::Queued, _)) = self.live_state(id) {
            match read_record(&self.directory(id).join(file::STARTED)) {
                Ok(started) => {
                    if let Some(change) = inspect_started(started, State::Queued) {
                        self.apply_change(id, change);
                    }
                }
                Err(_) => self.reconcile(id),
            }
        }
    }

    /// Reconciles an execution whose start the launcher has answered. Until then a free lock meant nothing; a held one is released
    /// with an event, and everything else has one, too.
    pub(super) fn reconcile_answered(self: &Arc<Self>, id: &ExecutionId) {
        let is_watched = match self.lock().live.get(id) {
            Some(live) if live.ownership() != Ownership::Ending => live.watch.is_some(),
            // The action may have ended before the answer came, and nothing may delay the commit of its end.
            _ => return,
        };
        let is_held = || matches!(directory::probe_lock(&self.directory(id)), Ok(Lock::Held));
        if !(is_watched && is_held()) {
            self.reconcile(id);
        }
    }

    fn live_state(&self, id: &ExecutionId) -> Option<(State, Ownership)> {
        self.lock().live.get(id).map(|live| (live.record.state, live.ownership()))
    }

    /// As [`reconcile`](Self::reconcile), for an execution whose lock was closed for the last time.
    ///
    /// The kernel reports the close before it releases the lock (`__fput`: `fsnotify_close` comes before `locks_remove_file`),
    /// and reports nothing afterwards. A lock that is found held is therefore checked again for some seconds.
    pub(super) fn reconcile_released(self: &Arc<Self>, id: &ExecutionId) {
        if matches!(self.live_state(id), None | Some((_, Ownership::Ending))) {
            return;
        }
        if !self.reconcile_if_released(id) {
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move {
                for pause in RELEASE_PAUSES {
                    tokio::time::sleep(pause).await;
                    if exec.reconcile_if_released(&id) {
                        return;
                    }
                }
            });
        }
    }

    /// Reconciles; false if the lock was still held before and the execution goes on.
    fn reconcile_if_released(self: &Arc<Self>, id: &ExecutionId) -> bool {
        let is_held = !matches!(directory::probe_lock(&self.directory(id)), Ok(Lock::Free | Lock::Absent));
        self.reconcile(id);
        !is_held || !self.lock().live.contains_key(id)
    }

    /// Ends an execution whose shim died without an exit record, after the launcher has stopped what was left of it.
    async fn clean_up_lost(self: &Arc<Self>, id: &ExecutionId) {
        let change = match recheck_lost(read_evidence_retrying(&self.directory(id)).await) {
            LostCheck::Leave => None,
            LostCheck::TakeOver(exit) => Some(Change::Ended(exit)),
            LostCheck::CleanUp => {
                let outcome = self.request_clean_up(id).await;
                end_lost(read_evidence_retrying(&self.directory(id)).await, outcome, clock::now_ms())
            }
        };
        if let Some(change) = change {
            self.apply_change(id, change);
        }
    }

    /// Asks the launcher to stop whatever is left of an execution without a shim.
    pub(super) async fn request_clean_up(&self, id: &ExecutionId) -> CleanUpOutcome {
        let answer = self.launcher.ask(Operation::Kill { execution: id.clone() });
        let outcome = interpret_clean_up(tokio::time::timeout(CLEAN_UP_TIMEOUT, answer).await.ok());
        if let CleanUpOutcome::Failed(why) = &outcome {
            tracing::error!(execution = %id, "{why}");
        }
        outcome
    }
}

//! From what a directory says, or what we decide, to a state that everybody sees: into the history first, then to
//! those who wait. An end is tried until it is written.
//!
//! Comes in: an id whose directory has something new ([`Exec::reconcile`]), or a decision of ours ([`Exec::abort`]). Must never
//! show what is not written, or signal a process.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::Operation;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;

use super::Exec;
use super::directory::{self, LOOK_AGAIN, Lock, evidence, evidence_in_time};
use super::room::{DISK_FULL, FULL};
use super::state::{self, Burial, Change, Cleaned, advance, burial, cleaned, look, lost};
use crate::clock;
use crate::history::HistoryError;

/// How long the launcher may take to clean up after a shim that was killed.
const CLEAN_UP: Duration = Duration::from_secs(15);
/// Between two tries to write to the history what cannot be lost.
const RETRY: Duration = Duration::from_secs(2);
/// The code of health when the history cannot be written.
pub(super) const HISTORY_FAILED: &str = "history_failed";

/// The pauses between looks at a lock that was closed and may be released in a moment.
const RELEASED_WITHIN: [Duration; 4] =
    [Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(5)];

impl Exec {
    /// Reads an execution's directory and takes over what it says.
    pub(super) fn reconcile(self: &Arc<Self>, id: &ExecutionId) {
        let Some((state, standing)) = self.lock().live.get(id).map(|live| (live.record.state, live.standing())) else {
            return;
        };
        let evidence = match evidence(&self.directory(id)) {
            Ok(evidence) => evidence,
            Err(error) => {
                tracing::warn!(execution = %id, %error, "cannot look into its directory; trying again");
                let (exec, id) = (self.clone(), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    exec.reconcile(&id);
                });
                return;
            }
        };
        let seen = look(evidence, state, standing);
        if let Some(change) = seen.change {
            self.settle(id, change);
        }
        if seen.bury {
            // Cleaning up may take its time; other executions do not wait for it.
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move { exec.bury(&id).await });
        }
    }

    /// As [`reconcile`](Self::reconcile), for an execution whose lock was closed for the last time.
    ///
    /// The kernel tells that before it releases the lock (`__fput`: `fsnotify_close` comes before `locks_remove_file`), and
    /// tells nothing afterwards. So a lock that is found held is looked at again for some seconds.
    pub(super) fn reconcile_released(self: &Arc<Self>, id: &ExecutionId) {
        if !self.reconcile_if_released(id) {
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move {
                for pause in RELEASED_WITHIN {
                    tokio::time::sleep(pause).await;
                    if exec.reconcile_if_released(&id) {
                        return;
                    }
                }
            });
        }
    }

    /// Reconciles; false if the execution goes on and its lock was still held before.
    fn reconcile_if_released(self: &Arc<Self>, id: &ExecutionId) -> bool {
        let is_held = !matches!(directory::lock(&self.directory(id)), Ok(Lock::Free | Lock::Absent));
        self.reconcile(id);
        !is_held || !self.lock().live.contains_key(id)
    }

    /// Ends an execution whose shim has gone without a word.
    async fn bury(self: &Arc<Self>, id: &ExecutionId) {
        let change = match burial(evidence_in_time(&self.directory(id)).await) {
            Burial::Leave => None,
            Burial::Take(exit) => Some(Change::Ended(exit)),
            Burial::CleanUp => {
                let cleaned = self.clean_up(id).await;
                lost(evidence_in_time(&self.directory(id)).await, cleaned, clock::now_ms())
            }
        };
        if let Some(change) = change {
            self.settle(id, change);
        }
    }

    /// Has the launcher stop whatever is left of an execution without a shim.
    pub(super) async fn clean_up(&self, id: &ExecutionId) -> Cleaned {
        let ask = self.launcher.ask(Operation::Kill { execution: id.clone() });
        let cleaned = cleaned(tokio::time::timeout(CLEAN_UP, ask).await.ok());
        if let Cleaned::Failed(why) = &cleaned {
            tracing::error!(execution = %id, "{why}");
        }
        cleaned
    }

    pub(super) fn abort(self: &Arc<Self>, id: &ExecutionId, state: State, reason: String) {
        self.settle(id, Change::Aborted { state, reason, at_ms: clock::now_ms() });
    }

    /// Takes over a change: into the history first, then to whoever waits. An end is tried until it is written.
    pub(super) fn settle(self: &Arc<Self>, id: &ExecutionId, change: Change) {
        let by_us = matches!(change, Change::Aborted { .. });
        let (record, changes) = {
            let mut core = self.lock();
            let Some(live) = core.live.get_mut(id).filter(|live| !live.ending) else { return };
            let mut record = live.record.clone();
            let changes = match advance(&mut record, change) {
                Ok(changes) => changes,
                Err(error) => return tracing::error!(execution = %id, %error, "a change of state was passed over"),
            };
            if record.state.is_terminal() {
                live.ending = true;
            } else {
                live.record = record.clone();
            }
            (record, changes)
        };
        let exec = self.clone();
        tokio::spawn(async move {
            let ended = record.state.is_terminal();
            if by_us {
                exec.leave_exit(&record);
            }
            if !exec.remember(&record, &changes).await {
                // Not shown either: the next start reads it from the directory.
                return;
            }
            for (state, _) in &changes {
                exec.metrics.execution(&record.action, *state);
                if record.dev.is_some() {
                    exec.metrics.dev_execution(*state);
                }
            }
            if ended {
                exec.metrics.finished(&record);
                exec.finish(record);
            }
        });
    }

    /// Leaves in its directory how an execution without a shim ended: should the history be lost, it is not started again.
    pub(super) fn leave_exit(&self, record: &Execution) {
        if let Err(error) = directory::write_exit(&self.directory(&record.id), &state::exit_of(record)) {
            tracing::error!(execution = %record.id, %error, "its end is in the history only");
        }
    }

    /// Writes to the history, and tries again until it can when the execution has ended. False: it is not written.
    pub(super) async fn remember(self: &Arc<Self>, record: &Execution, changes: &[(State, u64)]) -> bool {
        loop {
            match self.history.update(record.clone(), changes.to_vec()).await {
                Ok(_) => {
                    self.health.clear(HISTORY_FAILED);
                    return true;
                }
                Err(error @ (HistoryError::Closed | HistoryError::OldSqlite(_))) => {
                    tracing::error!(execution = %record.id, %error, "not written to the history");
                    return false;
                }
                // What is given up makes room for this end; no new one is accepted until it is there again.
                Err(HistoryError::DiskFull) if record.state.is_terminal() && self.room.give_up() => {
                    tracing::warn!(execution = %record.id, "the disk is full: the reserve is given up for this end");
                    self.mend(DISK_FULL, FULL.to_owned());
                    continue;
                }
                Err(
                    error @ (HistoryError::DiskFull
                    | HistoryError::ReadOnly
                    | HistoryError::OutOfResources(_)
                    | HistoryError::Device(_)
                    | HistoryError::Sqlite(_)
                    | HistoryError::Damaged(_)
                    | HistoryError::Open { .. }
                    | HistoryError::SetAside { .. }),
                ) => {
                    tracing::error!(execution = %record.id, %error, "not written to the history");
                    self.health.set(HISTORY_FAILED, error.to_string());
                    if !record.state.is_terminal() {
                        // The directory has it as well, and its end will say so.
                        return true;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The end is in the history: tells those who wait, and gives its place to the next.
    pub(super) fn finish(self: &Arc<Self>, record: Execution) {
        let id = record.id.clone();
        let live = {
            let mut core = self.lock();
            core.board.release(&record.id);
            if let (State::Succeeded, Some(took_ms)) = (record.state, record.duration_ms) {
                core.board.learn(&record.action, Duration::from_millis(took_ms));
            }
            core.live.remove(&record.id)
        };
        tracing::info!(execution = %record.id, action = %record.action, state = %record.state, "ended");
        if let Some(live) = live {
            if let Some(watch) = live.watch {
                self.watcher.forget(watch);
            }
            if let Some(expiry) = live.expiry {
                expiry.abort();
            }
            live.progress.send_modify(|progress| {
                progress.generation += 1;
                progress.ended = Some(Arc::new(record));
            });
        }
        self.meter.ended(&id);
        self.pump();
    }
}

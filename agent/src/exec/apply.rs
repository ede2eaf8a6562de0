//! Applying a state change: into the history first, then to waiters and followers. Writing an end is retried until it succeeds.
//!
//! `running` is shown from memory at once. It is written a while later, and with the end in one commit if that comes before, unless
//! events are followed; whatever reads states from the history has it written before ([`Exec::write_started`]). So a short
//! execution costs one commit less, and no reader can tell.
//!
//! Changes come from `reconcile` (what the directory says) or from a decision of the api ([`Exec::abort`]). A change that is
//! not in the history is never shown, but for `running`; an end is committed with `synchronous = FULL` before any caller sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;
use tokio::time::Instant;

use super::disk_reserve::{DISK_FULL, DISK_FULL_MESSAGE};
use super::live::Tables;
use super::state::{Change, advance, to_exit_record};
use super::{Exec, directory};
use crate::clock;
use crate::history::HistoryError;

/// Pause between two attempts to write an end to the history.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Time after which `running` is written although the execution goes on.
const WRITE_STARTED_AFTER: Duration = Duration::from_millis(100);
/// Health code: the history cannot be written.
const HISTORY_FAILED: &str = "history_failed";

impl Exec {
    /// Ends an execution without an exit record of a shim.
    pub(super) fn abort(self: &Arc<Self>, id: &ExecutionId, state: State, reason: String) {
        self.apply_change(id, Change::Aborted { state, reason, at_ms: clock::now_ms() });
    }

    /// Applies a change to a live execution: writes it to the history, then shows it.
    pub(super) fn apply_change(self: &Arc<Self>, id: &ExecutionId, change: Change) {
        let by_api = matches!(change, Change::Aborted { .. });
        let (record, changes) = {
            let mut tables = self.lock();
            let Some(live) = tables.live.get_mut(id).filter(|live| !live.ending) else { return };
            let mut record = live.record.clone();
            let changes = match advance(&mut record, change) {
                Ok(changes) => changes,
                Err(error) => return tracing::error!(execution = %id, %error, "ignoring a change of state"),
            };
            live.unwritten.extend(changes);
            if record.state.is_terminal() {
                live.ending = true;
                // Nothing that happens from now on counts, and the shim is about to close its files, which would wake this
                // process.
                if let Some(watch) = live.watch.take() {
                    self.watcher.forget(watch);
                }
            } else {
                live.record = record.clone();
                if self.event_followers.load(Ordering::Relaxed) == 0 {
                    drop(tables);
                    return self.write_started_later(id);
                }
            }
            (record, std::mem::take(&mut live.unwritten))
        };
        let exec = self.clone();
        tokio::spawn(async move {
            let mut record = record;
            let ended = record.state.is_terminal();
            if matches!(record.state, State::Killed | State::Lost) {
                // This process may have been stopped, or too busy to answer root, when it was written.
                exec.record_written_kill(&mut record).await;
            }
            if by_api {
                exec.write_exit_record(&record);
            }
            if !exec.write_changes(&record, &changes).await {
                // Not shown either: the next start reads it from the directory.
                return;
            }
            if ended {
                exec.metrics.finished(&record);
                exec.finish(record);
            }
        });
    }

    /// Writes changes to the history, and counts them. Returns false if this process cannot write them any more.
    async fn write_changes(self: &Arc<Self>, record: &Execution, changes: &[(State, u64)]) -> bool {
        if !self.persist(record, changes).await {
            return false;
        }
        for (state, _) in changes {
            self.metrics.execution(&record.action, *state);
            if record.dev.is_some() {
                self.metrics.dev_execution(*state);
            }
        }
        true
    }

    fn write_started_later(self: &Arc<Self>, id: &ExecutionId) {
        let needs_task = self.lock().starts_to_write.add(Instant::now() + WRITE_STARTED_AFTER, id.clone());
        if needs_task {
            tokio::spawn(self.clone().write_starts());
        }
    }

    /// Writes starts when their time has come, until none is left.
    async fn write_starts(self: Arc<Self>) {
        while let Some(at) = self.next_start_to_write() {
            tokio::time::sleep_until(at).await;
            let due = self.lock().starts_to_write.take_due();
            futures_util::future::join_all(due.iter().map(|id| self.write_started_of(id))).await;
        }
    }

    fn next_start_to_write(&self) -> Option<Instant> {
        let mut tables = self.lock();
        let Tables { live, starts_to_write, .. } = &mut *tables;
        starts_to_write.next(|id| live.get(id).is_some_and(|live| !live.ending && !live.unwritten.is_empty()))
    }

    async fn write_started_of(self: &Arc<Self>, id: &ExecutionId) {
        let unwritten = {
            let mut tables = self.lock();
            let live = tables.live.get_mut(id).filter(|live| !live.ending && !live.unwritten.is_empty());
            live.map(|live| (live.record.clone(), std::mem::take(&mut live.unwritten)))
        };
        if let Some((record, changes)) = unwritten {
            self.write_changes(&record, &changes).await;
        }
    }

    /// Writes the changes of running executions that are in memory only, so that the history says what is shown elsewhere.
    pub async fn write_started(self: &Arc<Self>) {
        // Also waits for those that another reader has begun to write.
        let _one_at_a_time = self.writing_started.lock().await;
        let unwritten: Vec<ExecutionId> = {
            let tables = self.lock();
            tables.live.iter().filter(|(_, live)| !live.unwritten.is_empty()).map(|(id, _)| id.clone()).collect()
        };
        futures_util::future::join_all(unwritten.iter().map(|id| self.write_started_of(id))).await;
    }

    /// Registers a follower of events: until it is dropped, changes are written as they happen.
    pub async fn follow_events(self: &Arc<Self>) -> EventFollower {
        self.event_followers.fetch_add(1, Ordering::Relaxed);
        let follower = EventFollower(self.clone());
        self.write_started().await;
        follower
    }

    /// Writes the exit record of an execution that ended without a shim, so that it is not started again if the history is lost.
    pub(super) fn write_exit_record(&self, record: &Execution) {
        if let Err(error) = directory::write_exit(&self.directory(&record.id), &to_exit_record(record)) {
            tracing::error!(execution = %record.id, %error, "cannot write its exit record: its end is in the history only");
        }
    }

    /// Writes a change to the history; an end is retried until it is written. Returns false if it cannot be written by this
    /// process any more.
    pub(super) async fn persist(self: &Arc<Self>, record: &Execution, changes: &[(State, u64)]) -> bool {
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
                // Releasing the reserve makes space for this end; nothing new is accepted until it is allocated again.
                Err(HistoryError::DiskFull) if record.state.is_terminal() && self.disk_reserve.release() => {
                    tracing::warn!(execution = %record.id, "the disk is full: releasing the reserve to write this end");
                    self.report_disk_problem(DISK_FULL, DISK_FULL_MESSAGE.to_owned());
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
                    | HistoryError::Quarantine { .. }),
                ) => {
                    tracing::error!(execution = %record.id, %error, "not written to the history");
                    self.health.set(HISTORY_FAILED, error.to_string());
                    if !record.state.is_terminal() {
                        // The directory has it as well, and the write of its end repeats it.
                        return true;
                    }
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Removes an execution whose end is in the history from the table, notifies waiters, and gives its slot to the next.
    fn finish(self: &Arc<Self>, record: Execution) {
        let id = record.id.clone();
        let live = {
            let mut tables = self.lock();
            tables.slots.release(&record.id);
            if let (State::Succeeded, Some(took_ms)) = (record.state, record.duration_ms) {
                tables.slots.learn(&record.action, Duration::from_millis(took_ms));
            }
            tables.live.remove(&record.id)
        };
        tracing::info!(execution = %record.id, action = %record.action, state = %record.state, "ended");
        if let Some(live) = live {
            if let Some(expiry) = live.expiry {
                expiry.abort();
            }
            live.progress.send_modify(|progress| {
                progress.generation += 1;
                progress.ended = Some(Arc::new(record));
            });
        }
        self.meter.record_end(&id);
        self.start_ready();
    }
}

/// Guard of a follower of events.
pub struct EventFollower(Arc<Exec>);

impl Drop for EventFollower {
    fn drop(&mut self) {
        self.0.event_followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

//! From what a directory says, or what we decide, to a state that everybody sees: into the history first, then to
//! those who wait. An end is tried until it is written.
//!
//! Comes in: an id whose directory has something new ([`Exec::reconcile`]), or a decision of ours ([`Exec::abort`]). Must never
//! show what is not written, or signal a process.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::launch::{Ask, Outcome};
use packs_schema::name::ExecutionId;
use packs_schema::rest::Execution;
use packs_schema::run::State;

use super::Exec;
use super::directory::{self, Evidence, Lock, evidence};
use super::state::{self, Change, advance};
use crate::clock;
use crate::history::HistoryError;

/// How long the launcher may take to clean up after a shim that was killed.
const CLEAN_UP: Duration = Duration::from_secs(15);
/// Between two tries to write to the history what cannot be lost.
const RETRY: Duration = Duration::from_secs(2);
/// The code of health when the history cannot be written.
pub(super) const HISTORY_FAILED: &str = "history_failed";

impl Exec {
    /// Reads an execution's directory and takes over what it says.
    pub(super) fn reconcile(self: &Arc<Self>, id: &ExecutionId) {
        if !self.lock().live.contains_key(id) {
            return;
        }
        let found = evidence(&self.directory(id));
        if let directory::Found::Good(exit) = found.exit {
            return self.settle(id, Change::Ended(Box::new(exit)));
        }
        let queued = self.lock().live.get(id).is_some_and(|live| live.record.state == State::Queued);
        if queued && let directory::Found::Good(started) = found.started {
            self.settle(id, Change::Started(started));
        }
        if found.lock == Lock::Free {
            // Cleaning up may take its time; other executions do not wait for it.
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move { exec.bury(&id).await });
        }
    }

    /// Ends an execution whose shim has gone without a word.
    pub(super) async fn bury(self: &Arc<Self>, id: &ExecutionId) {
        let left = match evidence(&self.directory(id)) {
            // A shim that was just about to take it: to ask for the end would end it.
            Evidence { lock: Lock::Held, exit: directory::Found::Absent, .. } => return,
            _ => self.clean_up(id).await,
        };
        match evidence(&self.directory(id)).exit.good() {
            Some(exit) => self.settle(id, Change::Ended(Box::new(exit))),
            None => {
                let left = left.map(|left| format!("; {left}")).unwrap_or_default();
                self.abort(id, State::Lost, format!("its shim was killed{left}"));
            }
        }
    }

    /// Has the launcher stop whatever is left of an execution without a shim; answers why that failed, if it did.
    pub(super) async fn clean_up(&self, id: &ExecutionId) -> Option<String> {
        let ask = self.launcher.ask(Ask::Kill { execution: id.clone() });
        let failed = match tokio::time::timeout(CLEAN_UP, ask).await {
            Ok(Ok(Outcome::Done)) => return None,
            Ok(Ok(Outcome::Refused { message, .. })) => format!("the launcher did not clean up after it: {message}"),
            Ok(Err(error)) => format!("nobody cleaned up after it: {error}"),
            Err(_) => "the launcher did not clean up after it in time".to_owned(),
        };
        tracing::error!(execution = %id, "{failed}");
        Some(failed)
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
            exec.remember(&record, &changes).await;
            for (state, _) in &changes {
                exec.metrics.execution(&record.action, *state);
                if record.dev.is_some() {
                    exec.metrics.dev_execution(*state);
                }
            }
            if ended {
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

    /// Writes to the history, and tries again until it can when the execution has ended.
    pub(super) async fn remember(&self, record: &Execution, changes: &[(State, u64)]) {
        loop {
            match self.history.update(record.clone(), changes.to_vec()).await {
                Ok(_) => {
                    self.health.clear(HISTORY_FAILED);
                    return;
                }
                Err(error @ (HistoryError::Closed | HistoryError::OldSqlite(_))) => {
                    return tracing::error!(execution = %record.id, %error, "not written to the history");
                }
                Err(
                    error @ (HistoryError::DiskFull
                    | HistoryError::Sqlite(_)
                    | HistoryError::Open { .. }
                    | HistoryError::SetAside { .. }),
                ) => {
                    tracing::error!(execution = %record.id, %error, "not written to the history");
                    self.health.set(HISTORY_FAILED, error.to_string());
                    if !record.state.is_terminal() {
                        return;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The end is in the history: tells those who wait, and gives its place to the next.
    pub(super) fn finish(self: &Arc<Self>, record: Execution) {
        let live = {
            let mut core = self.lock();
            core.board.release(&record.id);
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
        self.pump();
    }
}

//! Executions of before a restart, once `recovery` has decided what becomes of them: ended, watched again, or queued again.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::Spec;
use packs_schema::agent::rest::Execution;

use super::state::{Change, Present, advance};
use super::{Exec, Order, RecoverError};
use crate::clock;
use crate::history::HistoryError;

impl Exec {
    /// Ends an execution of before a restart, which nobody waits for.
    pub(super) async fn conclude(self: &Arc<Self>, mut record: Execution, change: Change) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let by_us = matches!(change, Change::Aborted { .. });
        match advance(&mut record, change) {
            Ok(changes) => {
                if by_us {
                    self.leave_exit(&record);
                }
                tracing::debug!(execution = %id, state = %record.state, "recovered");
                if !self.remember(&record, &changes).await {
                    return Err(RecoverError::History(HistoryError::Closed));
                }
                for (state, _) in changes {
                    self.metrics.execution(&record.action, state);
                }
                self.metrics.finished(&record);
            }
            Err(error) => tracing::error!(execution = %id, %error, "a change of state was passed over"),
        }
        Ok(())
    }

    /// Takes over an execution that a shim has.
    pub(super) fn adopt_running(self: &Arc<Self>, record: Execution) {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        // How long it has run is told by the wall clock, as far as that can be right.
        let ran_ms = record.started_at_ms.map_or(0, |at| clock::now_ms().saturating_sub(at));
        let since_ms = clock::boot_ms().saturating_sub(i64::try_from(ran_ms).unwrap_or(i64::MAX)).max(0);
        self.lock().board.adopt_running(&id, claim, since_ms);
        self.track(record, None);
        // It may have ended between the look and the watch.
        self.reconcile(&id);
    }

    /// Takes over an execution that has not been started.
    pub(super) fn adopt_waiting(self: &Arc<Self>, record: Execution, spec: Spec, present: &Present) {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        let left = Duration::from_millis(present.left_ms(&spec));
        self.track(record, Some(Box::new(Order::start_of(spec))));
        self.record_waiting(&id);
        self.lock().board.adopt_waiting(&id, claim);
        self.expire_in(&id, left);
    }
}

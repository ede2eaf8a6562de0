//! Executions of before a restart, once `recovery` has decided what becomes of them: ended, watched again, or queued again.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::rest::Execution;
use packs_schema::run::Spec;

use super::state::{Change, Present, advance};
use super::{Exec, Order, RecoverError};

impl Exec {
    /// Ends an execution of before a restart, which nobody waits for.
    pub(super) async fn conclude(&self, mut record: Execution, change: Change) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let by_us = matches!(change, Change::Aborted { .. });
        match advance(&mut record, change) {
            Ok(changes) => {
                if by_us {
                    self.leave_exit(&record);
                }
                tracing::info!(execution = %id, state = %record.state, "recovered");
                self.history.update(record.clone(), changes.clone()).await?;
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
    pub(super) fn adopt_running(self: &Arc<Self>, record: Execution) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        self.lock().board.adopt_running(&id, &claim);
        self.track(record, None)?;
        // It may have ended between the look and the watch.
        self.reconcile(&id);
        Ok(())
    }

    /// Takes over an execution that has not been started.
    pub(super) fn adopt_waiting(
        self: &Arc<Self>,
        record: Execution,
        spec: Spec,
        present: &Present,
    ) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        let left = Duration::from_millis(present.left_ms(&spec));
        self.track(record, Some(Box::new(Order::start_of(spec))))?;
        self.lock().board.adopt_waiting(&id, claim);
        self.expire_in(&id, left);
        Ok(())
    }
}

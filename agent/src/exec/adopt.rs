//! Executions of before a restart, once `recovery` has decided what becomes of them: ended, watched again, or queued again.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::launch::Start;
use packs_schema::rest::Execution;

use super::state::{Change, advance};
use super::{Exec, RecoverError};

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
    pub(super) async fn adopt_running(self: &Arc<Self>, record: Execution) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        self.lock().board.adopt_running(&id, &claim);
        self.track(record, None)?;
        // It may have ended between the look and the watch.
        self.reconcile(&id);
        Ok(())
    }

    /// Takes over an execution that has not been started.
    pub(super) async fn adopt_waiting(
        self: &Arc<Self>,
        record: Execution,
        start: (Start, Duration),
    ) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        self.track(record, Some(Box::new(start.0)))?;
        self.lock().board.adopt_waiting(&id, claim);
        self.expire_in(&id, start.1);
        Ok(())
    }
}

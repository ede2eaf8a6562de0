//! Stopping an execution because a caller asked.

use std::sync::Arc;

use packs_schema::grants::Verb;
use packs_schema::launch::{Ask, Outcome};
use packs_schema::name::ExecutionId;
use packs_schema::rest::Execution;
use packs_schema::run::State;

use super::{Exec, LauncherError, directory};
use crate::access::Permit;
use crate::history::HistoryError;

/// Why an execution is not stopped.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// It is not known.
    #[error("execution {0} is not known")]
    Unknown(ExecutionId),
    /// It has ended.
    #[error("execution {0} has ended: there is nothing to stop")]
    Ended(ExecutionId),
    /// The permit is for something else.
    #[error("the permit does not cover this")]
    NotPermitted,
    /// The launcher refused.
    #[error("the launcher could not stop execution {0}: {1}")]
    Refused(ExecutionId, String),
    /// The launcher did not answer.
    #[error("the launcher did not answer")]
    Launcher(#[source] LauncherError),
    /// The history failed.
    #[error("cannot read the execution")]
    History(#[source] HistoryError),
}

impl Exec {
    /// Stops an execution: one that waits ends at once, one that runs when its shim has ended it.
    pub async fn kill(
        self: &Arc<Self>,
        permit: &Permit,
        id: &ExecutionId,
        note: Option<&str>,
    ) -> Result<Execution, KillError> {
        let found = self.view(id).await.map_err(KillError::History)?.ok_or_else(|| KillError::Unknown(id.clone()))?;
        if permit.verb() != Verb::Kill || *permit.action() != found.action {
            return Err(KillError::NotPermitted);
        }
        let (waited, record) = {
            let mut core = self.lock();
            let live = core.live.get_mut(id).filter(|live| !live.ending);
            let live = live.ok_or_else(|| KillError::Ended(id.clone()))?;
            if live.record.killed_by.is_none() {
                live.record.killed_by = Some(permit.principal().clone());
            }
            (live.start.take().is_some(), live.record.clone())
        };
        tracing::info!(execution = %id, principal = %permit.principal(), note = note.map(|n| n.escape_debug().to_string()), "kill");
        if waited {
            self.abort(id, State::Killed, "it was killed before its start".to_owned());
            return self.view(id).await.map_err(KillError::History)?.ok_or_else(|| KillError::Unknown(id.clone()));
        }
        self.remember(&record, &[]).await;
        // In its directory, where its shim looks also when launcher or api go now; the launcher sees to what has no shim.
        let asked = directory::ask_to_end(&self.directory(id));
        match self.launcher.ask(Ask::Kill { execution: id.clone() }).await {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Refused { message, .. }) => return Err(KillError::Refused(id.clone(), message)),
            Err(LauncherError::Gone) if asked.is_ok() => {}
            Err(error) => return Err(KillError::Launcher(error)),
        }
        self.view(id).await.map_err(KillError::History)?.ok_or_else(|| KillError::Unknown(id.clone()))
    }
}

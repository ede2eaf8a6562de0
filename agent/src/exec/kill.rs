//! Stopping an execution at a caller's request.
//!
//! The request is the file `kill` in the execution's directory, written before the answer, so that it also takes effect when
//! api or launcher crash: a shim checks for it before the action starts and while it runs. Where the disk takes no file, the
//! launcher puts it into its runtime directory, which only a shim that exists already can learn of.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::launch::{Operation, Outcome};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;

use super::audited::entry_of_kill;
use super::directory::Lock;
use super::state::{KILLED_BEFORE_START, KillOutcome, KillStep, decide_kill, interpret_kill};
use super::{Exec, LauncherError, directory};
use crate::access::Permit;
use crate::history::HistoryError;

/// Maximum wait for the end to reach the history, when the kill could not be written into the directory.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Error returned when an execution was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// The id is unknown.
    #[error("execution {0} is not known")]
    Unknown(ExecutionId),
    /// The execution has ended.
    #[error("execution {0} has already ended")]
    Ended(ExecutionId),
    /// The permit is for another verb or action.
    #[error("the permit does not cover this")]
    NotPermitted,
    /// The launcher refused.
    #[error("the launcher could not stop execution {0}: {1}")]
    Refused(ExecutionId, String),
    /// The launcher did not answer.
    #[error("the launcher did not answer")]
    Launcher(#[source] LauncherError),
    /// The request could not be recorded, and would not survive a crash of the agent.
    #[error("cannot record the kill of execution {0} in its directory: it may keep running; try again")]
    Unwritten(ExecutionId, #[source] io::Error),
    /// The history failed.
    #[error("cannot read the execution")]
    History(#[source] HistoryError),
    /// The task panicked.
    #[error("the agent failed while stopping the execution")]
    Task,
}

impl Exec {
    /// Stops an execution: a queued one ends at once, a running one when its shim has stopped it. Completes also when the caller
    /// has disconnected: a kill that is on record is carried out.
    pub async fn kill(
        self: &Arc<Self>,
        permit: Permit,
        id: &ExecutionId,
        note: Option<String>,
    ) -> Result<Execution, KillError> {
        let (exec, id) = (self.clone(), id.clone());
        let stopped = tokio::spawn(async move { exec.record_and_kill(&permit, &id, note.as_deref()).await });
        stopped.await.unwrap_or(Err(KillError::Task))
    }

    async fn record_and_kill(
        self: &Arc<Self>,
        permit: &Permit,
        id: &ExecutionId,
        note: Option<&str>,
    ) -> Result<Execution, KillError> {
        let found = self.view(id).await.map_err(KillError::History)?.ok_or_else(|| KillError::Unknown(id.clone()))?;
        if permit.verb() != Verb::Kill || *permit.action() != found.action {
            return Err(KillError::NotPermitted);
        }
        let (step, record) = {
            let mut tables = self.lock();
            let live = tables.live.get_mut(id);
            let step = decide_kill(live.as_ref().map(|live| live.ownership()));
            let live = live.filter(|_| step != KillStep::AlreadyEnded).ok_or_else(|| KillError::Ended(id.clone()))?;
            if live.record.killed_by.is_none() {
                live.record.killed_by = Some(permit.principal().clone());
                live.record.kill_note = note.map(str::to_owned);
            }
            (step, live.record.clone())
        };
        tracing::info!(execution = %id, principal = %permit.principal(), note = note.map(|n| n.escape_debug().to_string()), "kill");
        // Carried out also where it cannot be recorded: a full disk must not keep an action running.
        self.audit.record_urgent(entry_of_kill(&record, permit.principal(), note)).await;
        if step == KillStep::EndNow && self.claim_start(id, |ownership| decide_kill(ownership) == KillStep::EndNow) {
            self.kill_waiting(id).await?;
        } else {
            self.persist(&record, &[]).await;
            self.kill_started(id).await?;
        }
        self.view(id).await.map_err(KillError::History)?.ok_or_else(|| KillError::Unknown(id.clone()))
    }

    /// Ends an execution that this process has claimed before its start.
    async fn kill_waiting(self: &Arc<Self>, id: &ExecutionId) -> Result<(), KillError> {
        // Written before the answer: a crash in between does not queue it again.
        let written = directory::request_end(&self.directory(id));
        self.abort(id, State::Killed, KILLED_BEFORE_START.to_owned());
        if let Err(error) = written {
            self.wait(id, END_TIMEOUT).await.map_err(KillError::History)?;
            if self.progress(id).is_some() {
                return Err(KillError::Unwritten(id.clone(), error));
            }
        }
        Ok(())
    }

    /// Requests the end of an execution that the launcher has been asked to start.
    async fn kill_started(&self, id: &ExecutionId) -> Result<(), KillError> {
        let directory = self.directory(id);
        // The shim reads the file even if launcher or api exit now; the launcher handles an execution without a shim.
        let written = directory::request_end(&directory);
        // The launcher notifies an existing shim also where the disk takes no file; a shim that starts later would not know.
        let has_shim = written.is_err() && matches!(directory::probe_lock(&directory), Ok(Lock::Held));
        let answer = self.launcher.ask(Operation::Kill { execution: id.clone() }).await;
        let shim_notified = has_shim && matches!(answer, Ok(Outcome::Done));
        match interpret_kill(shim_notified || written.is_ok() || directory::is_end_requested(&directory), answer) {
            KillOutcome::Recorded => Ok(()),
            KillOutcome::Refused(message) => Err(KillError::Refused(id.clone(), message)),
            KillOutcome::Unreachable(error) => Err(KillError::Launcher(error)),
            KillOutcome::NotRecorded => {
                let error = written.err().unwrap_or_else(|| io::ErrorKind::Other.into());
                Err(KillError::Unwritten(id.clone(), error))
            }
        }
    }
}

//! Stopping an execution because a caller asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::launch::{Operation, Outcome};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;

use super::directory::Lock;
use super::state::{KILLED_BEFORE, Kill, Told, kill, told};
use super::{Exec, LauncherError, directory};
use crate::access::Permit;
use crate::history::HistoryError;

/// How long a kill that could not be written into the directory waits for the end to be in the history instead.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

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
    /// It would not outlast a crash of the agent.
    #[error("that execution {0} is to end cannot be written into its directory: it may go on; ask again")]
    Unwritten(ExecutionId, #[source] io::Error),
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
        let (what, record) = {
            let mut core = self.lock();
            let live = core.live.get_mut(id);
            let what = kill(live.as_ref().map(|live| live.standing()));
            let live = live.filter(|_| what != Kill::Ended).ok_or_else(|| KillError::Ended(id.clone()))?;
            if live.record.killed_by.is_none() {
                live.record.killed_by = Some(permit.principal().clone());
                live.record.kill_note = note.map(str::to_owned);
            }
            (what, live.record.clone())
        };
        tracing::info!(execution = %id, principal = %permit.principal(), note = note.map(|n| n.escape_debug().to_string()), "kill");
        let directory = self.directory(id);
        if what == Kill::AtOnce && self.take_back(id, |standing| kill(standing) == Kill::AtOnce) {
            // Written before the answer: a crash in between does not bring it back.
            let asked = directory::ask_to_end(&directory);
            self.abort(id, State::Killed, KILLED_BEFORE.to_owned());
            if let Err(error) = asked {
                self.wait(id, WRITTEN_WITHIN).await.map_err(KillError::History)?;
                if self.progress(id).is_some() {
                    return Err(KillError::Unwritten(id.clone(), error));
                }
            }
        } else {
            self.remember(&record, &[]).await;
            // In its directory, where its shim looks also when launcher or api go now; the launcher sees to what has no shim.
            let asked = directory::ask_to_end(&directory);
            // A shim that is there is told by the launcher even where the disk takes no file; one that comes later is not.
            let has_shim = asked.is_err() && matches!(directory::lock(&directory), Ok(Lock::Held));
            let answer = self.launcher.ask(Operation::Kill { execution: id.clone() }).await;
            let has_been_told = has_shim && matches!(answer, Ok(Outcome::Done));
            match told(has_been_told || asked.is_ok() || directory::is_asked_to_end(&directory), answer) {
                Told::Yes => {}
                Told::Refused(message) => return Err(KillError::Refused(id.clone(), message)),
                Told::No(error) => return Err(KillError::Launcher(error)),
                Told::Unwritten => {
                    let error = asked.err().unwrap_or_else(|| io::ErrorKind::Other.into());
                    return Err(KillError::Unwritten(id.clone(), error));
                }
            }
        }
        self.view(id).await.map_err(KillError::History)?.ok_or_else(|| KillError::Unknown(id.clone()))
    }
}

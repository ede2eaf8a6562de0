//! Executions in the audit log: their entries, and the marks of rows that may have none.
//!
//! ```text
//!  row with mark, committed ─▶ 202 ─▶ entry appended ─▶ fsync, shared and later ─▶ mark removed
//! ```
//!
//! A crash at any of these points leaves the mark. The next start looks for the entries of marked executions in the files, and adds
//! those that are missing: none is lost, and none is there twice.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use packs_schema::agent::audit::{Entry, Outcome, ParameterSummary};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, Principal};

use super::{Exec, RecoverError, directory};
use crate::audit::{RUN, Settled};
use crate::clock;
use crate::history::HistoryError;

/// Number of marked executions that are completed together at a start.
const BATCH: u32 = 1_000;

/// Makes the entry of an accepted execution. The same from the order and from its row.
pub(super) fn entry_of_start(record: &Execution) -> Entry {
    Entry {
        execution: Some(record.id.clone()),
        version: Some(record.version.to_string()),
        digest: Some(record.digest.to_string()),
        parameters: Some(ParameterSummary::of(&record.parameters)),
        noop: record.noop,
        run: record.run.clone(),
        detail: record.dev.is_some().then(|| "a pushed version, which is not signed".to_owned()),
        ..Entry::new(record.created_at_ms, RUN, Outcome::Accepted)
    }
    .by(record.principal.as_str())
    .on(&record.action)
    .with_note(record.note.as_deref())
}

/// Makes the entry of a kill that is about to be carried out.
pub(super) fn entry_of_kill(record: &Execution, principal: &Principal, note: Option<&str>) -> Entry {
    let local = *principal == Principal::local_root();
    Entry { local, execution: Some(record.id.clone()), ..Entry::new(clock::now_ms(), "kill", Outcome::Accepted) }
        .by(principal.as_str())
        .on(&record.action)
        .with_note(note)
}

impl Exec {
    /// Records a kill that root has written into the directory while no api answered, unless a caller's is on record.
    pub(super) async fn record_written_kill(&self, record: &mut Execution) {
        if record.killed_by.is_none()
            && let Some((by, note)) = directory::read_kill(&self.directory(&record.id))
        {
            let logged = note.as_ref().map(|n| n.escape_debug().to_string());
            tracing::info!(execution = %record.id, principal = %by, note = logged, "kill");
            // A crash before the record is written again records it twice.
            self.audit.record_urgent(entry_of_kill(record, &by, note.as_deref())).await;
            (record.killed_by, record.kill_note) = (Some(by), note);
        }
    }

    /// Adds the entries of executions that a crash kept from the audit log.
    pub(super) async fn complete_audit(&self) -> Result<(), RecoverError> {
        loop {
            let marked = self.history.unaudited(BATCH).await?;
            let Some(after) = marked.iter().map(|(_, after)| *after).min() else { return Ok(()) };
            let ids: HashSet<ExecutionId> = marked.iter().map(|(record, _)| record.id.clone()).collect();
            let audit = self.audit.clone();
            let missing = tokio::task::spawn_blocking(move || audit.find_missing(ids, after)).await;
            let missing = match missing.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
                Ok(missing) => missing,
                Err(error) => {
                    // The marks stay: the next start tries again.
                    tracing::error!(%error, "cannot read the audit log to complete it");
                    return Ok(());
                }
            };
            if !missing.is_empty() {
                tracing::info!(missing = missing.len(), "completing the audit log after a crash");
            }
            let mut written = Vec::new();
            for (record, _) in marked {
                if missing.contains(&record.id) {
                    self.audit.committed(record.id.clone(), entry_of_start(&record)).await;
                }
                written.push(record.id);
            }
            // Durable before the marks are removed. Where that is not possible now, they stay, and the agent starts.
            if self.audit.flush().await.is_err() {
                return Ok(());
            }
            if let Err(error) = self.history.set_audited(written).await {
                tracing::warn!(%error, "cannot mark executions as recorded in the audit log");
                return Ok(());
            }
        }
    }
}

/// Removes the marks of executions whose entries have become durable, until the audit log is closed.
pub(crate) async fn remove_marks(exec: Weak<Exec>, mut settled: Settled) {
    while let Some(ids) = settled.recv().await {
        let Some(history) = exec.upgrade().map(|exec| Arc::clone(&exec.history)) else { return };
        match history.set_audited(ids).await {
            Ok(()) | Err(HistoryError::Closed) => {}
            // The next start finds the entries.
            Err(error) => tracing::warn!(%error, "cannot mark executions as recorded in the audit log"),
        }
    }
}

//! Steps of a round. Each is bounded, and a crash after any of them is safe.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use packs_schema::base::name::ExecutionId;

use super::super::archive::{self, ArchiveOutputError, ArchivedOutput};
use super::super::directory::{self, Lock};
use super::meter::measure;
use super::{Exec, RetentionError};
use crate::history::{OutputLocation, Stored};

/// Number of outputs archived in one step.
const OUTPUTS: u32 = 64;
/// Number of outputs or rows removed in one step.
const ROWS: u32 = 256;
/// Number of outputs removed in one step when files are among them.
const FILES: usize = 8;
/// Maximum number of executions that a round skips because their lock is held or their output cannot be read.
const MAX_SKIPPED: usize = 1_024;

/// Progress of archiving in one round.
#[derive(Debug, Default)]
pub(super) struct Batch {
    archived: usize,
    skipped: HashSet<ExecutionId>,
    failed: Option<ArchiveOutputError>,
}

impl Batch {
    /// Number of outputs archived in the last step.
    pub(super) fn len(&self) -> usize {
        self.archived
    }

    /// Returns the error of an output that could not be archived; called once everything else is done.
    pub(super) fn end(self) -> Result<(), RetentionError> {
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Result of archiving one output.
enum Step {
    Archived(ArchivedOutput),
    /// Its lock is held.
    Held,
}

impl Exec {
    /// Archives some outputs of executions that ended at `until_ms` of the history's clock or before, or at any time. Returns
    /// false if there are none.
    pub(super) async fn archive_some(
        self: &Arc<Self>,
        until_ms: Option<u64>,
        batch: &mut Batch,
    ) -> Result<bool, RetentionError> {
        batch.archived = 0;
        if batch.skipped.len() >= MAX_SKIPPED {
            return Ok(false);
        }
        let limit = OUTPUTS + u32::try_from(batch.skipped.len()).unwrap_or(u32::MAX - OUTPUTS);
        let found = self.history.to_archive(until_ms, limit).await?;
        let found: Vec<Stored> =
            found.into_iter().filter(|stored| !batch.skipped.contains(&stored.id)).take(OUTPUTS as usize).collect();
        if found.is_empty() {
            return Ok(false);
        }
        let mut wanted = Vec::with_capacity(found.len());
        for stored in found {
            let record = self.history.get(&stored.id).await?;
            let totals = record.map_or([None; 2], |record| [record.stdout, record.stderr]);
            wanted.push((stored.id, totals.map(|totals| totals.map(|totals| totals.written_bytes))));
        }
        let mut outputs = Vec::new();
        for (id, step) in self.archive_batch(wanted).await? {
            match step {
                Err(error) => {
                    // An output that cannot be read does not stop the others.
                    tracing::error!(execution = %id, error = crate::log::chain(&error), "cannot archive its output");
                    batch.failed = Some(error);
                    batch.skipped.insert(id);
                }
                Ok(Step::Archived(archived)) => {
                    let location = match archived {
                        ArchivedOutput::Empty => OutputLocation::Empty,
                        ArchivedOutput::Inline(bytes) => OutputLocation::Database(bytes.into()),
                        ArchivedOutput::File => OutputLocation::File,
                    };
                    outputs.push((id, location));
                }
                Ok(Step::Held) => {
                    batch.skipped.insert(id);
                }
            }
        }
        let done: Vec<(ExecutionId, bool)> =
            outputs.iter().map(|(id, location)| (id.clone(), *location == OutputLocation::File)).collect();
        self.history.archive(outputs).await?;
        batch.archived = done.len();
        self.meter.add_archived(done.len());
        self.remove_replaced(done).await?;
        Ok(true)
    }

    /// Archives outputs with their written bytes, one after the other in one blocking thread.
    async fn archive_batch(
        self: &Arc<Self>,
        wanted: Vec<(ExecutionId, [Option<u64>; 2])>,
    ) -> Result<Vec<(ExecutionId, Result<Step, ArchiveOutputError>)>, RetentionError> {
        let exec = self.clone();
        let one = move |id: &ExecutionId, written| {
            let directory = exec.directory(id);
            if is_held(&directory) {
                return Ok(Step::Held);
            }
            let before = measure(&directory);
            let archived = archive::archive_output(&directory, written)?;
            exec.meter.update(before, measure(&directory));
            Ok(Step::Archived(archived))
        };
        let all =
            move || wanted.into_iter().map(|(id, written)| (one(&id, written), id)).map(|(s, id)| (id, s)).collect();
        tokio::task::spawn_blocking(all).await.map_err(|_| RetentionError::Task)
    }

    /// Removes what archives have replaced (`true`: the archive is a file in the directory). Skips outputs that are being read; the
    /// next round removes them.
    pub(super) async fn remove_replaced(
        self: &Arc<Self>,
        done: Vec<(ExecutionId, bool)>,
    ) -> Result<(), RetentionError> {
        let exec = self.clone();
        let one = move |id: &ExecutionId, in_file: bool| {
            let directory = exec.directory(id);
            // Readers that start from here on find the row, and with it the archive.
            if exec.readers.has_any(id) || is_held(&directory) {
                return;
            }
            let before = measure(&directory);
            if !in_file {
                directory::remove(&directory);
            } else if let Err(error) = archive::remove_segments(&directory) {
                tracing::warn!(path = %directory.display(), %error, "cannot remove segments that have been archived");
            }
            exec.meter.update(before, measure(&directory));
        };
        let all = move || done.iter().for_each(|(id, in_file)| one(id, *in_file));
        tokio::task::spawn_blocking(all).await.map_err(|_| RetentionError::Task)
    }

    /// Evicts the oldest archived outputs; with `files`, only those in files. Returns how many.
    pub(super) async fn evict_outputs(self: &Arc<Self>, files: bool) -> Result<usize, RetentionError> {
        let mut found = self.history.oldest_outputs(files, ROWS).await?;
        if found.iter().any(|stored| stored.on_disk) {
            // Large ones: evict few at a time, so that no more go than necessary.
            found.truncate(FILES);
        }
        if found.is_empty() {
            return Ok(0);
        }
        let evicted = self.history.evict_outputs(found.iter().map(|stored| stored.seq).collect()).await?;
        self.remove_replaced(on_disk(found.iter())).await?;
        Ok(evicted)
    }

    /// Prunes the oldest executions that have ended, up to row `until`. Returns how many.
    pub(super) async fn prune_rows(self: &Arc<Self>, until: Option<i64>) -> Result<usize, RetentionError> {
        let found = self.history.oldest(until, ROWS).await?;
        // Directories first: a directory without a row would be imported again.
        self.remove_replaced(on_disk(found.iter())).await?;
        let rows = self.history.prune(found.iter().map(|stored| stored.seq).collect()).await?;
        self.meter.subtract_rows(rows);
        Ok(rows)
    }
}

/// Selects executions with a directory; nothing of it is to stay.
fn on_disk<'a>(found: impl Iterator<Item = &'a Stored>) -> Vec<(ExecutionId, bool)> {
    found.filter(|stored| stored.on_disk).map(|stored| (stored.id.clone(), false)).collect()
}

/// True if a shim holds the lock, or if that is not known.
fn is_held(directory: &Path) -> bool {
    !matches!(directory::probe_lock(directory), Ok(Lock::Absent | Lock::Free))
}

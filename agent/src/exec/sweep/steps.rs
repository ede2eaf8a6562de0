//! The steps of a sweep: each bounded, each safe to be the last before a crash.

use std::collections::HashSet;
use std::sync::Arc;

use packs_schema::name::ExecutionId;

use super::super::archive::{self, Folded};
use super::super::directory::{self, Lock};
use super::super::output::OutputError;
use super::meter::measure;
use super::{Exec, SweepError};
use crate::history::{Place, Stored};

/// Outputs that one step archives.
const OUTPUTS: u32 = 64;
/// Outputs or rows that one step removes.
const ROWS: u32 = 256;
/// Outputs that one step removes when files are among them.
const FILES: usize = 8;
/// Executions that a sweep passes over at most, because somebody reads them or their lock is held.
const MAX_PASSED_OVER: usize = 1_024;

/// What a sweep has archived last, and what it passes over.
#[derive(Debug, Default)]
pub(super) struct Batch {
    archived: usize,
    passed_over: HashSet<ExecutionId>,
    failed: Option<OutputError>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.archived
    }

    /// Why some output could not be archived, if one could not: said once everything else is done.
    pub(super) fn end(self) -> Result<(), SweepError> {
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A folded output, or why it is left alone.
enum Step {
    Folded(Folded),
    Held,
}

impl Exec {
    /// Archives some executions that ended at `until_ms` of the history's life, or whenever. False: there are none.
    pub(super) async fn archive_some(
        self: &Arc<Self>,
        until_ms: Option<u64>,
        batch: &mut Batch,
    ) -> Result<bool, SweepError> {
        batch.archived = 0;
        if batch.passed_over.len() >= MAX_PASSED_OVER {
            return Ok(false);
        }
        let limit = OUTPUTS + u32::try_from(batch.passed_over.len()).unwrap_or(u32::MAX - OUTPUTS);
        let found = self.history.to_archive(until_ms, limit).await?;
        let found: Vec<Stored> =
            found.into_iter().filter(|stored| !batch.passed_over.contains(&stored.id)).take(OUTPUTS as usize).collect();
        if found.is_empty() {
            return Ok(false);
        }
        let mut outputs = Vec::new();
        for stored in found {
            match self.fold(&stored.id).await? {
                Err(error) => {
                    // One that cannot be read does not stop the others.
                    tracing::error!(execution = %stored.id, error = crate::log::chain(&error), "cannot archive its output");
                    batch.failed = Some(error);
                    batch.passed_over.insert(stored.id);
                }
                Ok(Step::Folded(folded)) => {
                    let place = match folded {
                        Folded::Nothing => Place::Nothing,
                        Folded::Small(bytes) => Place::Table(bytes.into()),
                        Folded::File => Place::File,
                    };
                    outputs.push((stored.id, place));
                }
                Ok(Step::Held) => {
                    batch.passed_over.insert(stored.id);
                }
            }
        }
        let done: Vec<(ExecutionId, bool)> =
            outputs.iter().map(|(id, place)| (id.clone(), *place == Place::File)).collect();
        self.history.archive(outputs).await?;
        batch.archived = done.len();
        self.meter.archived(done.len());
        for (id, in_file) in done {
            self.clean(&id, in_file).await?;
        }
        Ok(true)
    }

    async fn fold(self: &Arc<Self>, id: &ExecutionId) -> Result<Result<Step, OutputError>, SweepError> {
        let record = self.history.get(id).await?;
        let totals = |record: &packs_schema::rest::Execution| {
            [record.stdout, record.stderr].map(|totals| totals.map(|totals| totals.written_bytes))
        };
        let written = record.as_ref().map_or([None; 2], totals);
        let exec = self.clone();
        let directory = self.directory(id);
        let folded = tokio::task::spawn_blocking(move || {
            if directory::lock(&directory) == Lock::Held {
                return Ok(Step::Held);
            }
            let before = measure(&directory);
            let folded = archive::fold(&directory, written)?;
            exec.meter.changed(before, measure(&directory));
            Ok::<_, OutputError>(Step::Folded(folded))
        });
        folded.await.map_err(|_| SweepError::Task)
    }

    /// Removes what an archive stands for, unless somebody reads it: then the next round does.
    pub(super) async fn clean(self: &Arc<Self>, id: &ExecutionId, in_file: bool) -> Result<(), SweepError> {
        let (exec, id) = (self.clone(), id.clone());
        let cleaned = tokio::task::spawn_blocking(move || {
            let directory = exec.directory(&id);
            // Whoever comes from here on finds the row, and with it the archive.
            if exec.readers.any(&id) || directory::lock(&directory) == Lock::Held {
                return;
            }
            let before = measure(&directory);
            if !in_file {
                directory::remove(&directory);
            } else if let Err(error) = archive::tidy(&directory) {
                tracing::warn!(path = %directory.display(), %error, "what was archived cannot be removed");
            }
            exec.meter.changed(before, measure(&directory));
        });
        cleaned.await.map_err(|_| SweepError::Task)
    }

    /// Removes the oldest archived outputs; `files`: only such as have files. Answers how many.
    pub(super) async fn drop_some(self: &Arc<Self>, files: bool) -> Result<usize, SweepError> {
        let mut found = self.history.oldest_outputs(files, ROWS).await?;
        if found.iter().any(|stored| stored.on_disk) {
            // Large ones: no more of them than need be.
            found.truncate(FILES);
        }
        if found.is_empty() {
            return Ok(0);
        }
        let dropped = self.history.drop_outputs(found.iter().map(|stored| stored.seq).collect()).await?;
        for stored in found.iter().filter(|stored| stored.on_disk) {
            self.clean(&stored.id, false).await?;
        }
        Ok(dropped)
    }

    /// Forgets the oldest executions that have ended, up to a row. Answers how many.
    pub(super) async fn forget_some(self: &Arc<Self>, until: Option<i64>) -> Result<usize, SweepError> {
        let found = self.history.oldest(until, ROWS).await?;
        // Directories first: one without a row would be read in again.
        for stored in found.iter().filter(|stored| stored.on_disk) {
            self.clean(&stored.id, false).await?;
        }
        let rows = self.history.forget(found.iter().map(|stored| stored.seq).collect()).await?;
        self.meter.forgot(rows);
        Ok(rows)
    }
}

//! The steps of a sweep: each bounded, each safe to be the last before a crash.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use packs_schema::base::name::ExecutionId;

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
        let mut wanted = Vec::with_capacity(found.len());
        for stored in found {
            let record = self.history.get(&stored.id).await?;
            let totals = record.map_or([None; 2], |record| [record.stdout, record.stderr]);
            wanted.push((stored.id, totals.map(|totals| totals.map(|totals| totals.written_bytes))));
        }
        let mut outputs = Vec::new();
        for (id, step) in self.fold(wanted).await? {
            match step {
                Err(error) => {
                    // One that cannot be read does not stop the others.
                    tracing::error!(execution = %id, error = crate::log::chain(&error), "cannot archive its output");
                    batch.failed = Some(error);
                    batch.passed_over.insert(id);
                }
                Ok(Step::Folded(folded)) => {
                    let place = match folded {
                        Folded::Nothing => Place::Nothing,
                        Folded::Small(bytes) => Place::Table(bytes.into()),
                        Folded::File => Place::File,
                    };
                    outputs.push((id, place));
                }
                Ok(Step::Held) => {
                    batch.passed_over.insert(id);
                }
            }
        }
        let done: Vec<(ExecutionId, bool)> =
            outputs.iter().map(|(id, place)| (id.clone(), *place == Place::File)).collect();
        self.history.archive(outputs).await?;
        batch.archived = done.len();
        self.meter.archived(done.len());
        self.clean(done).await?;
        Ok(true)
    }

    /// Folds outputs, of which so much was written, one after the other in one blocking thread.
    async fn fold(
        self: &Arc<Self>,
        wanted: Vec<(ExecutionId, [Option<u64>; 2])>,
    ) -> Result<Vec<(ExecutionId, Result<Step, OutputError>)>, SweepError> {
        let exec = self.clone();
        let one = move |id: &ExecutionId, written| {
            let directory = exec.directory(id);
            if is_held(&directory) {
                return Ok(Step::Held);
            }
            let before = measure(&directory);
            let folded = archive::fold(&directory, written)?;
            exec.meter.changed(before, measure(&directory));
            Ok(Step::Folded(folded))
        };
        let all =
            move || wanted.into_iter().map(|(id, written)| (one(&id, written), id)).map(|(s, id)| (id, s)).collect();
        tokio::task::spawn_blocking(all).await.map_err(|_| SweepError::Task)
    }

    /// Removes what archives stand for (`true`: they are files themselves), unless somebody reads it: then the next round does.
    pub(super) async fn clean(self: &Arc<Self>, done: Vec<(ExecutionId, bool)>) -> Result<(), SweepError> {
        let exec = self.clone();
        let one = move |id: &ExecutionId, in_file: bool| {
            let directory = exec.directory(id);
            // Whoever comes from here on finds the row, and with it the archive.
            if exec.readers.any(id) || is_held(&directory) {
                return;
            }
            let before = measure(&directory);
            if !in_file {
                directory::remove(&directory);
            } else if let Err(error) = archive::tidy(&directory) {
                tracing::warn!(path = %directory.display(), %error, "what was archived cannot be removed");
            }
            exec.meter.changed(before, measure(&directory));
        };
        let all = move || done.iter().for_each(|(id, in_file)| one(id, *in_file));
        tokio::task::spawn_blocking(all).await.map_err(|_| SweepError::Task)
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
        self.clean(on_disk(found.iter())).await?;
        Ok(dropped)
    }

    /// Forgets the oldest executions that have ended, up to a row. Answers how many.
    pub(super) async fn forget_some(self: &Arc<Self>, until: Option<i64>) -> Result<usize, SweepError> {
        let found = self.history.oldest(until, ROWS).await?;
        // Directories first: one without a row would be read in again.
        self.clean(on_disk(found.iter())).await?;
        let rows = self.history.forget(found.iter().map(|stored| stored.seq).collect()).await?;
        self.meter.forgot(rows);
        Ok(rows)
    }
}

/// Those that have a directory, of which nothing is to stay.
fn on_disk<'a>(found: impl Iterator<Item = &'a Stored>) -> Vec<(ExecutionId, bool)> {
    found.filter(|stored| stored.on_disk).map(|stored| (stored.id.clone(), false)).collect()
}

/// A shim has it, or may have: what cannot be looked into is left alone.
fn is_held(directory: &Path) -> bool {
    !matches!(directory::lock(directory), Ok(Lock::Absent | Lock::Free))
}

//! Counting what the directories take, and removing what an earlier sweep came not to: a crash, or somebody who read.

use std::path::PathBuf;
use std::sync::Arc;

use packs_schema::agent::execution::file;
use packs_schema::base::name::ExecutionId;

use super::budget::Used;
use super::meter::measure;
use super::{Exec, SweepError};
use crate::history::Place;

/// Directories that are measured in one step.
const STEP: usize = 256;

impl Exec {
    /// Measures every directory, and cleans those whose archive stands.
    pub(super) async fn recount(self: &Arc<Self>) -> Result<(), SweepError> {
        // Those who end from here on are measured again: rather too much than too little until the next round.
        drop(self.meter.take_ended());
        let path = self.settings.executions.clone();
        let ids = tokio::task::spawn_blocking(move || {
            let entries = std::fs::read_dir(path)?;
            let ids: Vec<ExecutionId> = entries
                .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| ExecutionId::new(name).ok()))
                .collect();
            Ok(ids)
        });
        let ids = ids.await.map_err(|_| SweepError::Task)?.map_err(SweepError::Directory)?;
        let mut total = Used::default();
        let mut left = Vec::new();
        for step in ids.chunks(STEP) {
            let directories: Vec<(ExecutionId, PathBuf)> =
                step.iter().map(|id| (id.clone(), self.directory(id))).collect();
            let measured = tokio::task::spawn_blocking(move || {
                let measured = directories.into_iter().map(|(id, directory)| {
                    let used = measure(&directory);
                    (id, used, directory.join(file::ARCHIVE).symlink_metadata().is_ok())
                });
                measured.collect::<Vec<_>>()
            });
            for (id, used, has_archive) in measured.await.map_err(|_| SweepError::Task)? {
                total.bytes += used.bytes;
                total.files += used.files;
                match self.history.lies_elsewhere(&id).await? {
                    Some(Place::Nothing | Place::Gone) => left.push((id, false)),
                    // `spec`, `exit`, `archive` and the directory.
                    Some(Place::File) if has_archive && used.files > 4 => left.push((id, true)),
                    _ => {}
                }
            }
        }
        self.meter.set_directories(total);
        self.clean(left).await
    }

    /// Adds what the executions that ended take.
    pub(super) async fn measure_ended(self: &Arc<Self>) -> Result<(), SweepError> {
        let ended = self.meter.take_ended();
        if ended.too_many {
            return self.recount().await;
        }
        let exec = self.clone();
        let measured = tokio::task::spawn_blocking(move || {
            for id in ended.ids {
                exec.meter.changed(Used::default(), measure(&exec.directory(&id)));
            }
        });
        measured.await.map_err(|_| SweepError::Task)
    }
}

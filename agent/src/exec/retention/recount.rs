//! Measuring all directories, and removing what an earlier round left because of a crash or a reader.

use std::path::PathBuf;
use std::sync::Arc;

use packs_schema::agent::execution::file;
use packs_schema::base::name::ExecutionId;

use super::budget::Used;
use super::meter::measure;
use super::{Exec, RetentionError};
use crate::history::OutputLocation;

/// Number of directories measured in one step.
const STEP: usize = 256;

impl Exec {
    /// Measures every directory, and removes segments that an archive has replaced.
    pub(super) async fn recount(self: &Arc<Self>) -> Result<(), RetentionError> {
        // Executions that end from here on are counted twice until the next round, which is better than not at all.
        drop(self.meter.take_ended());
        let path = self.settings.executions.clone();
        let ids = tokio::task::spawn_blocking(move || {
            let entries = std::fs::read_dir(path)?;
            let ids: Vec<ExecutionId> = entries
                .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| ExecutionId::new(name).ok()))
                .collect();
            Ok(ids)
        });
        let ids = ids.await.map_err(|_| RetentionError::Task)?.map_err(RetentionError::Directory)?;
        let mut total = Used::default();
        let mut replaced = Vec::new();
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
            for (id, used, has_archive) in measured.await.map_err(|_| RetentionError::Task)? {
                total.bytes += used.bytes;
                total.files += used.files;
                match self.history.archived_location(&id).await? {
                    Some(OutputLocation::Empty | OutputLocation::Removed) => replaced.push((id, false)),
                    // `spec`, `exit`, `archive` and the directory itself.
                    Some(OutputLocation::File) if has_archive && used.files > 4 => replaced.push((id, true)),
                    _ => {}
                }
            }
        }
        self.meter.set_directories(total);
        self.remove_replaced(replaced).await
    }

    /// Measures the executions that have ended since the last call.
    pub(super) async fn measure_ended(self: &Arc<Self>) -> Result<(), RetentionError> {
        let ended = self.meter.take_ended();
        if ended.overflowed {
            return self.recount().await;
        }
        let exec = self.clone();
        let measured = tokio::task::spawn_blocking(move || {
            for id in ended.ids {
                exec.meter.update(Used::default(), measure(&exec.directory(&id)));
            }
        });
        measured.await.map_err(|_| RetentionError::Task)
    }
}

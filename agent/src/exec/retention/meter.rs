//! Disk use of the history, updated as executions end and outputs are removed, and measured again at a start and every hour.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use packs_schema::base::name::ExecutionId;
use tokio::sync::Notify;

use super::budget::{Budget, Used};
use crate::metrics::HistorySize;

/// Maximum number of ended executions waiting to be measured; beyond, all directories are measured.
const MAX_ENDED: usize = 10_000;
/// Size of a block of `st_blocks` in bytes (stat(2)).
const BLOCK: u64 = 512;

/// Counters of disk use and rows.
#[derive(Debug, Default)]
pub(in crate::exec) struct Meter {
    bytes: AtomicU64,
    files: AtomicU64,
    database: AtomicU64,
    rows: AtomicU64,
    archived: AtomicU64,
    ended: Mutex<Ended>,
    notify: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) ids: Vec<ExecutionId>,
    /// True if the list is incomplete.
    pub(super) overflowed: bool,
}

impl Meter {
    /// Notes that an execution has ended and its directory is to be measured.
    pub(in crate::exec) fn record_end(&self, id: &ExecutionId) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.ids.len() < MAX_ENDED {
            ended.ids.push(id.clone());
        } else {
            ended.overflowed = true;
        }
        drop(ended);
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Waits until executions have ended.
    pub(super) async fn wait_for_ends(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take_ended(&self) -> Ended {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Updates the size of a directory.
    pub(super) fn update(&self, before: Used, after: Used) {
        add(&self.bytes, after.bytes, before.bytes);
        add(&self.files, after.files, before.files);
    }

    /// Sets the size of all directories.
    pub(super) fn set_directories(&self, used: Used) {
        self.bytes.store(used.bytes, Ordering::Relaxed);
        self.files.store(used.files, Ordering::Relaxed);
    }

    pub(super) fn set_database(&self, bytes: u64) {
        self.database.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    pub(super) fn subtract_rows(&self, rows: usize) {
        add(&self.rows, 0, rows as u64);
    }

    pub(super) fn add_archived(&self, outputs: usize) {
        self.archived.fetch_add(outputs as u64, Ordering::Relaxed);
    }

    /// Disk use of outputs and database together.
    pub(super) fn used(&self) -> Used {
        let bytes = self.bytes.load(Ordering::Relaxed).saturating_add(self.database.load(Ordering::Relaxed));
        Used { bytes, files: self.files.load(Ordering::Relaxed) }
    }

    /// True if the database takes more than half of the budget. Only then does pruning rows help: otherwise the excess is
    /// something that cannot be removed.
    pub(super) fn is_mostly_database(&self, budget: &Budget) -> bool {
        self.database.load(Ordering::Relaxed) > budget.max_bytes / 2
    }

    /// Returns the counters, for metrics.
    pub(in crate::exec) fn size(&self) -> HistorySize {
        let used = self.used();
        HistorySize {
            executions: self.rows.load(Ordering::Relaxed),
            bytes: used.bytes,
            files: used.files,
            archived: self.archived.load(Ordering::Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, more: u64, less: u64) {
    let _ = counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_add(more).saturating_sub(less)));
}

/// Measures a directory and the files in it; zero if it does not exist.
pub(super) fn measure(directory: &Path) -> Used {
    let size = |meta: &std::fs::Metadata| meta.blocks() * BLOCK;
    let Ok(meta) = directory.symlink_metadata() else { return Used::default() };
    let mut used = Used { bytes: size(&meta), files: 1 };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        used.bytes += entry.metadata().map_or(0, |meta| size(&meta));
        used.files += 1;
    }
    used
}

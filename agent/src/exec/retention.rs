//! Retention: enforces the age limit and the disk budget of the history. Never touches an execution that has not ended.
//!
//! ```text
//!  hourly ────────▶ measure all ─▶ archive outputs a day after the end ─▶ prune rows older than `keep`
//!  over budget ───▶ archive early, oldest end first ─▶ evict outputs, oldest first ─▶ prune rows, oldest first
//! ```
//!
//! The budget is `history.max_bytes` and `history.max_files`, and never more than a tenth of the file system. An evicted output
//! is `output_gone` (410). Quarantined histories are not counted; two of them are kept.
//!
//! Ages come from the history's own clock (`history::clock`), so that a leap of the wall clock removes nothing. All work is
//! done in small steps: files in blocking threads, rows by the writer thread between other writes. A row says that an output is
//! archived after the archive is durable, and that it is removed before it is; a row is removed after its directory.

mod budget;
mod meter;
mod recount;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

pub use budget::Budget;
pub(super) use meter::Meter;

use super::Exec;
use super::archive::ArchiveOutputError;
use crate::history::{HistoryError, Tally};

/// Interval of full rounds.
const ROUND_INTERVAL: Duration = Duration::from_secs(3600);
/// Minimum interval of budget checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Time between the end of an execution and the archiving of its output.
const ARCHIVE_AFTER: Duration = Duration::from_secs(86_400);
/// Free space in the database that is not worth returning to the file system.
const SLACK_BYTES: u64 = 1 << 20;

/// Health code: the history is over its budget, and nothing more can be removed.
const OVER_BUDGET: &str = "history_over_budget";
/// Health code: outputs or rows cannot be archived or removed.
const FAILED: &str = "history_not_kept";
/// Health code: a damaged history is quarantined beside the one in use.
const QUARANTINED: &str = "history_set_aside";

/// Error that ends a round early; the next round tries again.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot read the directory of executions")]
    Directory(#[source] std::io::Error),
    #[error("cannot archive an output")]
    Archive(#[from] ArchiveOutputError),
    #[error("a task panicked")]
    Task,
}

/// Runs until the handle is dropped.
pub(super) async fn run(exec: Weak<Exec>) {
    let mut next_round = Instant::now();
    loop {
        let meter = {
            let Some(exec) = exec.upgrade() else { return };
            let result = if Instant::now() >= next_round {
                next_round = Instant::now() + ROUND_INTERVAL;
                exec.run_round().await
            } else {
                exec.check_budget().await
            };
            match result {
                Ok(()) => exec.health.clear(FAILED),
                Err(RetentionError::History(HistoryError::Closed)) => return,
                Err(error) => {
                    let error = crate::log::chain(&error);
                    tracing::error!(error, "cannot enforce the retention of the history; retrying");
                    exec.health.set(FAILED, error);
                }
            }
            exec.meter.clone()
        };
        tokio::time::sleep(CHECK_INTERVAL).await;
        tokio::select! {
            () = tokio::time::sleep_until(next_round) => {}
            () = meter.wait_for_ends() => {}
        }
    }
}

impl Exec {
    /// Runs the hourly round.
    async fn run_round(self: &Arc<Self>) -> Result<(), RetentionError> {
        self.report_quarantined();
        self.recount().await?;
        let tally = self.tally().await?;
        let mut batch = steps::Batch::default();
        if let Some(until_ms) = tally.age_ms.checked_sub(ms(ARCHIVE_AFTER)) {
            while self.archive_some(Some(until_ms), &mut batch).await? {}
        }
        if tally.horizon.is_some() {
            let mut pruned = 0;
            while let rows @ 1.. = self.prune_rows(tally.horizon).await? {
                pruned += rows;
            }
            if pruned > 0 {
                tracing::info!(rows = pruned, "pruned executions older than history.keep");
            }
        }
        self.enforce_budget().await?;
        self.meter.set_rows(self.history.count().await?);
        batch.end()
    }

    /// Measures the executions that have ended since the last check, and enforces the budget.
    async fn check_budget(self: &Arc<Self>) -> Result<(), RetentionError> {
        self.measure_ended().await?;
        self.tally().await?;
        self.enforce_budget().await
    }

    /// Removes outputs and rows until the history is within its budget, if it exceeds it.
    async fn enforce_budget(self: &Arc<Self>) -> Result<(), RetentionError> {
        let budget = self.settings.budget.on(&self.settings.executions);
        if !budget.is_exceeded(&self.meter.used()) {
            self.health.clear(OVER_BUDGET);
            return self.shrink().await;
        }
        let mut batch = steps::Batch::default();
        let (mut early, mut evicted, mut pruned) = (0_usize, 0, 0);
        let within_budget = loop {
            let excess = budget.excess(&self.meter.used());
            if !excess.any() {
                break true;
            }
            if self.archive_some(None, &mut batch).await? {
                early += batch.len();
            } else if let rows @ 1.. = self.evict_outputs(!excess.bytes).await? {
                evicted += rows;
            } else if excess.bytes
                && self.meter.is_mostly_database(&budget)
                && let rows @ 1.. = self.prune_rows(None).await?
            {
                pruned += rows;
            } else {
                break !budget.is_exceeded(&self.meter.used());
            }
            self.tally().await?;
        };
        if early + evicted + pruned > 0 {
            tracing::warn!(early, outputs = evicted, rows = pruned, %budget, "the history exceeded its budget: archived outputs early, evicted outputs, pruned rows");
        }
        if within_budget {
            self.health.clear(OVER_BUDGET);
        } else {
            let used = self.meter.used();
            self.health.set(OVER_BUDGET, format!("the history uses {used}, its budget is {budget}, and nothing more can be removed: raise history.max_bytes and history.max_files, or check which other files are in the state directory"));
        }
        self.shrink().await?;
        batch.end()
    }

    async fn tally(&self) -> Result<Tally, RetentionError> {
        let tally = self.history.tally(self.settings.keep).await?;
        self.meter.set_database(tally.used_bytes);
        Ok(tally)
    }

    /// Returns free space in the database to the file system, as long as that helps.
    async fn shrink(&self) -> Result<(), RetentionError> {
        let mut free = self.tally().await?.free_bytes;
        while free > SLACK_BYTES {
            self.history.shrink().await?;
            let now = self.tally().await?.free_bytes;
            if now >= free {
                break;
            }
            free = now;
        }
        Ok(())
    }

    fn report_quarantined(&self) {
        let quarantined = self.history.quarantined();
        match quarantined.last() {
            None => self.health.clear(QUARANTINED),
            Some(newest) => self.health.set(
                QUARANTINED,
                format!(
                    "a damaged history was set aside as {}; records that could not be salvaged are lost unless it can be repaired: remove the file when it is not needed",
                    newest.display()
                ),
            ),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

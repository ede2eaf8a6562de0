//! Keeping the history within its time and its room. Never touches an execution that has not ended.
//!
//! ```text
//!  hourly ─────────▶ count anew ─▶ archive what ended a day ago ─▶ forget what is older than `keep`
//!  over a budget ──▶ archive early, oldest end first ─▶ outputs go, oldest first ─▶ rows go, oldest first
//! ```
//!
//! How old something is comes from the history's life clock: a wall clock that leaps forgets nothing. Everything is done
//! in small steps: files in blocking threads, rows by the writer between the writes of others. A row says that an output
//! is archived once it is, and that it is gone before it goes; a row goes after its directory.

mod budget;
mod meter;
mod steps;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

pub use budget::Budget;
pub(super) use meter::Meter;

use super::Exec;
use crate::history::{HistoryError, Tally};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3600);
/// Between two looks at whether a budget is passed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After its end an output is left as it is for so long.
const ARCHIVE_AFTER: Duration = Duration::from_secs(86_400);
/// Free room in the database that is not worth giving back.
const SLACK_BYTES: u64 = 1 << 20;

/// The code of health when the budget cannot be kept.
const OVER: &str = "history_over_budget";
/// The code of health when outputs or rows cannot be archived or removed.
const FAILED: &str = "history_not_kept";
/// The code of health while a damaged history lies beside the one in use.
const SET_ASIDE: &str = "history_set_aside";

/// Why a sweep ended early; it is tried again.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot read the directory of executions")]
    Directory(#[source] std::io::Error),
    #[error("cannot archive an output")]
    Archive(#[from] super::output::OutputError),
    #[error("a task ended early")]
    Task,
}

/// Runs as long as the executions are looked after.
pub(super) async fn run(exec: Weak<Exec>) {
    let mut round = Instant::now();
    loop {
        let meter = {
            let Some(exec) = exec.upgrade() else { return };
            let swept = if Instant::now() >= round {
                round = Instant::now() + EVERY;
                exec.round().await
            } else {
                exec.look().await
            };
            match swept {
                Ok(()) => exec.health.clear(FAILED),
                Err(SweepError::History(HistoryError::Closed)) => return,
                Err(error) => {
                    let error = crate::log::chain(&error);
                    tracing::error!(error, "the history cannot be kept in order; it is tried again");
                    exec.health.set(FAILED, error);
                }
            }
            exec.meter.clone()
        };
        tokio::time::sleep(LOOK_EVERY).await;
        tokio::select! {
            () = tokio::time::sleep_until(round) => {}
            () = meter.told() => {}
        }
    }
}

impl Exec {
    /// What is done every hour.
    async fn round(self: &Arc<Self>) -> Result<(), SweepError> {
        self.say_set_aside();
        self.recount().await?;
        let tally = self.tally().await?;
        let mut batch = steps::Batch::default();
        if let Some(until_ms) = tally.life_ms.checked_sub(ms(ARCHIVE_AFTER)) {
            while self.archive_some(Some(until_ms), &mut batch).await? {}
        }
        if tally.horizon.is_some() {
            let mut forgotten = 0;
            while let rows @ 1.. = self.forget_some(tally.horizon).await? {
                forgotten += rows;
            }
            if forgotten > 0 {
                tracing::info!(rows = forgotten, "forgot executions that are older than the history keeps");
            }
        }
        self.relieve().await?;
        self.meter.set_rows(self.history.count().await?);
        batch.end()
    }

    /// What is done when executions have ended.
    async fn look(self: &Arc<Self>) -> Result<(), SweepError> {
        self.measure_ended().await?;
        self.tally().await?;
        self.relieve().await
    }

    /// Comes below the budget again, if it is passed.
    async fn relieve(self: &Arc<Self>) -> Result<(), SweepError> {
        let budget = self.settings.budget.on(&self.settings.executions);
        if !budget.is_passed(&self.meter.used()) {
            self.health.clear(OVER);
            return self.shrink().await;
        }
        let mut batch = steps::Batch::default();
        let (mut early, mut dropped, mut forgotten) = (0_usize, 0, 0);
        let kept = loop {
            let over = budget.over(&self.meter.used());
            if !over.any() {
                break true;
            }
            if self.archive_some(None, &mut batch).await? {
                early += batch.len();
            } else if let rows @ 1.. = self.drop_some(!over.bytes).await? {
                dropped += rows;
            } else if over.bytes
                && self.meter.database_takes_most(&budget)
                && let rows @ 1.. = self.forget_some(None).await?
            {
                forgotten += rows;
            } else {
                break !budget.is_passed(&self.meter.used());
            }
            self.tally().await?;
        };
        if early + dropped + forgotten > 0 {
            tracing::warn!(early, outputs = dropped, rows = forgotten, %budget, "the history passed its budget: archived early, removed outputs, forgot rows");
        }
        if kept {
            self.health.clear(OVER);
        } else {
            let used = self.meter.used();
            self.health.set(OVER, format!("the history uses {used}, its budget is {budget}, and nothing more can go: raise history.max_bytes and history.max_files, or see what else lies in the state directory"));
        }
        self.shrink().await?;
        batch.end()
    }

    async fn tally(&self) -> Result<Tally, SweepError> {
        let tally = self.history.tally(self.settings.keep).await?;
        self.meter.set_database(tally.used_bytes);
        Ok(tally)
    }

    /// Gives room in the database back, as long as that helps.
    async fn shrink(&self) -> Result<(), SweepError> {
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

    fn say_set_aside(&self) {
        let aside = self.history.set_aside();
        match aside.last() {
            None => self.health.clear(SET_ASIDE),
            Some(newest) => self.health.set(
                SET_ASIDE,
                format!(
                    "a damaged history was set aside as {}; what it alone knew is lost unless it can be repaired: remove it when it is not needed",
                    newest.display()
                ),
            ),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

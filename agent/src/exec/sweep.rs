//! Forgetting what is older than the history keeps: rows first, then directories. Once an hour.
//!
//! Compressing outputs and keeping to byte and inode budgets belong here as well.

use std::path::Path;
use std::sync::Weak;
use std::time::Duration;

use packs_schema::name::ExecutionId;
use uuid::Uuid;

use super::{Exec, directory};
use crate::clock;

const EVERY: Duration = Duration::from_secs(3600);

/// Runs as long as the executions are looked after.
pub(super) async fn run(exec: Weak<Exec>) {
    loop {
        {
            let Some(exec) = exec.upgrade() else { return };
            let keep_ms = u64::try_from(exec.settings.keep.as_millis()).unwrap_or(u64::MAX);
            let before_ms = clock::now_ms().saturating_sub(keep_ms);
            loop {
                match exec.history.sweep(before_ms).await {
                    Ok(0) => break,
                    Ok(rows) => tracing::info!(rows, "forgot executions that are older than the history keeps"),
                    Err(error) => {
                        tracing::error!(%error, "cannot forget old executions");
                        break;
                    }
                }
            }
            for id in older(&exec.settings.executions, before_ms) {
                if !exec.lock().live.contains_key(&id) {
                    directory::remove(&exec.directory(&id));
                    tokio::task::yield_now().await;
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Executions accepted before, oldest first, by the time in their ids (RFC 9562, version 7).
fn older(executions: &Path, before_ms: u64) -> Vec<ExecutionId> {
    let Ok(entries) = std::fs::read_dir(executions) else { return Vec::new() };
    let mut old: Vec<ExecutionId> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| ExecutionId::new(name).ok()))
        .filter(|id| accepted_at_ms(id).is_some_and(|at| at < before_ms))
        .collect();
    old.sort();
    old
}

fn accepted_at_ms(id: &ExecutionId) -> Option<u64> {
    let (seconds, nanos) = Uuid::parse_str(id.as_str()).ok()?.get_timestamp()?.to_unix();
    Some(seconds * 1000 + u64::from(nanos) / 1_000_000)
}

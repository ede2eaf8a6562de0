//! Recovery of executions from before a restart: each is ended, watched again, or queued again.
//!
//! Runs before the api listens, and running it twice changes nothing. The decision per execution is
//! [`decide_recovery`](super::state::decide_recovery); the directories are read and the launcher is asked here.
//!
//! A row without a directory ends as `interrupted` if the host has booted since, else as `error`. A directory without a row
//! was never promised to a caller and is removed, unless something happened in it or the history needs an import: then it
//! becomes a row. So a lost or damaged history is rebuilt without starting anything twice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use packs_schema::agent::execution::Spec;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;

use super::directory::{self, Lock, RecordFile, read_evidence_retrying};
use super::state::{Change, HostTime, RecoveryAction, advance, decide_recovery, end_lost};
use super::{Exec, Order, RecoverError};
use crate::clock;
use crate::history::{BootTime, HistoryError, Key};

/// Health code: the history is being rebuilt from the execution directories.
pub const RECOVERING: &str = "recovering";
/// Number of rows written to the history concurrently, so that they share its commits.
const BATCH: usize = 64;

/// Recovers all executions from before the restart.
pub(super) async fn recover(exec: &Arc<Exec>) -> Result<(), RecoverError> {
    let host_time = read_host_time(exec);
    import_directories(exec).await?;
    let unfinished = exec.history.unfinished().await?;
    let (mut counts, mut ends) = (Counts::default(), Vec::new());
    for record in unfinished {
        match recover_one(exec, record, &host_time).await? {
            Recovered::Running => counts.running += 1,
            Recovered::Waiting => counts.waiting += 1,
            Recovered::Ended(record, change) => ends.push(exec.record_end(*record, change)),
        }
        counts.ended += write_ends(&mut ends, BATCH).await?;
    }
    counts.ended += write_ends(&mut ends, 1).await?;
    let Counts { running, waiting, ended } = counts;
    if running + waiting + ended > 0 {
        tracing::info!(running, waiting, ended, "recovered the executions from before the restart");
    }
    exec.start_ready();
    Ok(())
}

/// Number of recovered executions, by outcome.
#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    ended: usize,
}

/// Outcome of recovering one execution.
enum Recovered {
    Running,
    Waiting,
    Ended(Box<Execution>, Change),
}

/// Writes the collected ends, once there are at least `min`; returns how many were written.
async fn write_ends(
    ends: &mut Vec<impl Future<Output = Result<(), RecoverError>>>,
    min: usize,
) -> Result<usize, RecoverError> {
    if ends.len() < min {
        return Ok(0);
    }
    Ok(try_join_all(ends.drain(..)).await?.len())
}

fn read_host_time(exec: &Exec) -> HostTime {
    HostTime {
        boot_id: exec.settings.boot_id.clone(),
        booted_at_ms: booted_at_ms(),
        now_ms: clock::now_ms(),
        boottime_ms: clock::boottime_ms(),
    }
}

async fn recover_one(exec: &Arc<Exec>, mut record: Execution, host_time: &HostTime) -> Result<Recovered, RecoverError> {
    let id = record.id.clone();
    exec.record_written_kill(&mut record).await;
    let evidence = read_evidence_retrying(&exec.directory(&id)).await;
    let change = match decide_recovery(evidence, record.created_at_ms, host_time) {
        RecoveryAction::Import(exit) => Change::Ended(exit),
        RecoveryAction::Resume => {
            exec.resume_running(record);
            return Ok(Recovered::Running);
        }
        RecoveryAction::Requeue(spec) => {
            exec.requeue(record, *spec, host_time);
            return Ok(Recovered::Waiting);
        }
        RecoveryAction::End(state, reason) => Change::Aborted { state, reason, at_ms: clock::now_ms() },
        RecoveryAction::CleanUp => {
            let outcome = exec.request_clean_up(&id).await;
            let evidence = read_evidence_retrying(&exec.directory(&id)).await;
            end_lost(evidence, outcome, clock::now_ms()).ok_or(RecoverError::LauncherGone)?
        }
    };
    Ok(Recovered::Ended(Box::new(record), change))
}

impl Exec {
    /// Writes the end of an execution that has no waiters.
    async fn record_end(self: &Arc<Self>, mut record: Execution, change: Change) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let by_api = matches!(change, Change::Aborted { .. });
        match advance(&mut record, change) {
            Ok(changes) => {
                if by_api {
                    self.write_exit_record(&record);
                }
                tracing::debug!(execution = %id, state = %record.state, "recovered");
                if !self.persist(&record, &changes).await {
                    return Err(RecoverError::History(HistoryError::Closed));
                }
                for (state, _) in changes {
                    self.metrics.execution(&record.action, state);
                }
                self.metrics.finished(&record);
            }
            Err(error) => tracing::error!(execution = %id, %error, "ignoring a change of state"),
        }
        Ok(())
    }

    /// Watches an execution that has a shim.
    fn resume_running(self: &Arc<Self>, record: Execution) {
        let id = record.id.clone();
        let rules = self.admission_rules(&record);
        // Its running time is known from the wall clock only; it is at most the time since the boot.
        let ran_ms = record.started_at_ms.map_or(0, |at| clock::now_ms().saturating_sub(at));
        let since_ms = clock::signed_boottime_ms().saturating_sub(i64::try_from(ran_ms).unwrap_or(i64::MAX)).max(0);
        self.lock().slots.resume_running(&id, rules, since_ms);
        self.track(record, None, None);
        // Reconcile once: it may have ended between the decision and the watch.
        self.reconcile(&id);
    }

    /// Queues an execution again that has not been started.
    fn requeue(self: &Arc<Self>, record: Execution, spec: Spec, host_time: &HostTime) {
        let id = record.id.clone();
        let rules = self.admission_rules(&record);
        let remaining = Duration::from_millis(host_time.remaining_ms(&spec));
        self.track(record, Some(Box::new(Order::start_request(spec))), None);
        self.register_queued(&id);
        self.lock().slots.requeue(&id, rules);
        self.expire_after(&id, remaining);
    }
}

/// Handles directories without a row: imports them if the history needs it or something happened in them, else removes them.
async fn import_directories(exec: &Arc<Exec>) -> Result<(), RecoverError> {
    let path = &exec.settings.executions;
    let entries = std::fs::read_dir(path).map_err(|e| RecoverError::Directory(path.clone(), e))?;
    let mut ids: Vec<ExecutionId> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| ExecutionId::new(name).ok()))
        .collect();
    ids.sort();
    let (mut inserts, mut imported, mut removed) = (Vec::new(), 0, 0);
    let count = ids.len();
    for (n, id) in ids.into_iter().enumerate() {
        if exec.history.needs_import() && n % BATCH == 0 {
            let message = format!("the history is being rebuilt from the execution directories: {n} of {count}");
            exec.health.set(RECOVERING, message);
        }
        if exec.history.knows(&id).await? {
            continue;
        }
        let directory = exec.directory(&id);
        let evidence = read_evidence_retrying(&directory).await;
        let happened = evidence.lock != Lock::Absent || evidence.started.exists() || evidence.exit.exists();
        match evidence.spec {
            RecordFile::Valid(spec) if (happened || exec.history.needs_import()) && spec.id == id => {
                tracing::debug!(execution = %id, "imported from its directory");
                imported += 1;
                let record = exec.new_record(&spec);
                let key = spec.idempotency_key.zip(spec.fingerprint);
                let key = key.map(|(key, fingerprint)| Key { key, fingerprint });
                let created = spec.created_boottime_ms;
                let boot_time = created.map(|boottime_ms| BootTime { boot_id: spec.boot_id.clone(), boottime_ms });
                // In order: an older execution has a lower row number.
                // The audit log may have its entry anywhere.
                inserts.push(exec.history.insert_unaudited(record, key, boot_time, 0));
                if inserts.len() >= BATCH {
                    try_join_all(inserts.drain(..)).await?;
                }
            }
            RecordFile::Damaged(why) if happened || exec.history.needs_import() => {
                tracing::error!(execution = %id, why, "cannot read its spec, so its caller is unknown; leaving the directory");
            }
            _ if happened => {
                tracing::error!(execution = %id, "its directory has no spec with its id; leaving the directory");
            }
            _ => {
                tracing::debug!(execution = %id, "removing the directory of an execution that was never accepted");
                removed += 1;
                directory::remove(&directory);
            }
        }
    }
    try_join_all(inserts).await?;
    exec.health.clear(RECOVERING);
    if imported > 0 {
        tracing::warn!(imported, "imported executions without a row in the history from their directories");
    }
    if removed > 0 {
        tracing::info!(removed, "removed directories of executions that were never accepted");
    }
    Ok(())
}

/// Returns when the host booted, in milliseconds since 1970, from `/proc/stat` (proc(5), `btime`); 0 if it is not known.
fn booted_at_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    seconds.unwrap_or(0).saturating_mul(1000)
}

//! What becomes of the executions of before a restart. Done before the api listens; doing it twice changes nothing.
//! What is decided stands in `state::at_start`; here the directories are read and the launcher is asked.
//!
//! A row without a directory ends as `interrupted` when the host has started since, else as `error`. A directory
//! without a row was never promised to anyone and goes, unless the database is new: then it is read in.

use std::sync::Arc;

use futures_util::future::try_join_all;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;

use super::directory::{self, Found, Lock, evidence_in_time};
use super::state::{Change, Present, Verdict, at_start, lost};
use super::{Exec, RecoverError};
use crate::clock;
use crate::history::Born;

/// Brings every execution of before into an honest state.
pub(super) async fn recover(exec: &Arc<Exec>) -> Result<(), RecoverError> {
    let present = present(exec);
    adopt_directories(exec).await?;
    let unfinished = exec.history.unfinished().await?;
    let (mut counts, mut ends) = (Counts::default(), Vec::new());
    for record in unfinished {
        match one(exec, record, &present).await? {
            Recovered::Running => counts.running += 1,
            Recovered::Waiting => counts.waiting += 1,
            Recovered::Ended(record, change) => ends.push(exec.conclude(*record, change)),
        }
        counts.ended += conclude(&mut ends, AT_ONCE).await?;
    }
    counts.ended += conclude(&mut ends, 1).await?;
    let Counts { running, waiting, ended } = counts;
    if running + waiting + ended > 0 {
        tracing::info!(running, waiting, ended, "recovered the executions from before the restart");
    }
    exec.pump();
    Ok(())
}

/// The code of health while the history is read in again.
pub const RECOVERING: &str = "recovering";
/// Rows that are written to the history together, so that they share its commits.
const AT_ONCE: usize = 64;

/// How many executions were recovered, by what became of them.
#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    ended: usize,
}

/// What becomes of an execution.
enum Recovered {
    Running,
    Waiting,
    Ended(Box<Execution>, Change),
}

/// Writes the ends that have gathered, once they are `least`; answers how many.
async fn conclude(
    ends: &mut Vec<impl Future<Output = Result<(), RecoverError>>>,
    least: usize,
) -> Result<usize, RecoverError> {
    if ends.len() < least {
        return Ok(0);
    }
    Ok(try_join_all(ends.drain(..)).await?.len())
}

fn present(exec: &Exec) -> Present {
    Present {
        boot_id: exec.settings.boot_id.clone(),
        booted_at_ms: booted_at_ms(),
        now_ms: clock::now_ms(),
        boottime_ms: clock::boottime_ms(),
    }
}

async fn one(exec: &Arc<Exec>, record: Execution, present: &Present) -> Result<Recovered, RecoverError> {
    let id = record.id.clone();
    let change = match at_start(evidence_in_time(&exec.directory(&id)).await, record.created_at_ms, present) {
        Verdict::Import(exit) => Change::Ended(exit),
        Verdict::Running => {
            exec.adopt_running(record);
            return Ok(Recovered::Running);
        }
        Verdict::Queue(spec) => {
            exec.adopt_waiting(record, *spec, present);
            return Ok(Recovered::Waiting);
        }
        Verdict::End(state, reason) => Change::Aborted { state, reason, at_ms: clock::now_ms() },
        Verdict::CleanUp => {
            let cleaned = exec.clean_up(&id).await;
            let evidence = evidence_in_time(&exec.directory(&id)).await;
            lost(evidence, cleaned, clock::now_ms()).ok_or(RecoverError::LauncherGone)?
        }
    };
    Ok(Recovered::Ended(Box::new(record), change))
}

/// Directories without a row: read in when the database is new or something happened there, else removed.
async fn adopt_directories(exec: &Arc<Exec>) -> Result<(), RecoverError> {
    let path = &exec.settings.executions;
    let entries = std::fs::read_dir(path).map_err(|e| RecoverError::Directory(path.clone(), e))?;
    let mut ids: Vec<ExecutionId> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| ExecutionId::new(name).ok()))
        .collect();
    ids.sort();
    let (mut inserts, mut read_in, mut removed) = (Vec::new(), 0, 0);
    let count = ids.len();
    for (n, id) in ids.into_iter().enumerate() {
        if exec.history.is_fresh() && n % AT_ONCE == 0 {
            let message = format!("the history is read in again from the executions' directories: {n} of {count}");
            exec.health.set(RECOVERING, message);
        }
        if exec.history.knows(&id).await? {
            continue;
        }
        let directory = exec.directory(&id);
        let evidence = evidence_in_time(&directory).await;
        let happened = evidence.lock != Lock::Absent || evidence.started.is_there() || evidence.exit.is_there();
        match evidence.spec {
            Found::Good(spec) if (happened || exec.history.is_fresh()) && spec.id == id => {
                tracing::debug!(execution = %id, "read in from its directory");
                read_in += 1;
                let record = exec.record_of(&spec);
                let key = spec.idempotency_key.zip(spec.fingerprint);
                let key = key.map(|(key, fingerprint)| crate::history::Key { key, fingerprint });
                let created = spec.created_boottime_ms;
                let born = created.map(|boottime_ms| Born { boot_id: spec.boot_id.clone(), boottime_ms });
                // In order: an older one has a lower row.
                inserts.push(exec.history.insert(record, key, born));
                if inserts.len() >= AT_ONCE {
                    try_join_all(inserts.drain(..)).await?;
                }
            }
            Found::Damaged(why) if happened || exec.history.is_fresh() => {
                tracing::error!(execution = %id, why, "its spec cannot be read, so it is not known whose it is; left as it is");
            }
            _ if happened => tracing::error!(execution = %id, "its directory has no spec of its own; left as it is"),
            _ => {
                tracing::debug!(execution = %id, "never accepted; its directory is removed");
                removed += 1;
                directory::remove(&directory);
            }
        }
    }
    try_join_all(inserts).await?;
    exec.health.clear(RECOVERING);
    if read_in > 0 {
        tracing::warn!(read_in, "executions without a row in the history were read in from their directories");
    }
    if removed > 0 {
        tracing::info!(removed, "directories of executions that were never accepted are removed");
    }
    Ok(())
}

/// When the host started, from `/proc/stat` (proc(5), `btime`); 0 when it does not say.
fn booted_at_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    seconds.unwrap_or(0).saturating_mul(1000)
}

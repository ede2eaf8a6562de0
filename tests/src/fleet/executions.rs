//! Executions of one simulated instance: one for each idempotency key, as agents have it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use packs_schema::agent::execution::{State, StreamTotals};
use packs_schema::agent::rest::{CreateExecution, Execution};
use packs_schema::base::name::{Digest, ExecutionId, InstanceId, PackVersion, Principal};
use tokio::time::Instant;

/// Executions of an instance.
#[derive(Debug, Default)]
pub(super) struct Executions {
    by_id: HashMap<ExecutionId, Record>,
    by_key: HashMap<String, Key>,
}

/// Requests with one idempotency key.
#[derive(Debug, Default)]
struct Key {
    requests: u32,
    execution: Option<ExecutionId>,
}

/// An execution.
struct Record {
    number: u64,
    asked: CreateExecution,
    created_at_ms: u64,
    ends: Instant,
    run_time: Duration,
    succeeds: bool,
    killed: bool,
}

impl std::fmt::Debug for Record {
    // Parameters may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Claims of an instance about an execution.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    pub(super) stdout_bytes: u64,
    pub(super) reason: Option<String>,
}

impl Executions {
    /// Counts a request with `key` and returns how many there were.
    pub(super) fn count(&mut self, key: &str) -> u32 {
        let known = self.by_key.entry(key.to_owned()).or_default();
        known.requests += 1;
        known.requests
    }

    /// Returns the number that the next execution gets.
    pub(super) fn next_number(&self) -> u64 {
        self.by_id.len() as u64
    }

    /// Starts an execution, or returns the one that `key` has started before; `None` if that one was for another request.
    pub(super) fn start(
        &mut self,
        key: Option<&str>,
        asked: CreateExecution,
        run_time: Duration,
        succeeds: bool,
    ) -> Option<ExecutionId> {
        let number = self.next_number();
        let id = new_id(number);
        if let Some(key) = key {
            let known = self.by_key.entry(key.to_owned()).or_default();
            if let Some(id) = &known.execution {
                return self.by_id.get(id).is_some_and(|record| record.asked == asked).then(|| id.clone());
            }
            known.execution = Some(id.clone());
        }
        let (created_at_ms, ends) = (now_ms(), Instant::now() + run_time);
        self.by_id.insert(id.clone(), Record { number, asked, created_at_ms, ends, run_time, succeeds, killed: false });
        Some(id)
    }

    /// Returns when an execution ends.
    pub(super) fn ends(&self, id: &ExecutionId) -> Option<Instant> {
        self.by_id.get(id).map(|record| record.ends)
    }

    /// Kills an execution; `None` if there is no such execution, `false` if it has ended.
    pub(super) fn kill(&mut self, id: &ExecutionId) -> Option<bool> {
        let record = self.by_id.get_mut(id)?;
        let now = Instant::now();
        let runs = record.ends > now;
        if runs {
            record.run_time -= record.ends - now;
            record.ends = now;
            record.killed = true;
        }
        Some(runs)
    }

    /// Returns the executions, newest first.
    pub(super) fn list(&self) -> Vec<ExecutionId> {
        let mut all: Vec<(&ExecutionId, u64)> = self.by_id.iter().map(|(id, record)| (id, record.number)).collect();
        all.sort_unstable_by_key(|(_, number)| std::cmp::Reverse(*number));
        all.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Returns how many executions each run has started.
    pub(super) fn starts(&self) -> BTreeMap<String, u32> {
        let mut starts = BTreeMap::new();
        for record in self.by_id.values() {
            let run = record.asked.run.as_ref().map_or_else(String::new, ToString::to_string);
            *starts.entry(run).or_default() += 1;
        }
        starts
    }

    /// Returns an execution as it is now.
    pub(super) fn view(&self, id: &ExecutionId, instance: &InstanceId, claims: &Claims) -> Option<Execution> {
        let record = self.by_id.get(id)?;
        let ended = record.ends <= Instant::now();
        let state = match (ended, record.killed, record.succeeds) {
            (false, ..) => State::Running,
            (true, true, _) => State::Killed,
            (true, false, true) => State::Succeeded,
            (true, false, false) => State::Failed,
        };
        let run_time_ms = u64::try_from(record.run_time.as_millis()).unwrap_or(u64::MAX);
        let totals = |bytes| ended.then_some(StreamTotals { written_bytes: bytes, dropped_bytes: 0 });
        let principal = Principal::new(bolt_client::local::OPERATOR).expect("a valid principal");
        Some(Execution {
            id: id.clone(),
            instance: instance.clone(),
            action: record.asked.action.clone(),
            version: version(),
            digest: digest(),
            dev: None,
            state,
            reason: claims.reason.clone(),
            parameters: record.asked.parameters.clone(),
            noop: record.asked.noop,
            killed_by: record.killed.then(|| principal.clone()),
            principal,
            note: record.asked.note.clone(),
            kill_note: None,
            waiting: None,
            run: record.asked.run.clone(),
            created_at_ms: record.created_at_ms,
            started_at_ms: Some(record.created_at_ms),
            ended_at_ms: ended.then_some(record.created_at_ms + run_time_ms),
            duration_ms: ended.then_some(run_time_ms),
            exit_status: (ended && !record.killed).then_some(i32::from(!record.succeeds)),
            signal: (ended && record.killed).then_some(15),
            usage: None,
            stdout: totals(claims.stdout_bytes),
            stderr: totals(0),
            leftovers: None,
            unenforced: Vec::new(),
            result: None,
            result_error: None,
            output: None,
            output_error: None,
        })
    }
}

/// Returns the version of the pack that every instance has.
pub(super) fn version() -> PackVersion {
    PackVersion::new("1.0.0").expect("a valid version")
}

/// Returns the digest of the pack that every instance has.
pub(super) fn digest() -> Digest {
    Digest::new("5".repeat(64)).expect("a valid digest")
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Returns an id in the form of a UUID of version 7 (RFC 9562): the time, then a counter in place of randomness.
fn new_id(number: u64) -> ExecutionId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (ms, unique) = (now_ms(), NEXT.fetch_add(1, Ordering::Relaxed));
    let text = format!("{:08x}-{:04x}-7{:03x}-8000-{:012x}", ms >> 16, ms & 0xffff, number & 0xfff, unique);
    ExecutionId::new(text).expect("a valid id")
}

//! Metrics in Prometheus's text exposition format.
//!
//! Recording changes counters in memory only; values of the host are read when metrics are asked for. Labels are names of
//! routes, packs, actions, states, steps and of files of the agent only: text that a peer sends never becomes a label.
//!
//! - `families`: the table of all metrics
//! - `histogram`: durations in buckets
//! - `exposition`: the text format
//! - `render`: all of it as text
//! - `processes`: usage of this process and of the launcher

mod exposition;
mod families;
mod histogram;
mod processes;
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use packs_schema::agent::execution::{State, Usage};
use packs_schema::agent::rest::{Code, Execution, SyncStatus};
use packs_schema::base::name::{ActionRef, PackName, PackVersion};

use self::histogram::Histogram;
use crate::audit;
use crate::expiry::End;

/// Maximum number of actions that are counted by name; further ones count as `other`.
const MAX_ACTIONS: usize = 500;
/// Pack and action of what is not counted by name.
const OTHER: &str = "other";
/// Route of health probes, which are no activity.
const HEALTH: &str = "/v1/health";

/// Counters since the start.
pub struct Metrics {
    requests: Mutex<BTreeMap<&'static str, Requests>>,
    executions: Mutex<BTreeMap<String, Counted>>,
    /// Time from acceptance to start.
    queue_wait: Mutex<Histogram>,
    dev: Mutex<BTreeMap<State, u64>>,
    problems: Mutex<BTreeMap<&'static str, u64>>,
    handshakes: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Open descriptors of the launcher, as it told last; 0 before.
    launcher_descriptors: AtomicU32,
    /// Number of requests, changes of executions and failed handshakes.
    activity: AtomicU64,
}

/// Counters of one route.
struct Requests {
    statuses: BTreeMap<u16, u64>,
    durations: Histogram,
}

/// Counters of one action.
#[derive(Clone)]
struct Counted {
    states: BTreeMap<State, u64>,
    durations: Histogram,
    used: Used,
}

/// Total resource usage of executions of one action.
#[derive(Default, Clone, Copy)]
struct Used {
    user_us: u64,
    system_us: u64,
    read_bytes: u64,
    written_bytes: u64,
    memory_bytes: u64,
    output_bytes: u64,
    output_dropped_bytes: u64,
}

/// Current values, for the gauges.
pub struct Now {
    /// Running executions, and their maximum.
    pub running: (u32, u32),
    /// Queued executions, and their maximum.
    pub queued: (u32, u32),
    /// Resource usage of running executions so far, as far as the host counts it.
    pub using: Vec<(ActionRef, Usage)>,
    /// Open connections.
    pub connections: u32,
    /// Readiness of the agent.
    pub ready: bool,
    /// Codes of `GET /v1/health`.
    pub wrong: BTreeSet<String>,
    /// Ends of certificates, authorities, revocation lists and signatures.
    pub(crate) ends: Vec<End>,
    /// Files whose present content is not in effect.
    pub invalid_files: Vec<PathBuf>,
    /// Last status of the sync, as far as its reader may see it.
    pub sync: Option<SyncStatus>,
    /// Packs of which a version could not be activated, all of them.
    pub packs_failed: usize,
    /// Active versions of packs that the reader may see; true for signed ones.
    pub packs: Vec<(PackName, PackVersion, bool)>,
    /// Packs whose active version was pushed and is not signed.
    pub dev_packs: u64,
    /// Number of the newest event.
    pub newest_event: u64,
    /// Size of the history.
    pub history: HistorySize,
    /// Process id of the launcher, if it is known.
    pub launcher: Option<i32>,
    /// Entries of the audit log.
    pub audit: audit::Counts,
}

/// Size of the history.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct HistorySize {
    /// Executions.
    pub executions: u64,
    /// Disk use of outputs and database, in bytes.
    pub bytes: u64,
    /// Files and directories of outputs.
    pub files: u64,
    /// Outputs archived since the start.
    pub archived: u64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: Mutex::default(),
            executions: Mutex::default(),
            queue_wait: Mutex::new(Histogram::new(&histogram::EXECUTIONS)),
            dev: Mutex::default(),
            problems: Mutex::default(),
            handshakes: Mutex::default(),
            launcher_descriptors: AtomicU32::default(),
            activity: AtomicU64::default(),
        }
    }
}

impl Default for Counted {
    fn default() -> Counted {
        let durations = Histogram::new(&histogram::EXECUTIONS);
        Counted { states: BTreeMap::new(), durations, used: Used::default() }
    }
}

impl Default for Requests {
    fn default() -> Requests {
        Requests { statuses: BTreeMap::new(), durations: Histogram::new(&histogram::REQUESTS) }
    }
}

impl Metrics {
    /// Counts a request whose response begins after `took`.
    pub fn request(&self, route: &'static str, status: u16, took: Duration) {
        let mut requests = lock(&self.requests);
        let counted = requests.entry(route).or_default();
        *counted.statuses.entry(status).or_default() += 1;
        counted.durations.record(took);
        drop(requests);
        if route != HEALTH {
            self.record_activity();
        }
    }

    /// Counts a request that was refused or failed.
    pub fn problem(&self, code: Code) {
        *lock(&self.problems).entry(code.as_str()).or_default() += 1;
    }

    /// Counts an execution that entered a state.
    pub fn execution(&self, action: &ActionRef, state: State) {
        self.counted(action, |counted| *counted.states.entry(state).or_default() += 1);
        self.record_activity();
    }

    /// Returns a number that rises with every request and change of an execution; health probes do not count.
    pub fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    fn record_activity(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts duration and resource usage in the record of an execution that has ended.
    pub fn finished(&self, record: &Execution) {
        self.counted(&record.action, |counted| {
            if let Some(took_ms) = record.duration_ms {
                counted.durations.record(Duration::from_millis(took_ms));
            }
            counted.used.add(&record.usage.unwrap_or_default());
            for totals in [record.stdout, record.stderr].into_iter().flatten() {
                counted.used.output_bytes += totals.written_bytes;
                counted.used.output_dropped_bytes += totals.dropped_bytes;
            }
        });
        if let Some(started_at_ms) = record.started_at_ms {
            let waited = Duration::from_millis(started_at_ms.saturating_sub(record.created_at_ms));
            lock(&self.queue_wait).record(waited);
        }
    }

    fn counted(&self, action: &ActionRef, change: impl FnOnce(&mut Counted)) {
        let mut executions = lock(&self.executions);
        if let Some(counted) = executions.get_mut(action.as_str()) {
            return change(counted);
        }
        let name = if executions.len() < MAX_ACTIONS { action.as_str() } else { OTHER };
        change(executions.entry(name.to_owned()).or_default());
    }

    /// Counts an execution of a pushed version that entered a state.
    pub fn dev_execution(&self, state: State) {
        *lock(&self.dev).entry(state).or_default() += 1;
    }

    /// Records the number of open descriptors of the launcher.
    pub fn launcher_descriptors(&self, open: u32) {
        self.launcher_descriptors.store(open, Ordering::Relaxed);
    }

    /// Returns the number of open descriptors that the launcher told last; `None` before.
    pub(crate) fn told_descriptors(&self) -> Option<u32> {
        Some(self.launcher_descriptors.load(Ordering::Relaxed)).filter(|open| *open > 0)
    }

    /// Counts a socket that ended before its peer was authenticated.
    pub fn handshake_failed(&self, listener: &'static str, reason: &'static str) {
        *lock(&self.handshakes).entry((listener, reason)).or_default() += 1;
        self.record_activity();
    }
}

impl Used {
    fn add(&mut self, usage: &Usage) {
        self.user_us += usage.user_us;
        self.system_us += usage.system_us;
        self.read_bytes += usage.read_bytes.unwrap_or(0);
        self.written_bytes += usage.written_bytes.unwrap_or(0);
        self.memory_bytes += usage.memory_bytes.unwrap_or(0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

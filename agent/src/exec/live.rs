//! Executions that have not ended: the table of them, who may act on one, and the notifications to waiters and followers.
//!
//! [`Exec::track`] adds an execution and `apply::finish` removes it. [`Exec::claim_start`] takes a waiting one away from its
//! start, which decides races between start, expiry and kill: only the caller that gets `true` may end it.

use std::collections::HashMap;
use std::sync::Arc;

use inotify::WatchDescriptor;
use packs_schema::agent::execution::{Spec, State};
use packs_schema::agent::launch::Start;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, Principal};
use packs_schema::pack::action::Class;
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;

use super::Exec;
use super::admission::{AdmissionRules, Slots};
use super::caller_limits::CallerLimits;
use super::starts_to_write::StartsToWrite;
use super::state::Ownership;
use super::watch::WatchLevel;

/// Progress of an execution, for waiters and followers.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The ended execution, once it has ended.
    pub ended: Option<Arc<Execution>>,
    /// Counter that rises when the output may have grown.
    pub generation: u64,
}

/// State that changes while the agent runs; guarded by `Exec::tables`.
pub(super) struct Tables {
    /// Slots and queue.
    pub(super) slots: Slots,
    /// Executions that have not ended, by id.
    pub(super) live: HashMap<ExecutionId, LiveExecution>,
    /// State of the limits of callers.
    pub(super) limits: CallerLimits,
    /// Starts that are not written to the history yet.
    pub(super) starts_to_write: StartsToWrite,
}

impl Tables {
    /// Creates tables without executions.
    pub(super) fn new(slots: Slots) -> Tables {
        Tables {
            slots,
            live: HashMap::new(),
            limits: CallerLimits::default(),
            starts_to_write: StartsToWrite::default(),
        }
    }

    /// Returns the number of executions of a caller that have not ended, with those that are being accepted.
    pub(super) fn unfinished_of(&self, who: &Principal) -> usize {
        let live = self.live.values().filter(|live| live.record.principal == *who).count();
        let accepting = self.limits.accepting.iter();
        live + accepting.filter(|(id, principal)| *principal == who && !self.live.contains_key(id)).count()
    }
}

/// An execution that has not ended.
pub(super) struct LiveExecution {
    /// Record as it is in the history, or about to be.
    pub(super) record: Execution,
    /// Changes of it that are not written to the history yet: at most the one to `running`.
    pub(super) unwritten: Vec<(State, u64)>,
    /// Class of its action, if it was accepted by this process.
    pub(super) class: Option<Class>,
    /// Start request; taken by whichever claims the execution first: start, expiry, kill or revocation.
    pub(super) start: Option<Box<Start>>,
    /// True while a start request is unanswered.
    pub(super) start_requested: bool,
    /// Notifies waiters and followers.
    pub(super) progress: channel::Sender<Progress>,
    /// Watch on its directory; `None`: polled instead, unless its end is known.
    pub(super) watch: Option<WatchDescriptor>,
    /// Number of followers; with any, writes of output are watched as well.
    pub(super) followers: usize,
    /// Timer of the start deadline.
    pub(super) expiry: Option<AbortHandle>,
    /// True once its end is being written to the history: no other change is applied.
    pub(super) ending: bool,
}

impl LiveExecution {
    /// Tells which process may decide about the execution.
    pub(super) fn ownership(&self) -> Ownership {
        match (self.ending, &self.start, self.start_requested) {
            (true, ..) => Ownership::Ending,
            (false, Some(_), _) => Ownership::Ours,
            (false, None, true) => Ownership::StartRequested,
            (false, None, false) => Ownership::HandedOver,
        }
    }
}

impl Exec {
    /// Adds an execution to the table and watches its directory.
    pub(super) fn track(&self, record: Execution, start: Option<Box<Start>>, class: Option<Class>) {
        let id = record.id.clone();
        let watch = self.watcher.watch(&self.directory(&id), &id, WatchLevel::States);
        let watch = watch.map_err(|error| self.poll_fallback.engage(&self.health, &error)).ok();
        let (progress, _) = channel::channel(Progress::default());
        let live = LiveExecution {
            record,
            unwritten: Vec::new(),
            class,
            start,
            start_requested: false,
            progress,
            watch,
            followers: 0,
            expiry: None,
            ending: false,
        };
        self.lock().live.insert(id, live);
    }

    /// Takes a waiting execution away from its start, if `decide` agrees. Afterwards only the caller may end it.
    pub(super) fn claim_start(&self, id: &ExecutionId, decide: impl FnOnce(Option<Ownership>) -> bool) -> bool {
        let mut tables = self.lock();
        let live = tables.live.get_mut(id);
        decide(live.as_ref().map(|live| live.ownership())) && live.is_some_and(|live| live.start.take().is_some())
    }

    /// Wakes the followers of an execution's output.
    pub(super) fn notify_followers(&self, id: &ExecutionId) {
        if let Some(live) = self.lock().live.get(id) {
            live.progress.send_modify(|progress| progress.generation += 1);
        }
    }

    /// Marks every live execution as not watched.
    pub(super) fn clear_watches(&self) {
        self.lock().live.values_mut().for_each(|live| live.watch = None);
    }

    /// Ids of all live executions.
    pub(super) fn live_ids(&self) -> Vec<ExecutionId> {
        self.lock().live.keys().cloned().collect()
    }

    /// Record of a live execution.
    pub(super) fn live_record(&self, id: &ExecutionId) -> Option<Execution> {
        self.lock().live.get(id).map(|live| live.record.clone())
    }

    /// Admission rules of an execution's action, also when its version is no longer active.
    pub(super) fn admission_rules(&self, record: &Execution) -> AdmissionRules {
        match self.registry.action_in(&record.action, &record.version, &record.digest) {
            Some(active) => AdmissionRules::of(&active.action),
            None => AdmissionRules::unrestricted(&record.action),
        }
    }

    /// Follows the output of an execution; `None` when it has ended or is unknown.
    pub fn follow(self: &Arc<Self>, id: &ExecutionId) -> Option<Follow> {
        let mut tables = self.lock();
        let live = tables.live.get_mut(id)?;
        live.followers += 1;
        if live.followers == 1
            && !live.ending
            && let Err(error) = self.watcher.watch(&self.directory(id), id, WatchLevel::Output)
        {
            tracing::warn!(execution = %id, %error, "cannot watch its output; followers see it when the execution ends");
        }
        Some(Follow { exec: self.clone(), id: id.clone(), progress: live.progress.subscribe() })
    }

    /// Record of a queued execution, made from its spec.
    pub(super) fn new_record(&self, spec: &Spec) -> Execution {
        Execution {
            id: spec.id.clone(),
            instance: self.settings.instance.clone(),
            action: spec.action.clone(),
            version: spec.version.clone(),
            digest: spec.digest.clone(),
            dev: spec.dev.clone(),
            state: State::Queued,
            reason: None,
            parameters: spec.parameters.clone(),
            noop: spec.noop,
            principal: spec.principal.clone(),
            note: spec.note.clone(),
            killed_by: None,
            kill_note: None,
            run: spec.run.clone(),
            created_at_ms: spec.created_at_ms,
            started_at_ms: None,
            ended_at_ms: None,
            duration_ms: None,
            exit_status: None,
            signal: None,
            usage: None,
            stdout: None,
            stderr: None,
            leftovers: None,
            unenforced: Vec::new(),
            result: None,
            result_error: None,
            waiting: None,
            output: None,
            output_error: None,
        }
    }
}

/// Guard of a follower; output is watched until the last one is dropped.
pub struct Follow {
    exec: Arc<Exec>,
    id: ExecutionId,
    /// Changes whenever the output may have grown, and at the end.
    pub progress: channel::Receiver<Progress>,
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut tables = self.exec.lock();
        let Some(live) = tables.live.get_mut(&self.id) else { return };
        live.followers = live.followers.saturating_sub(1);
        if live.followers == 0 && !live.ending {
            // If this fails, the only cost is superfluous wake-ups.
            let _ = self.exec.watcher.watch(&self.exec.directory(&self.id), &self.id, WatchLevel::States);
        }
    }
}

//! One action on many instances, by a plan, each ending in a named state.
//!
//! ```text
//!  instances ──Plan::new──▶ batches, budget ──run──▶ Event … ──▶ Report: an Ending for every instance
//!                             │
//!                        Progress: the state machine that decides each start
//! ```
//!
//! [`plan`] is pure and decides; [`run`](run()) does what it says; the caller renders the [`Event`]s. Each start
//! carries a key made from run and instance, so that a request that broke is sent again without a second start.
//!
//! Must never: start anything after the failure budget is exceeded, start a batch before the one before it
//! has ended, or leave an instance without a named ending.

mod across;
pub mod plan;
mod run;
mod start;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{CreateExecution, Execution};
use packs_schema::base::name::{ActionRef, ExecutionId, IdempotencyKey, InstanceId, RunId};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

pub use across::across;
pub use plan::{Amount, Batch, Grouping, Plan, Strategy};
pub use run::{Stop, run};

use crate::error::Error;
use crate::inventory::Instance;

/// What is to be run everywhere.
#[derive(Clone)]
pub struct Request {
    /// The action.
    pub action: ActionRef,
    /// Its parameters, secrets included.
    pub parameters: Map<String, Value>,
    /// Only say what it would do.
    pub noop: bool,
    /// A shorter time-out than the action's, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Why, for those who read the history.
    pub note: Option<String>,
    /// How many bytes of each output stream are fetched from each instance at the end.
    pub output_limit: usize,
}

impl Request {
    /// The action without parameters, with up to 64 KiB of each output stream.
    pub fn new(action: ActionRef) -> Request {
        let parameters = Map::new();
        Request { action, parameters, noop: false, timeout_ms: None, note: None, output_limit: 64 << 10 }
    }

    fn for_instance(&self, run: &RunId, instance: &InstanceId) -> CreateExecution {
        CreateExecution {
            action: self.action.clone(),
            parameters: self.parameters.clone(),
            noop: self.noop,
            instance: Some(instance.clone()),
            run: Some(run.clone()),
            timeout_ms: self.timeout_ms,
            note: self.note.clone(),
        }
    }
}

impl std::fmt::Debug for Request {
    // Parameters may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("action", &self.action).field("noop", &self.noop).finish_non_exhaustive()
    }
}

/// A fan-out: what, where, and in which order.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What is to be run.
    pub request: Request,
    /// Where; the plan speaks of them by their place here.
    pub targets: Vec<Instance>,
    /// In which order.
    pub plan: Plan,
}

/// A new id for a fan-out: `r-` and a UUID (version 7, RFC 9562).
pub fn new_run_id() -> RunId {
    RunId::new(format!("r-{}", uuid::Uuid::now_v7())).expect("a UUID is made of allowed characters")
}

/// The key under which `run` starts its one execution on `instance`.
pub fn start_key(run: &RunId, instance: &InstanceId) -> IdempotencyKey {
    let mut hash = Sha256::new();
    hash.update(run.as_str());
    hash.update([0]);
    hash.update(instance.as_str());
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    IdempotencyKey::new(hex).expect("hexadecimal digits are allowed")
}

/// Something happened on the way. Instances are named by their place in [`Run::targets`].
#[derive(Debug, Clone)]
pub enum Event {
    /// A batch begins.
    BatchStarted {
        /// Which, from 0.
        batch: usize,
    },
    /// An instance is asked to start.
    Starting {
        /// Which instance.
        target: usize,
    },
    /// It accepted: this is the execution.
    Accepted {
        /// Which instance.
        target: usize,
        /// Its execution.
        execution: ExecutionId,
    },
    /// The connection broke, and another attempt follows.
    Retrying {
        /// Which instance.
        target: usize,
        /// What went wrong.
        problem: String,
    },
    /// An instance has ended.
    Ended {
        /// Which instance.
        target: usize,
        /// How, in a word: see [`Ending::state`].
        state: &'static str,
        /// Whether it succeeded.
        succeeded: bool,
    },
    /// More failed than the budget allows: nothing more is started.
    BudgetExceeded {
        /// How many have failed.
        failures: usize,
        /// How many may.
        budget: usize,
    },
    /// The caller asked to stop: nothing more is started.
    Stopping {
        /// Instances that are still at it.
        in_flight: usize,
    },
}

/// Output of an execution, as far as it was fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// There is more on the instance.
    pub truncated: bool,
    /// Why some of it could not be fetched.
    pub problem: Option<String>,
}

/// How an instance ended. There is no other way to end.
#[derive(Debug)]
pub enum Ending {
    /// The execution ended there, in a terminal state.
    Ended(Box<Execution>, Output),
    /// It was not reached, or contact was lost.
    Unreachable {
        /// What went wrong last.
        error: Error,
        /// The execution, when the instance had accepted one.
        execution: Option<ExecutionId>,
        /// The request may have arrived: whether something runs there is not known.
        may_run: bool,
    },
    /// The agent refused.
    Refused(Error),
    /// It was never asked.
    NotStarted,
}

impl Ending {
    /// The name of the state: a terminal execution state, an outcome of [`crate::error::Kind::outcome`] or `not_started`.
    pub fn state(&self) -> &'static str {
        match self {
            Ending::Ended(execution, _) => execution.state.as_str(),
            Ending::Unreachable { error, .. } | Ending::Refused(error) => error.kind.outcome(),
            Ending::NotStarted => "not_started",
        }
    }

    /// True if the action did there what it should.
    pub fn succeeded(&self) -> bool {
        matches!(self, Ending::Ended(execution, _) if execution.state == State::Succeeded)
    }

    /// The execution's id, when there is one.
    pub fn execution(&self) -> Option<&ExecutionId> {
        match self {
            Ending::Ended(execution, _) => Some(&execution.id),
            Ending::Unreachable { execution, .. } => execution.as_ref(),
            Ending::Refused(_) | Ending::NotStarted => None,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// One for each target, in the order of [`Run::targets`].
    pub endings: Vec<Ending>,
    /// Why it ended before all were started, if it did.
    pub stopped: Option<plan::Stopped>,
}

impl Report {
    /// True if all succeeded.
    pub fn succeeded(&self) -> bool {
        self.endings.iter().all(Ending::succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_run_on_one_instance() {
        let id = |text| InstanceId::new(text).unwrap();
        let (one, two) = (new_run_id(), new_run_id());
        assert_eq!(start_key(&one, &id("i-1")), start_key(&one, &id("i-1")));
        assert_ne!(start_key(&one, &id("i-1")), start_key(&one, &id("i-2")));
        assert_ne!(start_key(&one, &id("i-1")), start_key(&two, &id("i-1")));
    }
}

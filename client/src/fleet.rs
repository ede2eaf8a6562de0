//! Fan-out of an action over many instances, by a plan, each ending in a named state.
//!
//! ```text
//!  instances ──Plan::new──▶ batches, budget ──run──▶ Event … ──▶ Report: an Ending for every instance
//!                             │
//!                        Progress: the state machine that decides each start
//! ```
//!
//! An action that ends soon and prints little needs one request on each instance. [`Plan`] and [`Progress`] decide and do no I/O;
//! [`run`](run()) carries it out; the caller renders the [`Event`]s. Each start carries an
//! idempotency key made from run and instance, so that a request whose connection broke is repeated without a second start.
//!
//! Must never: start an execution after a budget is exceeded, start a batch before the previous one has ended, or leave
//! an instance without a named ending.

mod across;
mod check;
mod control;
mod fence;
mod outcome;
mod output;
mod plan;
mod progress;
mod run;
mod start;
mod strategy;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{CreateExecution, Execution, MAX_OUTPUT};
use packs_schema::base::name::{ActionRef, ExecutionId, IdempotencyKey, InstanceId, PackVersion, RunId};
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

pub use across::across;
pub use check::Check;
pub use control::Control;
pub use fence::Fence;
pub use outcome::{Outcome, Stopped};
pub use plan::{Batch, Plan};
pub use progress::{Before, Progress, Step};
pub use run::{Earlier, Observer, resume, run};
pub(crate) use start::{accept_on, wait_for_end};
pub use strategy::{Amount, AmountError, DEFAULT_PARALLEL, Grouping, Pause, Strategy};

use crate::error::Error;
use crate::inventory::Instance;

/// Request that each instance gets.
#[derive(Clone)]
pub struct Request {
    /// Action to run.
    pub action: ActionRef,
    /// Pack version that must be active on the instance; `None`: whichever is.
    pub version: Option<PackVersion>,
    /// Class that the action must have on the instance; `None`: any. Elsewhere nothing is started (`class_mismatch`).
    pub class: Option<Class>,
    /// Parameters, secrets included.
    pub parameters: Map<String, Value>,
    /// Dry run: report what would change.
    pub noop: bool,
    /// Time-out in milliseconds, shorter than the action's own.
    pub timeout_ms: Option<u64>,
    /// Reason for the run, kept in the history.
    pub note: Option<String>,
    /// Maximum number of bytes of each output stream that is fetched from each instance at the end.
    pub output_limit: usize,
}

impl Request {
    /// Returns a request without parameters that fetches up to 64 KiB of each output stream.
    pub fn new(action: ActionRef) -> Request {
        Request {
            action,
            version: None,
            class: None,
            parameters: Map::new(),
            noop: false,
            timeout_ms: None,
            note: None,
            output_limit: MAX_OUTPUT,
        }
    }

    fn for_instance(&self, run: &RunId, instance: &InstanceId) -> CreateExecution {
        CreateExecution {
            action: self.action.clone(),
            version: self.version.clone(),
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

/// Fan-out of one request over instances.
#[derive(Debug, Clone)]
pub struct Run {
    /// Id of the run.
    pub id: RunId,
    /// Request that each instance gets.
    pub request: Request,
    /// Instances to run on; the plan and the events name them by index.
    pub targets: Vec<Instance>,
    /// Batches and budgets.
    pub plan: Plan,
    /// Check after each batch. [`Strategy::check`] says on how many targets it may fail.
    pub check: Option<Check>,
}

impl Run {
    /// Returns the seed of the random delays: the same for the same run.
    fn seed(&self) -> u64 {
        let hash = Sha256::digest(self.id.as_str());
        u64::from_le_bytes(hash[..8].try_into().expect("a SHA-256 has 32 bytes"))
    }
}

/// Returns a new run id: `r-` and a UUID (version 7, RFC 9562).
pub fn new_run_id() -> RunId {
    RunId::new(format!("r-{}", uuid::Uuid::now_v7())).expect("a UUID is made of allowed characters")
}

/// Returns the idempotency key of the one execution that `run` starts on `instance`.
pub fn start_key(run: &RunId, instance: &InstanceId) -> IdempotencyKey {
    let mut hash = Sha256::new();
    hash.update(run.as_str());
    hash.update([0]);
    hash.update(instance.as_str());
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    IdempotencyKey::new(hex).expect("hexadecimal digits are allowed")
}

/// Progress of a run. Instances are named by their index in [`Run::targets`].
#[derive(Debug, Clone)]
pub enum Event {
    /// A batch begins.
    BatchStarted {
        /// Index of the batch.
        batch: usize,
    },
    /// An instance is asked to start.
    Starting {
        /// Index of the instance.
        target: usize,
    },
    /// The instance accepted the start.
    Accepted {
        /// Index of the instance.
        target: usize,
        /// Id of the execution.
        execution: ExecutionId,
    },
    /// The connection broke, and another attempt follows.
    Retrying {
        /// Index of the instance.
        target: usize,
        /// Error of the last attempt.
        problem: String,
    },
    /// An instance has ended.
    Ended {
        /// Index of the instance.
        target: usize,
        /// State that it ended in: see [`Ending::state`].
        state: &'static str,
        /// True if the action succeeded.
        succeeded: bool,
    },
    /// A budget is exceeded: nothing more starts.
    BudgetExceeded {
        /// Budget that is exceeded.
        stopped: Stopped,
        /// Number of instances that count against it.
        count: usize,
        /// Number of instances that it allows.
        budget: usize,
    },
    /// The check of a batch that has ended runs.
    CheckStarted {
        /// Index of the batch.
        batch: usize,
        /// Number of targets on which it runs.
        targets: usize,
    },
    /// The check of a batch has ended.
    CheckEnded {
        /// Index of the batch.
        batch: usize,
        /// Targets on which it has not succeeded, with the state in which it ended.
        failed: Vec<(usize, &'static str)>,
        /// True if the run goes on.
        has_passed: bool,
    },
    /// The next batch begins after a pause.
    Pausing {
        /// Time until it begins.
        time: std::time::Duration,
    },
    /// This batch begins when [`Control::confirm`] is called.
    Confirm {
        /// Index of the batch.
        batch: usize,
    },
    /// The caller asked to stop: nothing more starts.
    Stopping {
        /// Number of instances whose executions go on.
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
    /// True if the instance has more of it.
    pub truncated: bool,
    /// Error because of which some of it was not fetched.
    pub problem: Option<String>,
}

/// End of a run on one instance.
#[derive(Debug)]
pub enum Ending {
    /// The execution ended, in a terminal state.
    Ended(Box<Execution>, Output),
    /// The instance was not reached, or contact was lost.
    Unreachable {
        /// Last error.
        error: Error,
        /// Execution that the instance had accepted, if any.
        execution: Option<ExecutionId>,
        /// True if the request may have arrived: an execution may run there.
        may_run: bool,
    },
    /// The agent refused, or the wanted version is not active there.
    Refused(Error),
    /// The instance was not asked.
    NotStarted,
}

impl Ending {
    /// Returns a terminal execution state, an outcome of [`crate::error::Kind::outcome`] or `not_started`.
    pub fn state(&self) -> &'static str {
        match self {
            Ending::Ended(execution, _) => execution.state.as_str(),
            Ending::Unreachable { error, .. } | Ending::Refused(error) => error.kind.outcome(),
            Ending::NotStarted => "not_started",
        }
    }

    /// True if the execution succeeded.
    pub fn succeeded(&self) -> bool {
        matches!(self, Ending::Ended(execution, _) if execution.state == State::Succeeded)
    }

    /// Returns how this ending counts against the budgets. Contact that was lost after the action may have started is a failure:
    /// the action may be the cause.
    pub fn outcome(&self) -> Outcome {
        match self {
            ending if ending.succeeded() => Outcome::Succeeded,
            Ending::Unreachable { may_run: false, .. } => Outcome::Unreachable,
            _ => Outcome::Failed,
        }
    }

    /// Returns the execution's id, if there is one.
    pub fn execution(&self) -> Option<&ExecutionId> {
        match self {
            Ending::Ended(execution, _) => Some(&execution.id),
            Ending::Unreachable { execution, .. } => execution.as_ref(),
            Ending::Refused(_) | Ending::NotStarted => None,
        }
    }
}

/// End of a run.
#[derive(Debug)]
pub struct Report {
    /// Ending of each target, in the order of [`Run::targets`].
    pub endings: Vec<Ending>,
    /// Reason why not all were started.
    pub stopped: Option<Stopped>,
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

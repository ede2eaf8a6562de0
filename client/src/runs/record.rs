//! Format of the record of a run. Other versions of bolt read it: each part holds its format, unknown fields are ignored, and
//! a part of a later format is refused.

use std::time::Duration;

use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, ExecutionId, PackVersion, RunId};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fleet::{self, Check, Ending, Request, Run, Stopped};
use crate::inventory::{Address, Instance};

/// Format that this code writes.
pub const FORMAT: u64 = 1;

/// Summary of a run, for lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u64,
    /// Id of the run.
    pub run: RunId,
    /// Time at which it was planned, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Version of bolt that planned it.
    pub client: String,
    /// Principal that began it: only the same one may ask an instance again to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Action.
    pub action: ActionRef,
    /// Pack version that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
    /// True for a dry run.
    #[serde(default)]
    pub noop: bool,
    /// Class of the action.
    pub class: Class,
    /// Reason for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Number of instances.
    pub targets: usize,
}

/// Request, instances and strategy of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u64,
    /// Request that each instance gets.
    pub request: StoredRequest,
    /// Check after each batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<StoredCheck>,
    /// Instances, in the order by which batches and entries name them.
    pub targets: Vec<StoredTarget>,
    /// Batches and strategy.
    pub plan: fleet::Plan,
}

/// Request without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredRequest {
    action: ActionRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<PackVersion>,
    /// Parameters that are not secret.
    parameters: Map<String, Value>,
    /// Names of the secret parameters that were given: a client that resumes the run has to give them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) secrets: Vec<String>,
    /// Class that the action must have on the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(default)]
    noop: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    output_limit: usize,
}

/// Check after each batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredCheck {
    request: StoredRequest,
    within_ms: u64,
}

/// Instance of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredTarget {
    facts: Facts,
    address: Address,
}

/// Step of the progress of a run. Instances are named by their index in [`Plan::targets`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The instance is asked to start.
    Starting {
        /// Index of the instance.
        target: usize,
    },
    /// The instance has ended.
    Ended {
        /// Index of the instance.
        target: usize,
        /// How it ended.
        ending: Box<StoredEnding>,
    },
    /// The check after a batch has passed.
    Checked {
        /// Index of the batch.
        batch: usize,
    },
    /// A client has carried out the run to its end, or to where it was stopped.
    Done {
        /// Time, in milliseconds since 1970.
        at_ms: u64,
        /// Reason why not all instances were started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stopped: Option<Stopped>,
    },
    /// Another client goes on with the run.
    Resumed {
        /// Time, in milliseconds since 1970.
        at_ms: u64,
        /// Principal of that client, which asks instances to start from here on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        principal: Option<String>,
    },
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredEnding {
    /// The execution ended.
    Ended {
        /// Record of the instance. Its output stays on the instance.
        execution: Box<Execution>,
    },
    /// The instance was not reached, or contact was lost.
    Unreachable {
        /// Outcome, such as `unreachable`.
        outcome: String,
        /// Error.
        message: String,
        /// Execution that the instance had accepted, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution: Option<ExecutionId>,
        /// True if an execution may run there.
        #[serde(default)]
        may_run: bool,
    },
    /// The agent refused.
    Refused {
        /// Outcome, such as `busy`.
        outcome: String,
        /// Error.
        message: String,
    },
}

impl StoredEnding {
    /// Returns what is recorded of `ending`; `None` for an instance that was not asked.
    pub(super) fn of(ending: &Ending) -> Option<StoredEnding> {
        let message = |kind: &crate::error::Kind| kind.to_string().chars().take(1000).collect();
        Some(match ending {
            Ending::Ended(execution, _) => StoredEnding::Ended { execution: execution.clone() },
            Ending::Unreachable { error, execution, may_run } => StoredEnding::Unreachable {
                outcome: error.kind.outcome().to_owned(),
                message: message(&error.kind),
                execution: execution.clone(),
                may_run: *may_run,
            },
            Ending::Refused(error) => {
                StoredEnding::Refused { outcome: error.kind.outcome().to_owned(), message: message(&error.kind) }
            }
            Ending::NotStarted => return None,
        })
    }

    /// Returns the error of an instance that has no execution.
    pub fn message(&self) -> Option<&str> {
        match self {
            StoredEnding::Ended { .. } => None,
            StoredEnding::Unreachable { message, .. } | StoredEnding::Refused { message, .. } => Some(message),
        }
    }

    /// Returns a terminal execution state or an outcome, as [`Ending::state`] does.
    pub fn state(&self) -> &str {
        match self {
            StoredEnding::Ended { execution } => execution.state.as_str(),
            StoredEnding::Unreachable { outcome, .. } | StoredEnding::Refused { outcome, .. } => outcome,
        }
    }
}

impl Head {
    /// Returns the head of a run that `principal` plans at `created_at_ms`.
    pub fn new(run: &Run, class: Class, principal: Option<&str>, created_at_ms: u64) -> Head {
        Head {
            format: FORMAT,
            run: run.id.clone(),
            created_at_ms,
            client: env!("CARGO_PKG_VERSION").to_owned(),
            principal: principal.map(str::to_owned),
            action: run.request.action.clone(),
            version: run.request.version.clone(),
            noop: run.request.noop,
            class,
            note: run.request.note.clone(),
            targets: run.targets.len(),
        }
    }
}

impl Plan {
    /// Returns the record of `run`. `is_secret` tells which parameters of the action are secret, and of the check.
    pub fn new(run: &Run, is_secret: impl Fn(&ActionRef, &str) -> bool) -> Plan {
        let target = |i: &Instance| StoredTarget { facts: i.facts.clone(), address: i.address.clone() };
        let check = run.check.as_ref().map(|check| StoredCheck {
            request: StoredRequest::new(&check.request, &is_secret),
            within_ms: u64::try_from(check.within.as_millis()).unwrap_or(u64::MAX),
        });
        Plan {
            format: FORMAT,
            request: StoredRequest::new(&run.request, &is_secret),
            check,
            targets: run.targets.iter().map(target).collect(),
            plan: run.plan.clone(),
        }
    }

    /// Returns the instances.
    pub fn instances(&self) -> Vec<Instance> {
        let instance =
            |target: &StoredTarget| Instance { facts: target.facts.clone(), address: target.address.clone() };
        self.targets.iter().map(instance).collect()
    }

    /// Returns the names of the secret parameters that have to be given again.
    pub fn secrets(&self) -> &[String] {
        &self.request.secrets
    }

    /// Returns the run `id` as it was planned. `secrets` are the values of [`Plan::secrets`].
    pub(super) fn run(&self, id: RunId, secrets: Map<String, Value>) -> Run {
        let check = self.check.as_ref().map(|check| Check {
            request: check.request.request(Map::new()),
            within: Duration::from_millis(check.within_ms),
        });
        let (request, targets, plan) = (self.request.request(secrets), self.instances(), self.plan.clone());
        Run { id, request, targets, plan, check }
    }
}

impl StoredRequest {
    fn new(request: &Request, is_secret: &impl Fn(&ActionRef, &str) -> bool) -> StoredRequest {
        let secret = |name: &str| is_secret(&request.action, name);
        let open = |(name, value): (&String, &Value)| (!secret(name)).then(|| (name.clone(), value.clone()));
        StoredRequest {
            action: request.action.clone(),
            version: request.version.clone(),
            parameters: request.parameters.iter().filter_map(open).collect(),
            secrets: request.parameters.keys().filter(|name| secret(name)).cloned().collect(),
            class: request.class,
            noop: request.noop,
            timeout_ms: request.timeout_ms,
            note: request.note.clone(),
            output_limit: request.output_limit,
        }
    }

    fn request(&self, secrets: Map<String, Value>) -> Request {
        let mut parameters = self.parameters.clone();
        parameters.extend(secrets);
        Request {
            version: self.version.clone(),
            class: self.class,
            parameters,
            noop: self.noop,
            timeout_ms: self.timeout_ms,
            note: self.note.clone(),
            output_limit: self.output_limit,
            ..Request::new(self.action.clone())
        }
    }
}

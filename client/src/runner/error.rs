//! Errors before a run begins. The command adds its flags and hints to them, other programs theirs.

use std::time::Duration;

use packs_schema::base::name::{ActionRef, RunId};
use packs_schema::base::quantity::format_duration;
use packs_schema::pack::action::Class;
use packs_schema::pack::param::bind::ParamError;

use crate::error::Error;
use crate::runs::{ResumeError, StoreError};
use crate::show;

/// Error returned when a run cannot begin; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The order does not fit the action.
    #[error("cannot run {action}: {}", joined(problems))]
    Request {
        /// Action.
        action: ActionRef,
        /// Everything that is wrong; at least one.
        problems: Vec<Problem>,
    },
    /// The check does not fit its action.
    #[error("cannot check with {action}: {}", joined(problems))]
    Check {
        /// Action of the check.
        action: ActionRef,
        /// Everything that is wrong; at least one.
        problems: Vec<Problem>,
    },
    /// The action of the check may change instances.
    #[error("cannot check with {action}, which is a {class}: a check may run more than once and must change nothing")]
    CheckClass {
        /// Action of the check.
        action: ActionRef,
        /// Its class.
        class: Class,
    },
    /// The canary would be the whole run.
    #[error("a canary of {canary} is not smaller than the run: {} chosen", are(*targets))]
    Canary {
        /// Size of the canary.
        canary: usize,
        /// Number of instances.
        targets: usize,
    },
    /// No instance has the action, or shows it to the caller.
    #[error("no instance has an action {action} that the caller may see")]
    UnknownAction {
        /// Action.
        action: ActionRef,
        /// Actions of an instance that was asked.
        known: Vec<ActionRef>,
    },
    /// No instance described the action.
    #[error("no instance described {action}: {}", first(failed))]
    NoDefinition {
        /// Action.
        action: ActionRef,
        /// Errors of the instances that were asked, in the order of the instances; the first that refused leads. Empty if all of
        /// them answered about another action.
        failed: Vec<Error>,
    },
    /// The record of runs failed before the run began.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run cannot be recorded.
    #[error("the run cannot be recorded, and nothing was started: {0}")]
    Unrecordable(#[source] StoreError),
    /// The recorded run cannot be taken over.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// Parameters were given for a recorded run without secrets.
    #[error("run {0} has no secret parameters: its parameters are recorded")]
    NoSecrets(RunId),
    /// A recorded run has no instance to repeat it on.
    #[error("run {0} failed on no instance")]
    NothingToRetry(RunId),
}

/// Reason why an action cannot be run as ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The action is disabled.
    #[error("it is disabled")]
    Disabled,
    /// A dry run of a diagnostic.
    #[error("it is a diagnostic and changes nothing: it needs no dry run")]
    ChangesNothing,
    /// The action does not support dry runs.
    #[error("it does not support dry runs: it would make its changes")]
    NoDryRun,
    /// The time-out is not within that of the action.
    #[error("a time-out of {} must be above 0s and at most the action's own, {}", format_duration(*given), format_duration(*most))]
    Timeout {
        /// Time-out that was given.
        given: Duration,
        /// Time-out of the action.
        most: Duration,
    },
    /// A check takes no secrets: it may run at any time, also when the run is resumed.
    #[error("a check takes no secret parameters")]
    SecretInCheck,
    /// A parameter is wrong.
    #[error("{}", show::visible(&.0.to_string()))]
    Parameter(ParamError),
}

fn joined(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

fn are(targets: usize) -> String {
    if targets == 1 { "1 instance is".to_owned() } else { format!("{targets} instances are") }
}

fn first(failed: &[Error]) -> String {
    match failed {
        [] => "the instances answered about another action than was asked for".to_owned(),
        [one] => one.to_string(),
        [one, others @ ..] => format!("{one} (and {} more)", show::counted(others.len(), "instance")),
    }
}

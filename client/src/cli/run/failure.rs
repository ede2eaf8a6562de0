//! Errors of a run that did not begin, as failures of the command: with its flags, and what to do.

use packs_schema::base::name::ActionRef;
use packs_schema::base::quantity::format_duration;

use crate::cli::actions;
use crate::cli::context::none_answered;
use crate::cli::failure::{Exit, Failure};
use crate::cli::run_store;
use crate::runner::{Problem, RunError};
use crate::runs::{ResumeError, StoreError};

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        match &error {
            RunError::Request { action, problems } => request(action, problems),
            RunError::Check { action, problems } => {
                let message = format!("cannot run --check {action}:\n  {}", described(problems));
                Failure::new(Exit::Usage, message).hint(format!("`bolt actions {action}` shows its parameters"))
            }
            RunError::CheckClass { action, class } => {
                let message =
                    format!("--check {action} is a {class}: a check may run more than once and must change nothing");
                Failure::new(Exit::Usage, message).hint("`bolt actions` lists the diagnostics")
            }
            RunError::Canary { canary, targets } => {
                let chosen =
                    if *targets == 1 { "1 instance is".to_owned() } else { format!("{targets} instances are") };
                let message = format!("--canary {canary} is not smaller than the run: {chosen} chosen");
                Failure::new(Exit::Usage, message).hint("give a smaller --canary, or leave it out")
            }
            RunError::UnknownAction { action, known } => actions::unknown(action, known.iter()),
            RunError::NoDefinition { failed, .. } => match failed.first() {
                Some(first) => none_answered(failed, first),
                None => {
                    Failure::new(Exit::Unreachable, "the instances answered about another action than was asked for")
                }
            },
            RunError::Store(StoreError::Exists(id)) => {
                Failure::new(Exit::Usage, error.to_string()).hint(format!("go on with it: bolt resume {id}"))
            }
            RunError::Unrecordable(_) => Failure::new(Exit::Storage, error.to_string())
                .hint("make room, or add --unrecorded: then it cannot be resumed"),
            RunError::Resume(ResumeError::Secrets { .. }) => {
                Failure::new(Exit::Usage, error.to_string()).hint("give each as NAME=@FILE, or all in --params-file")
            }
            RunError::Resume(ResumeError::Damaged { .. }) => Failure::new(Exit::Usage, error.to_string()),
            RunError::NoSecrets(_) => Failure::new(Exit::Usage, error.to_string()).hint("leave out the parameters"),
            RunError::NothingToRetry(_) => Failure::new(Exit::Usage, error.to_string()).hint(
                "--unreachable repeats it on instances that were not reached, --not-started where it did not begin",
            ),
            RunError::Store(store) => run_store::failure(store),
        }
    }
}

fn request(action: &ActionRef, problems: &[Problem]) -> Failure {
    let is_parameter = |problem: &Problem| matches!(problem, Problem::Parameter(_));
    let what = if problems.iter().all(is_parameter) { "wrong parameters for" } else { "cannot run" };
    let message = format!("{what} {action}:\n  {}", described(problems));
    Failure::new(Exit::Usage, message).hint(format!("`bolt actions {action}` shows its parameters"))
}

fn described(problems: &[Problem]) -> String {
    problems.iter().map(describe).collect::<Vec<_>>().join("\n  ")
}

fn describe(problem: &Problem) -> String {
    match problem {
        Problem::ChangesNothing => "it is a diagnostic and changes nothing: leave out --noop".to_owned(),
        Problem::NoDryRun => "it does not support dry runs (--noop): it would make its changes".to_owned(),
        Problem::Timeout { given, most } => format!(
            "--timeout {} must be above 0s and at most the action's own time-out, {}",
            format_duration(*given),
            format_duration(*most)
        ),
        Problem::Disabled | Problem::SecretInCheck | Problem::Parameter(_) => problem.to_string(),
    }
}

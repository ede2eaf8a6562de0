//! Takes over a recorded run.

use packs_schema::agent::execution::State;
use serde_json::{Map, Value};

use super::StoredRun;
use super::record::{Entry, StoredEnding};
use crate::error::{Error, Kind};
use crate::fleet::{Before, Earlier, Ending, Outcome, Output, Run, Stopped};
use crate::inventory::Instance;

/// Run that is taken over.
#[derive(Debug)]
pub struct TakenOver {
    /// The run as it was planned.
    pub run: Run,
    /// Part of it that has been done.
    pub earlier: Earlier,
    /// Reason why the run was stopped, if a client came to that point.
    pub stopped: Option<Stopped>,
    /// Number of instances that another principal has asked to start, with no known end. They are not asked again.
    pub others: usize,
}

/// Error returned when a run cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Secrets are missing, or others were given.
    #[error("run {run} was started with the secret parameters {wanted}: give exactly these again")]
    Secrets {
        /// Id of the run.
        run: String,
        /// Names of the parameters.
        wanted: String,
    },
    /// The record contradicts itself.
    #[error("the record of run {run} contradicts itself: {problem}")]
    Damaged {
        /// Id of the run.
        run: String,
        /// Description of the problem.
        problem: String,
    },
}

/// Returns the run as `principal` is to carry it on. `secrets` are the secret parameters, which the record does not hold.
///
/// An instance that was lost while an execution may have run there is asked again: it answers with that execution. An agent knows
/// a start by its key and its caller, so that a start of another principal is left as it is.
pub fn take_over(
    stored: &StoredRun,
    secrets: Map<String, Value>,
    principal: Option<&str>,
) -> Result<TakenOver, ResumeError> {
    let id = &stored.head.run;
    let mut given: Vec<&String> = secrets.keys().collect();
    let mut wanted: Vec<&String> = stored.plan.secrets().iter().collect();
    given.sort();
    wanted.sort();
    if given != wanted {
        let wanted = stored.plan.secrets().join(", ");
        return Err(ResumeError::Secrets { run: id.to_string(), wanted });
    }
    let run = stored.plan.run(id.clone(), secrets);
    let damaged = |problem: &str| ResumeError::Damaged { run: id.to_string(), problem: problem.to_owned() };
    let count = run.targets.len();
    let mut named: Vec<usize> = run.plan.batches().iter().flat_map(|batch| batch.targets.iter().copied()).collect();
    named.sort_unstable();
    // Each once: an instance in two batches would be asked twice, and another one never.
    if run.plan.targets() != count || !named.into_iter().eq(0..count) {
        return Err(damaged("its batches name other instances than its list"));
    }
    let batches = run.plan.batches().len();
    let mut taken = TakenOver {
        earlier: Earlier {
            before: vec![Before::Untouched; count],
            endings: (0..count).map(|_| None).collect(),
            checked: 0,
        },
        stopped: None,
        others: 0,
        run,
    };
    // Older versions record no principal: their runs are taken for one's own.
    let mut by = stored.head.principal.as_deref();
    let mut asked_by = vec![None; count];
    let earlier = &mut taken.earlier;
    for entry in &stored.entries {
        match entry {
            Entry::Starting { target } | Entry::Ended { target, .. } if *target >= count => {
                return Err(damaged("its progress names an instance that is not in its list"));
            }
            Entry::Starting { target } => {
                asked_by[*target] = by;
                // If it is asked again after contact was lost, the execution that it had accepted may still run.
                earlier.before[*target] = Before::Started;
                earlier.endings[*target].take_if(|ending| !matches!(ending, Ending::Unreachable { may_run: true, .. }));
            }
            Entry::Ended { target, ending } => {
                let ending = restore(&taken.run.targets[*target], ending);
                earlier.before[*target] = match &ending {
                    Ending::Unreachable { may_run: true, .. } => Before::Started,
                    _ => Before::Ended(ending.outcome()),
                };
                earlier.endings[*target] = Some(ending);
            }
            Entry::Checked { batch } if *batch >= batches => {
                return Err(damaged("its progress names a batch that is not in its plan"));
            }
            Entry::Checked { batch } => earlier.checked = earlier.checked.max(batch + 1),
            Entry::Done { stopped, .. } => taken.stopped = *stopped,
            Entry::Resumed { principal, .. } => {
                taken.stopped = None;
                by = principal.as_deref();
            }
        }
    }
    for (target, asked_by) in asked_by.into_iter().enumerate() {
        let Some(other) = asked_by.filter(|by| principal != Some(by)) else { continue };
        if earlier.before[target] == Before::Started {
            taken.others += 1;
            earlier.before[target] = Before::Ended(Outcome::Unreachable);
            earlier.endings[target].get_or_insert_with(|| undecided(&taken.run.targets[target], other));
        }
    }
    Ok(taken)
}

/// Returns the ending of an instance that `other` has asked to start.
fn undecided(instance: &Instance, other: &str) -> Ending {
    let message = format!("{other} asked it to start, and its answer is not known: that principal can ask again");
    Ending::Unreachable { error: recorded(instance, "unknown", &message), execution: None, may_run: true }
}

/// Returns the ending that was recorded.
fn restore(instance: &Instance, stored: &StoredEnding) -> Ending {
    let error = |outcome: &str, message: &str| recorded(instance, outcome, message);
    match stored {
        StoredEnding::Ended { execution } => {
            let has_output = |totals: Option<packs_schema::agent::execution::StreamTotals>| {
                execution.state != State::Expired && totals.is_some_and(|totals| totals.written_bytes > 0)
            };
            let problem = (has_output(execution.stdout) || has_output(execution.stderr))
                .then(|| format!("it ended before this command began: `bolt logs {}` prints it", execution.id));
            Ending::Ended(execution.clone(), Output { problem, ..Output::default() })
        }
        StoredEnding::Unreachable { outcome, message, execution, may_run } => {
            Ending::Unreachable { error: error(outcome, message), execution: execution.clone(), may_run: *may_run }
        }
        StoredEnding::Refused { outcome, message } => Ending::Refused(error(outcome, message)),
    }
}

fn recorded(instance: &Instance, outcome: &str, message: &str) -> Error {
    Error {
        instance: instance.id().clone(),
        address: instance.address.to_string(),
        kind: Kind::recorded(outcome, message),
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;

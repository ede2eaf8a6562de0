//! A run from its order to its report, for the command and for other programs: prints nothing and needs no terminal.
//!
//! ```text
//!  Order ──prepare──▶ Prepared: definition, checked parameters, plan ──(the caller confirms)──▶ Job::record ──▶ Job
//!  run id ──retry──▶ Prepared        run id ──resume──▶ Job           Job ──carry_out──▶ Report, without secret values
//! ```
//!
//! Before [`carry_out`] only reads are sent.
//!
//! Must never: start an execution before the plan is recorded (unless the caller wants no record), or record or return a
//! secret value that was given.

mod again;
mod choice;
mod definition;
mod error;
mod input;
mod job;
mod kill;
mod mask;

use std::time::Duration;

use packs_schema::agent::rest::ActionView;
use packs_schema::base::name::{ActionRef, PackVersion, RunId};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::{Action, Class};
use packs_schema::pack::param::bind::bind;
use serde_json::{Map, Value};

pub use again::{Resumable, Retried, resumable, retry};
pub use choice::{of_run, still_there, store};
pub use error::{Problem, RunError};
pub use input::{Input, Read, Values};
pub use job::{Job, View, Work, carry_out, close};
pub use kill::{kill, unended};
pub use mask::{mask_ending, mask_error, mask_execution, mask_report};

use crate::connection::max_open;
use crate::definitions::Definitions;
use crate::fleet::{self, Amount, Check, Plan, Request, Run, Strategy};
use crate::inventory::Instance;
use crate::parameters;
use crate::show::Mask;
use crate::tls::Identity;

/// Maximum number of bytes of each output stream that is fetched from each instance.
const OUTPUT_LIMIT: usize = 256 << 10;
/// The same for runs on more than a thousand instances.
const OUTPUT_LIMIT_MANY: usize = 8 << 10;

/// Run that a caller asks for; its parameters come from an [`Input`].
#[derive(Debug, Clone)]
pub struct Order {
    /// Action to run.
    pub action: ActionRef,
    /// Pack version that must be active on an instance; `None`: whichever is.
    pub version: Option<PackVersion>,
    /// Dry run: report what would change.
    pub noop: bool,
    /// Reason for the run, kept in the history of each instance.
    pub note: Option<String>,
    /// Time-out of each execution; `None`: the action's own.
    pub timeout: Option<Duration>,
    /// Id of the run; `None`: a new one.
    pub run_id: Option<RunId>,
    /// Order of the instances, and limits. [`Order::max_unreachable`] and [`Order::check`] replace its fields of these names.
    pub strategy: Strategy,
    /// Number of instances that may be unreachable; `None`: all in a run that changes nothing, otherwise none.
    pub max_unreachable: Option<Amount>,
    /// Check after each batch.
    pub check: Option<CheckOrder>,
}

/// Check that runs after each batch.
#[derive(Debug, Clone)]
pub struct CheckOrder {
    /// Diagnostic to run.
    pub action: ActionRef,
    /// Pack version that must be active on an instance; `None`: whichever is.
    pub version: Option<PackVersion>,
    /// Time for which it is repeated where it fails.
    pub within: Duration,
    /// Number of instances of a batch on which it may fail.
    pub max_failures: Amount,
}

/// Run that is planned and checked. Nothing is started or recorded.
pub struct Prepared {
    /// The run.
    pub run: Run,
    /// Definition of its action.
    pub view: ActionView,
    /// Masks the secret parameters.
    pub mask: Mask,
    /// Name by which agents know this client; `None` if its certificate has none.
    pub principal: Option<String>,
}

impl Prepared {
    /// True if the run may change instances: the caller confirms it before it is carried out.
    pub fn changes(&self) -> bool {
        changes(self.view.action.class, self.run.request.noop)
    }
}

/// Plans a run on `targets`, and checks all that was given against the definition of the action.
pub async fn prepare<I: Input>(
    order: &Order,
    targets: Vec<Instance>,
    identity: &Identity,
    definitions: &mut Definitions,
    input: &mut I,
) -> Result<Prepared, I::Error> {
    let Order { action: name, version, noop, .. } = order;
    check_canary(order.strategy.canary, targets.len())?;
    let (view, parameters) = definition::find(order, &targets, identity, definitions, input).await?;
    let action = &view.action;
    let mask = Mask::of_parameters(&action.parameters, &parameters);
    let check = match &order.check {
        Some(check) => Some(prepare_check(check, &targets, identity, input).await?),
        None => None,
    };
    // An instance that is down is no reason to stop looking at others. Before changing more of them it may be one: its
    // group may have lost redundancy.
    let default = if changes(action.class, *noop) { Amount::Count(0) } else { Amount::Percent(100) };
    let strategy = Strategy {
        max_unreachable: order.max_unreachable.unwrap_or(default),
        check: order.check.as_ref().map(|check| check.max_failures),
        parallel: order.strategy.parallel.min(max_open()),
        ..order.strategy
    };
    let facts: Vec<&Facts> = targets.iter().map(|target| &target.facts).collect();
    let plan = Plan::new(&facts, &strategy);
    let request = Request {
        action: name.clone(),
        version: version.clone(),
        // A run that was not confirmed must not change an instance that has another version.
        class: (action.class == Class::Diagnostic && !noop).then_some(action.class),
        parameters,
        noop: *noop,
        timeout_ms: order.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        note: order.note.clone(),
        output_limit: output_limit(targets.len()),
    };
    let run = Run { id: order.run_id.clone().unwrap_or_else(fleet::new_run_id), request, targets, plan, check };
    Ok(Prepared { run, view, mask, principal: identity.principal().map(str::to_owned) })
}

/// Returns the number of bytes of each output stream that the report of a run on `targets` instances holds of each.
pub fn output_limit(targets: usize) -> usize {
    if targets > 1000 { OUTPUT_LIMIT_MANY } else { OUTPUT_LIMIT }
}

fn changes(class: Class, noop: bool) -> bool {
    class != Class::Diagnostic && !noop
}

/// Fails if the canary would be all of a run of several instances: it would try nothing before the others. A run of one is
/// its own canary.
fn check_canary(canary: usize, targets: usize) -> Result<(), RunError> {
    if canary < targets.max(1) || targets <= 1 { Ok(()) } else { Err(RunError::Canary { canary, targets }) }
}

/// Returns the parameters, or everything that is wrong with the order.
async fn check_request<I: Input>(
    order: &Order,
    view: &ActionView,
    input: &mut I,
) -> Result<Map<String, Value>, I::Error> {
    let action = &view.action;
    let mut problems = Vec::new();
    if !action.enabled {
        problems.push(Problem::Disabled);
    }
    if order.noop && !action.noop {
        problems.push(if action.class == Class::Diagnostic { Problem::ChangesNothing } else { Problem::NoDryRun });
    }
    if let Some(given) = order.timeout
        && (given > action.timeout() || given.is_zero())
    {
        problems.push(Problem::Timeout { given, most: action.timeout() });
    }
    let Read { values, unread } = input.parameters(view).await?;
    let errors = parameters::errors(&action.parameters, &values, &unread);
    problems.extend(errors.into_iter().map(Problem::Parameter));
    if problems.is_empty() {
        return Ok(values);
    }
    Err(RunError::Request { action: order.action.clone(), problems }.into())
}

/// Returns the check, or everything that is wrong with it.
async fn prepare_check<I: Input>(
    check: &CheckOrder,
    targets: &[Instance],
    identity: &Identity,
    input: &mut I,
) -> Result<Check, I::Error> {
    let CheckOrder { action: name, version, within, .. } = check;
    let ActionView { action, .. } = definition::ask(name, version.as_ref(), targets, identity).await?;
    if action.class != Class::Diagnostic {
        return Err(RunError::CheckClass { action: name.clone(), class: action.class }.into());
    }
    let Read { values, unread } = input.check_parameters(&action)?;
    let problems = check_problems(&action, &values, &unread);
    if !problems.is_empty() {
        return Err(RunError::Check { action: name.clone(), problems }.into());
    }
    let (version, class) = (version.clone(), Some(action.class));
    let request = Request { version, class, parameters: values, ..Request::new(name.clone()) };
    Ok(Check { request, within: *within })
}

fn check_problems(
    action: &Action,
    values: &Map<String, Value>,
    unread: &[packs_schema::pack::param::bind::ParamError],
) -> Vec<Problem> {
    let mut problems: Vec<Problem> =
        parameters::errors(&action.parameters, values, unread).into_iter().map(Problem::Parameter).collect();
    if !action.enabled {
        problems.push(Problem::Disabled);
    }
    // Parameters that cannot be bound were reported above.
    let is_bound = bind(&action.parameters, values).is_ok();
    if is_bound && !parameters::secret_names(&action.parameters, values).is_empty() {
        problems.push(Problem::SecretInCheck);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_smaller_than_the_run() {
        for (canary, targets) in [(0, 1), (5, 6), (1, 1), (3, 1)] {
            assert!(check_canary(canary, targets).is_ok(), "{canary} of {targets}");
        }
        for (canary, targets) in [(6, 6), (20, 6), (2, 2)] {
            let error = check_canary(canary, targets).unwrap_err().to_string();
            assert!(error.starts_with(&format!("a canary of {canary} is not smaller")), "{error}");
        }
    }
}

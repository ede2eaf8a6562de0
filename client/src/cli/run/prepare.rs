//! Before a run: the action's schema, the check of all that was given, and the confirmation. Nothing but reads is sent.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use packs_schema::agent::rest::{ActionView, Code};
use packs_schema::base::name::ActionRef;
use packs_schema::base::quantity::format_duration;
use packs_schema::pack::action::{Action, Class};
use serde_json::{Map, Value};

use super::args::{RunCommand, Wanted};
use super::params;
use crate::cli::context::none_answered;
use crate::cli::failure::{Exit, Failure};
use crate::cli::{actions, terminal};
use crate::connection::Agent;
use crate::error::{Error, Kind};
use crate::fleet::{Plan, across};
use crate::inventory::Instance;
use crate::tls::Identity;
use crate::{err, parameters, show};

/// Number of instances that are asked for the action's schema at once.
const SCHEMA_TRIES: usize = 8;
/// Maximum number that are asked before none of them counts as reachable.
const SCHEMA_MOST: usize = 64;
/// Maximum number of batches that the plan lists.
const BATCHES_LISTED: usize = 20;

/// Returns the action as the first instance has it that answers; with a version, the first that has this one active, else
/// any.
pub(super) async fn schema(wanted: &Wanted, targets: &[Instance], identity: &Identity) -> Result<ActionView, Failure> {
    let Wanted { action, version } = wanted;
    let mut failed: Vec<Error> = Vec::new();
    let mut other = None;
    for some in targets[..targets.len().min(SCHEMA_MOST)].chunks(SCHEMA_TRIES) {
        // The first answer is enough: an instance that hangs delays nothing.
        let mut answers: FuturesUnordered<_> =
            some.iter().map(|instance| async move { Agent::new(instance, identity).action(action).await }).collect();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(view) if view.action.reference() != *action => {}
                Ok(view) if version.as_ref().is_none_or(|version| *version == view.version) => return Ok(view),
                Ok(view) => other = other.or(Some(view)),
                Err(error) => failed.push(error),
            }
        }
    }
    if let Some(view) = other {
        return Ok(view);
    }
    // In the order of the instances, whichever answered first.
    failed.sort_by_key(|error| targets.iter().position(|target| *target.id() == error.instance));
    let is_missing = |error: &&Error| matches!(&error.kind, Kind::Problem(p) if matches!(p.code, Code::UnknownAction | Code::UnknownPack | Code::NotFound));
    if let Some(error) = failed.iter().find(is_missing) {
        let there: Vec<Instance> = targets.iter().filter(|t| *t.id() == error.instance).cloned().collect();
        let answers = across(&there, identity, 1, async |agent| agent.actions().await).await;
        let known: Vec<ActionRef> =
            answers.into_iter().filter_map(|(_, a)| a.ok()).flatten().map(|view| view.action.reference()).collect();
        return Err(actions::unknown(action, known.iter()));
    }
    Err(match failed.iter().find(|error| error.kind.is_refusal()).or(failed.first()) {
        Some(first) => none_answered(&failed, first),
        None => Failure::new(Exit::Unreachable, "the instances answered about another action than was asked for"),
    })
}

/// Returns the parameters, or everything that is wrong with the request at once, before anything is sent.
pub(super) async fn check(
    command: &RunCommand,
    action: &Action,
    input: &mut params::Input,
) -> Result<Map<String, Value>, Failure> {
    let name = &command.action.action;
    let mut problems = Vec::new();
    if !action.enabled {
        problems.push("it is disabled".to_owned());
    }
    if command.noop && action.class == Class::Diagnostic && !action.noop {
        problems.push("it is a diagnostic and changes nothing: leave out --noop".to_owned());
    } else if command.noop && !action.noop {
        problems.push("it does not support dry runs (--noop): it would make its changes".to_owned());
    }
    if let Some(timeout) = command.timeout
        && (timeout > action.timeout() || timeout.is_zero())
    {
        let most = format_duration(action.timeout());
        problems.push(format!(
            "--timeout {} must be above 0s and at most the action's own time-out, {most}",
            format_duration(timeout)
        ));
    }
    let (mut given, unread) = params::collect(&command.parameters, input, &action.parameters)?;
    params::ask_for_secrets(&action.parameters, &mut given, input).await?;
    let errors = parameters::errors(&action.parameters, &given, &unread);
    problems.extend(errors.iter().map(|error| show::visible(&error.to_string())));
    if problems.is_empty() {
        return Ok(given);
    }
    let what = if problems.len() == errors.len() { "wrong parameters for" } else { "cannot run" };
    let message = format!("{what} {name}:\n  {}", problems.join("\n  "));
    Err(Failure::new(Exit::Usage, message).hint(format!("`bolt actions {name}` shows its parameters")))
}

/// Fails if the canary would be all of a run of several instances: it would try nothing before the others. A run of one is
/// its own canary.
pub(super) fn check_canary(canary: usize, targets: usize) -> Result<(), Failure> {
    if canary < targets.max(1) || targets <= 1 {
        return Ok(());
    }
    let chosen = if targets == 1 { "1 instance is".to_owned() } else { format!("{targets} instances are") };
    let message = format!("--canary {canary} is not smaller than the run: {chosen} chosen");
    Err(Failure::new(Exit::Usage, message).hint("give a smaller --canary, or leave it out"))
}

/// True if a run of `action` may change instances.
pub(super) fn changes(command: &RunCommand, action: &Action) -> bool {
    action.class != Class::Diagnostic && !command.noop
}

/// Shows the plan of a run that changes instances, and asks for confirmation. For one instance a script is not asked: it has
/// no terminal.
pub(super) async fn confirm(
    command: &RunCommand,
    action: &Action,
    plan: &Plan,
    targets: &[Instance],
) -> Result<(), Failure> {
    let is_one = targets.len() < 2;
    if !changes(command, action) || (is_one && (command.yes || !terminal::can_ask())) {
        return Ok(());
    }
    let name = &command.action.action;
    err!("{}", describe(name, action.class, plan, targets));
    if command.yes {
        return Ok(());
    }
    if !terminal::can_ask() {
        let message = format!("{name} changes {}", show::counted(targets.len(), "instance"));
        return Err(Failure::new(Exit::Usage, message).hint("check the plan above and add --yes, or try --noop first"));
    }
    match terminal::confirm("Go ahead?").await {
        Ok(true) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Ok(false) => Err(Failure::new(Exit::Usage, "not confirmed; nothing was done")),
        Err(e) => Err(Failure::new(Exit::Usage, format!("cannot ask for confirmation: {e}")).hint("add --yes")),
    }
}

fn describe(action: &ActionRef, class: Class, plan: &Plan, targets: &[Instance]) -> String {
    let batches = plan.batches();
    let mut text = format!(
        "{action} ({class}) on {} {}; {}:\n",
        show::counted(targets.len(), "instance"),
        match batches.len() {
            1 => "at once".to_owned(),
            several => format!("in {several} steps"),
        },
        stops(plan, targets.len()),
    );
    for (number, batch) in (1..).zip(batches).take(BATCHES_LISTED) {
        let ids: Vec<&str> = batch.targets.iter().map(|target| targets[*target].id().as_str()).collect();
        let name = if batch.name.is_empty() { String::new() } else { format!(" ({})", show::visible(&batch.name)) };
        text.push_str(&format!("  {number}.{name} {}\n", show::listed(&ids, 8)));
    }
    if batches.len() > BATCHES_LISTED {
        text.push_str(&format!("  and {} more\n", batches.len() - BATCHES_LISTED));
    }
    text
}

/// Describes when the run stops.
fn stops(plan: &Plan, targets: usize) -> String {
    if targets < 2 {
        return "no other instance is changed".to_owned();
    }
    if plan.batches().len() == 1 && plan.parallel() >= targets {
        return "a failure stops none of the others".to_owned();
    }
    let (failures, unreachable) = (plan.max_failures(), plan.max_unreachable());
    match (failures >= targets, unreachable >= targets) {
        (true, true) => "continues whatever fails".to_owned(),
        (false, true) => format!("stops {}", after(failures, "failed", "failure")),
        (true, false) => format!("stops {}", after(unreachable, "are unreachable", "unreachable instance")),
        (false, false) if failures == 0 && unreachable == 0 => {
            "stops after the first failure or unreachable instance".to_owned()
        }
        (false, false) => format!(
            "stops {}, or {}",
            after(failures, "failed", "failure"),
            after(unreachable, "are unreachable", "unreachable instance")
        ),
    }
}

fn after(budget: usize, several: &str, one: &str) -> String {
    match budget {
        0 => format!("after the first {one}"),
        _ => format!("when more than {budget} {several}"),
    }
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
            let failure = check_canary(canary, targets).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(&format!("--canary {canary} is not smaller")), "{}", failure.message);
        }
    }
}

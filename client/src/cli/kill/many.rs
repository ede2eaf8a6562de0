//! Killing all executions that match: searched on the instances, shown, agreed to, killed, counted.

use futures_util::{StreamExt as _, stream};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, Principal};
use serde_json::json;

use super::KillCommand;
use crate::cli::context::{Answers, Context, error_json, grouped, none_found, say_unanswered};
use crate::cli::failure::{Exit, Failure};
use crate::cli::{of_run, ps, terminal};
use crate::connection::{Agent, ExecutionQuery};
use crate::error::Error;
use crate::fleet::DEFAULT_PARALLEL;
use crate::inventory::Instance;
use crate::runner;
use crate::show::{self, visible};
use crate::{errln, outln};

/// Maximum number of groups that the preview lists.
const MAX_GROUPS: usize = 20;

/// Runs `bolt kill` without an id.
pub(super) async fn run(command: &KillCommand, context: &Context) -> Result<Exit, Failure> {
    let KillCommand { run, action, caller, .. } = command;
    if run.is_none() && action.is_none() && caller.is_none() && command.select.is_empty() {
        let message =
            "say what to kill: an execution's id, or --run, --action, --caller, --where, --on, --region or --zone";
        return Err(Failure::new(Exit::Usage, message).hint("`bolt ps --state running` lists what runs"));
    }
    let query = ExecutionQuery {
        action: action.clone(),
        principal: caller.clone(),
        run: run.clone(),
        ..ExecutionQuery::default()
    };
    let question = async |agent: &Agent| runner::unended(agent, &query).await;
    let answers = context.ask(&command.select, question).await?;
    let exit = answers.report()?;
    let Answers { given, failed } = answers;
    let answered = given.len();
    let targets: Vec<(Instance, Execution)> =
        given.into_iter().flat_map(|(instance, found)| found.into_iter().map(move |e| (instance.clone(), e))).collect();
    if targets.is_empty() {
        if context.json {
            print_json(&[], &failed, context);
        } else {
            let nothing = "nothing to kill: no execution that matches is queued or running";
            errln!("{}", none_found(nothing, answered, failed.len()));
        }
        say_unanswered(&failed, answered + failed.len());
        return Ok(exit);
    }
    agree(command, &targets).await?;
    let ends = kill_all(&targets, command, context).await?;
    say_unanswered(&failed, answered + failed.len());
    Ok(finish(&targets, ends, failed, context))
}

/// Shows what would be killed, and asks.
async fn agree(command: &KillCommand, targets: &[(Instance, Execution)]) -> Result<(), Failure> {
    let instances = targets.iter().map(|(instance, _)| instance.id()).collect::<std::collections::BTreeSet<_>>().len();
    let what = format!("{} on {}", show::counted(targets.len(), "execution"), show::counted(instances, "instance"));
    let verb = if command.yes { "killing" } else { "would kill" };
    errln!("{verb} {what}:\n{}", preview(targets));
    if command.yes {
        return Ok(());
    }
    if !terminal::can_ask() {
        let message = format!("killing {what} must be confirmed, and there is no terminal: give --yes");
        return Err(Failure::new(Exit::Usage, message).hint("nothing was done; check the list above first"));
    }
    match terminal::confirm(&format!("Kill {what}?")).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Exit::Usage, "not agreed to; nothing was done")),
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(e) => Err(Failure::new(Exit::Usage, format!("cannot ask: {e}")).hint("add --yes")),
    }
}

/// Lists the executions by state, action and caller, with the instances that have them.
fn preview(targets: &[(Instance, Execution)]) -> String {
    type Kind<'a> = (State, &'a ActionRef, &'a Principal);
    let mut groups: Vec<(Kind<'_>, Vec<&str>)> = Vec::new();
    for (instance, execution) in targets {
        let kind = (execution.state, &execution.action, &execution.principal);
        let id = instance.id().as_str();
        match groups.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, ids)) => ids.push(id),
            None => groups.push((kind, vec![id])),
        }
    }
    groups.sort_by(|(a, ids), (b, others)| (others.len(), a.1, a.2).cmp(&(ids.len(), b.1, b.2)));
    let line = |((state, action, caller), ids): &(Kind<'_>, Vec<&str>)| {
        let count = ids.len();
        let on = show::listed(&show::tallied(ids), 8);
        format!("  {count} {state}: {action}, started by {}, on {on}", visible(caller.as_str()))
    };
    let mut lines: Vec<String> = groups.iter().take(MAX_GROUPS).map(line).collect();
    if groups.len() > MAX_GROUPS {
        lines.push(format!("  and {} other groups", groups.len() - MAX_GROUPS));
    }
    lines.join("\n")
}

/// Kills all targets, a bounded number at a time; answers in their order.
async fn kill_all(
    targets: &[(Instance, Execution)],
    command: &KillCommand,
    context: &Context,
) -> Result<Vec<Result<Execution, Error>>, Failure> {
    let identity = &context.identity()?;
    let kills = targets.iter().map(|(instance, execution)| async move {
        let agent = Agent::new(instance, identity);
        runner::kill(&agent, &execution.id, command.note.as_deref()).await.map(|(end, _)| end)
    });
    Ok(stream::iter(kills).buffered(DEFAULT_PARALLEL).collect().await)
}

/// Reports how all ended: states counted, errors grouped. Exit 3 or 4 only when nothing was killed anywhere.
fn finish(
    targets: &[(Instance, Execution)],
    ends: Vec<Result<Execution, Error>>,
    mut failed: Vec<Error>,
    context: &Context,
) -> Exit {
    let unreached = failed.len();
    let (mut killed, mut errors) = (Vec::new(), Vec::new());
    for ((instance, _), end) in targets.iter().zip(ends) {
        match end {
            Ok(execution) => killed.push((instance.clone(), execution)),
            Err(error) => errors.push(error),
        }
    }
    let exit = match (killed.is_empty(), unreached) {
        (true, 0) if errors.iter().all(|error| error.kind.is_refusal()) => Exit::Refused,
        (true, 0) if errors.iter().all(|error| error.kind.outcome() == "unreachable") => Exit::Unreachable,
        _ if !errors.is_empty() || unreached > 0 => Exit::Failed,
        _ if killed.iter().all(|(_, execution)| execution.state.is_terminal()) => Exit::Success,
        _ => Exit::Failed,
    };
    if context.json {
        failed.extend(errors);
        let killed: Vec<Execution> = killed.into_iter().map(|(_, execution)| execution).collect();
        print_json(&killed, &failed, context);
        return exit;
    }
    for line in of_run::by_state(&killed) {
        outln!("{line}");
    }
    for (instance, execution) in &killed {
        if let Some(left) = super::left_processes(execution)
            .filter(|_| execution.leftovers.as_ref().is_some_and(|l| l.after_subreaper > 0))
        {
            errln!("bolt: {} ({}): {left}", instance.id(), ps::state(execution));
        }
    }
    for line in grouped(&errors) {
        errln!("bolt: {line}");
    }
    if killed.iter().any(|(_, execution)| !execution.state.is_terminal()) {
        errln!("some are still being stopped: `bolt ps` shows how that ends");
    }
    exit
}

fn print_json(killed: &[Execution], failed: &[Error], context: &Context) {
    let failed: serde_json::Value = failed.iter().map(error_json).collect();
    outln!("{}", show::json(&context.with_missing(json!({ "executions": killed, "failed": failed }))));
}

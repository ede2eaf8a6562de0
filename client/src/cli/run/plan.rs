//! The plan of a run, shown before it is confirmed.

use packs_schema::base::name::ActionRef;
use packs_schema::pack::action::Class;

use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::fleet::{Plan, Run};
use crate::inventory::Instance;
use crate::runner::Prepared;
use crate::{err, show};

/// Maximum number of batches that the plan lists.
const BATCHES_LISTED: usize = 20;

/// Shows the plan of a run that changes instances, and asks for confirmation. For one instance a script is not asked: it has
/// no terminal.
pub(super) async fn confirm(prepared: &Prepared, yes: bool) -> Result<(), Failure> {
    let Run { request, targets, plan, .. } = &prepared.run;
    let is_one = targets.len() < 2;
    if !prepared.changes() || (is_one && (yes || !terminal::can_ask())) {
        return Ok(());
    }
    let name = &request.action;
    err!("{}", describe(name, prepared.view.action.class, plan, targets));
    if yes {
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

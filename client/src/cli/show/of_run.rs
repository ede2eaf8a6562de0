//! `bolt show` of a run: put together from its executions on the instances.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::RunId;
use serde_json::json;

use crate::cli::context::{Context, error_json, say_unanswered};
use crate::cli::failure::{Exit, Failure};
use crate::cli::find::{FoundExecution, short};
use crate::cli::mask::mask_execution;
use crate::cli::of_run::{Found, Recorded, WHY_WITHOUT, by_state, describe_without, find};
use crate::cli::ps;
use crate::cli::select::SelectArgs;
use crate::show::mask::Mask;
use crate::show::{self, visible, when};
use crate::{errln, outln};

/// Maximum number of executions that are listed one by one: those that did not succeed.
const MAX_LISTED: usize = 20;

/// Prints what is known of a run. An instance that does not answer is reported, and the exit code is 1.
pub(super) async fn print(run: &RunId, select: &SelectArgs, mask: &Mask, context: &Context) -> Result<Exit, Failure> {
    let Found { executions: mut found, without, failed, recorded } = find(context, select, run).await?;
    let asked = instances(&found) + without.len() + failed.len();
    found.iter_mut().for_each(|(_, execution)| mask_execution(execution, mask));
    found.sort_by(|(a, _), (b, _)| a.id().cmp(b.id()));
    let exit = if failed.is_empty() { Exit::Success } else { Exit::Failed };
    if context.json {
        let executions: Vec<&Execution> = found.iter().map(|(_, execution)| execution).collect();
        let errors: serde_json::Value = failed.iter().map(error_json).collect();
        let mut value = json!({ "run": run, "executions": executions, "without": without, "failed": errors });
        if let Some(recorded) = &recorded {
            value["record"] = recorded.json(&without);
        }
        outln!("{}", show::json(&context.with_missing(value)));
        say_unanswered(&failed, asked);
        return Ok(exit);
    }
    let of_record = recorded.as_ref().map(Recorded::lines).unwrap_or_default();
    let (first, rest) = lines(run, &found);
    for (name, value) in first.into_iter().chain(of_record).chain(rest) {
        outln!("{name:<12} {value}");
    }
    let unrecorded = recorded.is_none().then(|| describe_without(&without, asked)).flatten();
    if let Some(recorded) = &recorded {
        recorded.describe(&without).iter().for_each(|line| outln!("{:<12} {line}", ""));
    }
    let without = unrecorded;
    without.iter().for_each(|line| outln!("{:<12} {line}", ""));
    let rest: Vec<&Execution> =
        found.iter().map(|(_, execution)| execution).filter(|e| e.state != State::Succeeded).collect();
    for execution in rest.iter().take(MAX_LISTED) {
        let reason = execution.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", visible(reason)));
        outln!("  {} {} {}{reason}", short(&execution.id), execution.instance, ps::state(execution));
    }
    if rest.len() > MAX_LISTED {
        outln!("  and {} more", rest.len() - MAX_LISTED);
    }
    without.iter().for_each(|_| errln!("{WHY_WITHOUT}"));
    errln!("`bolt logs --run {run}` prints its output, `bolt ps --run {run}` lists its executions");
    say_unanswered(&failed, asked);
    Ok(exit)
}

/// Returns the number of instances that have one of the executions.
fn instances(found: &[FoundExecution]) -> usize {
    found.iter().map(|(instance, _)| instance.id()).collect::<BTreeSet<_>>().len()
}

/// A line of the answer: its name and its text.
type Line = (&'static str, String);

/// Returns the line of the run, and those of its executions.
fn lines(run: &RunId, found: &[FoundExecution]) -> (Vec<Line>, Vec<Line>) {
    let executions = || found.iter().map(|(_, execution)| execution);
    let mut lines = Vec::new();
    // Each value once, with a count where there are several: all but the versions should agree.
    let mut each = |name, text: &dyn Fn(&Execution) -> Option<String>| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        executions().filter_map(text).for_each(|text| *counts.entry(text).or_default() += 1);
        let all = counts.len() == 1;
        let texts: Vec<String> =
            counts.into_iter().map(|(text, n)| if all { text } else { format!("{text} ({n})") }).collect();
        if !texts.is_empty() {
            lines.push((name, show::listed(&texts, 5)));
        }
    };
    each("action", &|e| Some(e.action.to_string()));
    each("version", &|e| Some(e.version.to_string()));
    each("parameters", &|e| (!e.parameters.is_empty()).then(|| ps::describe_parameters(&e.parameters)));
    each("dry run", &|e| e.noop.then(|| "yes (--noop)".to_owned()));
    each("started by", &|e| Some(visible(e.principal.as_str())));
    each("note", &|e| e.note.as_deref().map(visible));
    each("killed by", &|e| e.killed_by.as_ref().map(|by| visible(by.as_str())));
    each("kill note", &|e| e.kill_note.as_deref().map(visible));
    let first = executions().map(|e| e.created_at_ms).min();
    lines.extend(first.map(|first| ("accepted", when::at(first))));
    if !found.is_empty()
        && executions().all(|e| e.state.is_terminal())
        && let (Some(first), Some(last)) = (first, executions().filter_map(|e| e.ended_at_ms).max())
    {
        lines.push(("ended", when::at(last)));
        lines.push(("took", when::lasted(Duration::from_millis(last.saturating_sub(first)))));
    }
    let states = by_state(found);
    lines.extend(states.into_iter().enumerate().map(|(n, line)| (if n == 0 { "instances" } else { "" }, line)));
    (vec![("run", run.to_string())], lines)
}

//! `bolt show`: one execution with everything that is known of it, or a run.

mod of_run;

use std::time::Duration;

use clap::Args;
use packs_schema::agent::execution::StreamTotals;
use packs_schema::agent::rest::{Execution, Waiting, WaitingReason};
use packs_schema::base::name::RunId;
use packs_schema::base::quantity::format_bytes;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::find::{self, IdArg, Which, find};
use super::mask::{MaskArgs, mask_execution};
use super::select::SelectArgs;
use super::terminal;
use crate::inventory::Instance;
use crate::show::mask::Mask;
use crate::show::{self, visible, when};
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt show 6e1d4cf1b2aa             one execution, by the id that `bolt ps` lists
  bolt show 6e1d4cf1b2aa --json      the same for scripts
  bolt show r-0193…                  a run: versions, states, what did not succeed";

/// Show one execution, or a run with its executions.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShowCommand {
    /// The execution: its id, or at least the last six characters of it; or a run (r-…).
    #[arg(value_name = "ID|RUN-ID", required_unless_present = "run", conflicts_with = "run")]
    which: Option<Which>,
    /// Show this run, put together from its executions.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<RunId>,
    #[command(flatten)]
    secrets: MaskArgs,
    #[command(flatten)]
    select: SelectArgs,
}

/// Runs `bolt show`.
pub(super) async fn run(command: ShowCommand, context: Context) -> Result<Exit, Failure> {
    let mask = command.secrets.read()?;
    match Which::of(command.which.as_ref(), command.run.as_ref()) {
        Which::Execution(id) => one(&id, &command.select, &mask, &context).await,
        Which::Run(run) => of_run::print(&run, &command.select, &mask, &context).await,
    }
}

async fn one(id: &IdArg, select: &SelectArgs, mask: &Mask, context: &Context) -> Result<Exit, Failure> {
    let mut found = find(context, select, id).await?;
    found.iter_mut().for_each(|(_, execution)| mask_execution(execution, mask));
    let executions: Vec<&Execution> = found.iter().map(|(_, execution)| execution).collect();
    match executions[..] {
        [execution] if context.json => outln!("{}", show::json(execution)),
        _ if context.json => outln!("{}", show::json(&json!({ "executions": executions }))),
        _ => print(&executions),
    }
    if found.len() == 1 {
        return Ok(Exit::Success);
    }
    let instances: Vec<&Instance> = found.iter().map(|(instance, _)| instance).collect();
    errln!("bolt: {}", find::several(&found[0].1.id, &instances));
    Ok(Exit::Failed)
}

/// Prints everything that is known of executions.
pub(super) fn print(executions: &[&Execution]) {
    let width = terminal::width().unwrap_or(100).saturating_sub(13);
    for (number, execution) in executions.iter().enumerate() {
        if number > 0 {
            outln!();
        }
        for (name, value) in lines(execution, width) {
            outln!("{name:<12} {}", value.replace('\n', "\n             "));
        }
    }
}

fn lines(e: &Execution, width: usize) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("execution", e.id.to_string()),
        ("instance", e.instance.to_string()),
        ("action", format!("{} {} ({})", e.action, e.version, e.digest.short())),
        ("state", super::ps::state(e)),
    ];
    let mut add = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    add("dev", e.dev.as_ref().map(|dev| format!("pushed by {}, not signed", visible(dev.by.as_str()))));
    add("waiting for", e.waiting.as_ref().map(waiting));
    add("exit status", e.exit_status.map(|status| status.to_string()));
    add("signal", e.signal.map(|signal| signal.to_string()));
    add("reason", e.reason.as_deref().map(visible));
    add("parameters", Some(show::json_fitted(&json!(e.parameters), width)));
    add("dry run", e.noop.then(|| "yes (--noop)".to_owned()));
    add("started by", Some(visible(e.principal.as_str())));
    add("note", e.note.as_deref().map(visible));
    add("killed by", e.killed_by.as_ref().map(|by| visible(by.as_str())));
    add("kill note", e.kill_note.as_deref().map(visible));
    add("run", e.run.as_ref().map(ToString::to_string));
    add("accepted", Some(when::at(e.created_at_ms)));
    add("started", e.started_at_ms.map(when::at));
    add("ended", e.ended_at_ms.map(when::at));
    add("took", e.duration_ms.map(|ms| when::lasted(Duration::from_millis(ms))));
    add(
        "cpu",
        e.usage.map(|usage| {
            let time = |us| when::lasted(Duration::from_micros(us));
            format!("{} user, {} system", time(usage.user_us), time(usage.system_us))
        }),
    );
    add("peak memory", e.usage.and_then(|usage| usage.peak_memory_bytes).map(format_bytes));
    add("stdout", e.stdout.map(totals));
    add("stderr", e.stderr.map(totals));
    let left = e.leftovers.as_ref();
    add("left over", left.and_then(|left| left.describe(e.state)).map(|said| visible(&said)));
    add(
        "stopped",
        left.filter(|left| left.after_term > 0).map(|left| {
            format!(
                "{} alive after TERM, {} after the kill, {} at the end",
                left.after_term, left.after_cgroup_kill, left.after_subreaper
            )
        }),
    );
    add("unenforced", (!e.unenforced.is_empty()).then(|| visible(&e.unenforced.join("; "))));
    add("result", e.result.as_ref().map(|result| show::json_fitted(&json!(result), width)));
    add("no result", e.result_error.as_deref().map(visible));
    lines
}

/// Describes why a queued execution has not started.
fn waiting(waiting: &Waiting) -> String {
    let group = waiting.group.as_deref().map(visible).unwrap_or_default();
    let mut text = match waiting.reason {
        WaitingReason::Group => {
            format!("a slot of concurrency group {group}: {} of {} running", waiting.running, waiting.max)
        }
        WaitingReason::Slot => format!("a slot of the instance: {} of {} running", waiting.running, waiting.max),
        WaitingReason::Launcher => return "the launcher, which has been asked to start it".to_owned(),
    };
    if waiting.ahead > 0 {
        text.push_str(&format!("; {} queued before it", waiting.ahead));
    }
    if !waiting.behind.is_empty() {
        let ids: Vec<&str> = waiting.behind.iter().map(find::short).collect();
        text.push_str(&format!("\nbehind {}", show::listed(&ids, 5)));
    }
    text
}

fn totals(totals: StreamTotals) -> String {
    match totals.dropped_bytes {
        0 => format_bytes(totals.written_bytes),
        dropped => format!("{}, of which {} were not kept", format_bytes(totals.written_bytes), format_bytes(dropped)),
    }
}

//! `bolt runs`: lists the recorded runs.

use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::numbers::whole;
use super::run_store;
use crate::fleet::Stopped;
use crate::runs::{Head, Listing, Status};
use crate::show::{self, visible, when};
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt runs                  the newest first
  bolt runs --json | jq -r '.runs[] | select(.state == \"interrupted\") | .run'
  bolt runs --run-store s3://ops/runs?region=eu-west-1
  bolt resume r-0193…        goes on with one
  bolt show r-0193…          its executions, asked from the instances

The record lies in $XDG_STATE_HOME/bolt/runs, else ~/.local/state/bolt/runs, a directory for each \
run. Runs older than 90 days are removed from there, but the newest 200. --run-store, \
BOLT_RUN_STORE, or `store` under [runs] in client.toml names another directory or a bucket, \
s3://bucket/prefix?region=…, that clients on several hosts share. Nothing is removed from a bucket: \
give it a lifecycle rule. The record holds no secrets.";

/// Number of runs that are read at once.
const PARALLEL: usize = 16;

/// List the recorded runs: those that this user has started from this host, or those of a shared record.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunsCommand {
    /// Maximum number of runs.
    #[arg(long, value_name = "N", default_value = "20", value_parser = whole::<usize>(1..=100_000))]
    limit: usize,
}

/// Runs `bolt runs`.
pub(super) async fn run(command: RunsCommand, context: Context) -> Result<Exit, Failure> {
    let store = run_store::require(context.config())?;
    let Listing { heads, mut problems, more } =
        store.list(command.limit).await.map_err(|error| run_store::failure(&error))?;
    let statuses = heads.into_iter().map(async |head| (store.status(&head.run).await, head));
    let mut runs: Vec<(Head, Status)> = Vec::new();
    for (status, head) in stream::iter(statuses).buffered(PARALLEL).collect::<Vec<_>>().await {
        match status {
            Ok(status) => runs.push((head, status)),
            Err(problem) => problems.push(problem),
        }
    }
    for problem in &problems {
        errln!("bolt: {problem}");
    }
    if context.json {
        let list: Vec<Value> = runs.iter().map(|(head, status)| entry(head, status)).collect();
        outln!("{}", show::json(&json!({ "runs": list, "more": more })));
    } else if runs.is_empty() {
        errln!("no runs are recorded in {}", store.place());
    } else {
        let now = when::now_ms();
        let rows: Vec<Vec<String>> = runs.iter().map(|(head, status)| row(head, status, now)).collect();
        context.print_table(&["RUN", "PLANNED", "ACTION", "INSTANCES", "STATE", "OUTCOMES"], &rows);
        if more > 0 {
            errln!("and {more} older; --limit shows more");
        }
    }
    Ok(if problems.is_empty() { Exit::Success } else { Exit::Storage })
}

fn state(head: &Head, status: &Status) -> &'static str {
    status.summary.state(status.holder.is_some(), head.targets)
}

fn row(head: &Head, status: &Status, now_ms: u64) -> Vec<String> {
    let version = head.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
    let noop = if head.noop { " (dry run)" } else { "" };
    let why = status.summary.stopped().map(|stopped| format!(" ({})", stopped.code())).unwrap_or_default();
    let counts = status.summary.with_not_started(head.targets);
    let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {}", visible(state))).collect();
    vec![
        head.run.to_string(),
        when::ago(head.created_at_ms, now_ms),
        format!("{}{version}{noop}", head.action),
        head.targets.to_string(),
        format!("{}{why}", state(head, status)),
        counts.join(", "),
    ]
}

fn entry(head: &Head, status: &Status) -> Value {
    json!({
        "run": head.run,
        "planned_at_ms": head.created_at_ms,
        "action": head.action,
        "version": head.version,
        "noop": head.noop,
        "class": head.class,
        "note": head.note,
        "instances": head.targets,
        "state": state(head, status),
        "holder": status.holder,
        "stopped": status.summary.stopped().map(Stopped::code),
        "summary": status.summary.with_not_started(head.targets),
    })
}

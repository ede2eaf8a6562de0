//! `bolt runs`: lists the recorded runs.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::numbers::whole;
use super::run_store;
use crate::fleet::Stopped;
use crate::runs::{Entry, Head, RunStore, StoreError};
use crate::show::{self, visible, when};
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt runs                  the newest first
  bolt runs --json | jq -r '.runs[] | select(.state == \"interrupted\") | .run'
  bolt resume r-0193…        goes on with one
  bolt show r-0193…          its executions, asked from the instances

The record lies in $XDG_STATE_HOME/bolt/runs, else ~/.local/state/bolt/runs, a directory for each run. It holds no secrets.
Runs older than 90 days are removed, but the newest 200.";

/// List the runs that this user has started from this host.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunsCommand {
    /// Maximum number of runs.
    #[arg(long, value_name = "N", default_value = "20", value_parser = whole::<usize>(1..=100_000))]
    limit: usize,
}

/// State of a recorded run.
struct Summary {
    state: &'static str,
    stopped: Option<Stopped>,
    /// Number of instances in each state or outcome.
    counts: BTreeMap<String, usize>,
}

/// Runs `bolt runs`.
pub(super) async fn run(command: RunsCommand, context: Context) -> Result<Exit, Failure> {
    let store = run_store::require()?;
    let (heads, mut problems) = store.list().await.map_err(|error| run_store::failure(&error))?;
    let more = heads.len().saturating_sub(command.limit);
    let mut runs = Vec::new();
    for head in heads.into_iter().take(command.limit) {
        match summarize(&*store, &head).await {
            Ok(summary) => runs.push((head, summary)),
            Err(problem) => problems.push(problem),
        }
    }
    for problem in &problems {
        errln!("bolt: {problem}");
    }
    if context.json {
        let list: Vec<Value> = runs.iter().map(|(head, summary)| entry(head, summary)).collect();
        outln!("{}", show::json(&json!({ "runs": list, "more": more })));
    } else if runs.is_empty() {
        errln!("no runs are recorded in {}", store.place());
    } else {
        let now = when::now_ms();
        let rows: Vec<Vec<String>> = runs.iter().map(|(head, summary)| row(head, summary, now)).collect();
        context.print_table(&["RUN", "PLANNED", "ACTION", "INSTANCES", "STATE", "OUTCOMES"], &rows);
        if more > 0 {
            errln!("and {more} older; --limit shows more");
        }
    }
    Ok(if problems.is_empty() { Exit::Success } else { Exit::Storage })
}

async fn summarize(store: &dyn RunStore, head: &Head) -> Result<Summary, StoreError> {
    let is_busy = store.is_busy(&head.run).await?;
    let stored = store.load(&head.run).await?;
    let mut endings: BTreeMap<usize, Option<String>> = BTreeMap::new();
    let mut done = None;
    for entry in &stored.entries {
        match entry {
            Entry::Starting { target } => drop(endings.insert(*target, None)),
            Entry::Ended { target, ending } => drop(endings.insert(*target, Some(ending.state().to_owned()))),
            Entry::Done { stopped, .. } => done = Some(*stopped),
            Entry::Resumed { .. } => done = None,
            Entry::Checked { .. } => {}
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for ending in endings.values() {
        *counts.entry(ending.clone().unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
    }
    let untouched = head.targets.saturating_sub(endings.len());
    if untouched > 0 {
        counts.insert("not_started".to_owned(), untouched);
    }
    let succeeded = counts.get("succeeded").copied().unwrap_or(0) == head.targets;
    let state = match (is_busy, done) {
        (true, _) => "running",
        (false, None | Some(Some(Stopped::Asked))) => "interrupted",
        (false, Some(Some(_))) => "stopped",
        (false, Some(None)) if counts.contains_key("unknown") => "detached",
        (false, Some(None)) if succeeded => "succeeded",
        (false, Some(None)) => "failed",
    };
    Ok(Summary { state, stopped: done.flatten(), counts })
}

fn row(head: &Head, summary: &Summary, now_ms: u64) -> Vec<String> {
    let version = head.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
    let noop = if head.noop { " (dry run)" } else { "" };
    let why = summary.stopped.map(|stopped| format!(" ({})", stopped.code())).unwrap_or_default();
    let counts: Vec<String> =
        summary.counts.iter().map(|(state, count)| format!("{count} {}", visible(state))).collect();
    vec![
        head.run.to_string(),
        when::ago(head.created_at_ms, now_ms),
        format!("{}{version}{noop}", head.action),
        head.targets.to_string(),
        format!("{}{why}", summary.state),
        counts.join(", "),
    ]
}

fn entry(head: &Head, summary: &Summary) -> Value {
    json!({
        "run": head.run,
        "planned_at_ms": head.created_at_ms,
        "action": head.action,
        "version": head.version,
        "noop": head.noop,
        "class": head.class,
        "note": head.note,
        "instances": head.targets,
        "state": summary.state,
        "stopped": summary.stopped.map(Stopped::code),
        "summary": summary.counts,
    })
}

//! `bolt ps` and `bolt history`: executions across instances.

mod order;
mod rows;

use std::time::Duration;

use clap::Args;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, MAX_PAGE};
use packs_schema::base::name::{ActionRef, Principal, RunId};
use packs_schema::base::quantity::parse_duration;
use serde_json::json;

use super::context::{Answers, Context};
use super::failure::{Exit, Failure};
use super::moment::{self, Moment};
use super::numbers::whole;
use super::select::SelectArgs;
use crate::connection::ExecutionQuery;
use crate::show::{self, when};
use crate::{errln, outln};

pub(super) use rows::{describe_parameters, state};

/// Maximum number of executions that one command lists.
const MAX_LISTED: u64 = 100_000;

const PS_EXAMPLES: &str = "\
Examples:
  bolt ps                                        what runs and what ran lately
  bolt ps --state running --sort duration        what runs, the longest first
  bolt ps --running-for 10m --where \"app == 'cassandra'\"
  bolt ps --since yesterday --until 14:00 --wide
  bolt ps --run r-0193… --json                   one run, for scripts";

const HISTORY_EXAMPLES: &str = "\
Examples:
  bolt history --state failed --since 2026-11-26
  bolt history --action linux.disk_usage --since \"2026-11-26 14:00\" --until 2h
  bolt history --caller spiffe://example.org/oncall --sort instance --wide";

/// List executions across instances, the newest first.
#[derive(Debug, Args)]
#[command(after_help = PS_EXAMPLES)]
pub(super) struct PsCommand {
    /// List executions in this state.
    #[arg(long)]
    state: Option<State>,
    /// List executions that have been running for longer than this, such as 10m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "state")]
    running_for: Option<Duration>,
    #[command(flatten)]
    list: ListArgs,
}

/// List executions that have ended, across instances.
#[derive(Debug, Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(super) struct HistoryCommand {
    /// List executions that ended in this state.
    #[arg(long, value_parser = terminal_state)]
    state: Option<State>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// List executions of this action.
    #[arg(long)]
    action: Option<ActionRef>,
    /// List executions of this run.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<RunId>,
    /// List executions that this caller started.
    #[arg(long, value_name = "URI", alias = "principal")]
    caller: Option<Principal>,
    #[arg(
        long,
        value_name = "TIME",
        help = "List executions accepted at this time or later: 2h, yesterday, 14:00 (local time), 2026-11-26",
        long_help = since_help()
    )]
    since: Option<Moment>,
    /// List executions accepted before this time; same forms as --since.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// List at most this many executions, the newest, over all instances.
    #[arg(long, value_name = "N", default_value = "20", allow_negative_numbers = true, value_parser = whole::<u32>(1..=MAX_LISTED))]
    limit: u32,
    /// Sort the listed executions: times with the newest first, durations with the longest first, names in order.
    #[arg(long, value_enum, value_name = "KEY", default_value_t = order::Key::Accepted, hide_default_value = true)]
    sort: order::Key,
    /// Reverse the order.
    #[arg(long)]
    reverse: bool,
    /// Print all columns uncut: whole ids, versions, times in UTC, runs, all parameters and notes.
    #[arg(short, long)]
    wide: bool,
    #[command(flatten)]
    select: SelectArgs,
}

fn since_help() -> String {
    format!("List executions accepted at this time or later.\n\n{}", moment::FORMS)
}

fn terminal_state(text: &str) -> Result<State, String> {
    let state: State = text.parse()?;
    if state.is_terminal() { Ok(state) } else { Err(format!("{state} is not a state in which an execution ends")) }
}

/// Runs `bolt ps`.
pub(super) async fn run(command: PsCommand, context: Context) -> Result<Exit, Failure> {
    let state = command.running_for.map(|_| State::Running).or(command.state);
    list(&command.list, Wanted { state, ended: false, running_for: command.running_for }, &context).await
}

/// Runs `bolt history`.
pub(super) async fn history(command: HistoryCommand, context: Context) -> Result<Exit, Failure> {
    list(&command.list, Wanted { state: command.state, ended: true, running_for: None }, &context).await
}

/// Differences between the two commands.
struct Wanted {
    state: Option<State>,
    ended: bool,
    running_for: Option<Duration>,
}

async fn list(args: &ListArgs, wanted: Wanted, context: &Context) -> Result<Exit, Failure> {
    let now = when::now_ms();
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since >= until
    {
        let (since, until) = (when::at(since.ms()), when::at(until.ms()));
        return Err(Failure::new(Exit::Usage, format!("--since {since} is not before --until {until}")));
    }
    let most = args.limit as usize;
    // Agents do not filter by running time: all running executions are listed and filtered here.
    let asked_for = if wanted.running_for.is_some() { MAX_LISTED as usize } else { most };
    let query = ExecutionQuery {
        action: args.action.clone(),
        state: wanted.state,
        ended: wanted.ended,
        principal: args.caller.clone(),
        run: args.run.clone(),
        since_ms: args.since.map(Moment::ms),
        until_ms: args.until.map(Moment::ms),
        limit: Some(u32::try_from(asked_for).unwrap_or(MAX_PAGE).min(MAX_PAGE)),
        cursor: None,
    };
    let answers = context.ask(&args.select, async |agent| agent.newest(&query, asked_for).await).await?;
    let exit = answers.report()?;
    let failed = answers.failed_json();
    let Answers { given, .. } = answers;
    for (instance, _) in given.iter().filter(|(_, newest)| newest.restarted) {
        errln!("{}: its history was replaced meanwhile, and was listed again from the newest on", instance.id());
    }
    let mut more = given.iter().any(|(_, newest)| newest.more);
    let mut executions: Vec<Execution> = given.into_iter().flat_map(|(_, newest)| newest.executions).collect();
    if let Some(longer_than) = wanted.running_for {
        executions.retain(|e| order::duration(e, now).is_some_and(|ran| ran > longer_than));
    }
    order::sort(&mut executions, order::Key::Accepted, now);
    more |= executions.len() > most;
    executions.truncate(most);
    order::sort(&mut executions, args.sort, now);
    if args.reverse {
        executions.reverse();
    }
    if context.json {
        outln!("{}", show::json(&json!({ "executions": executions, "more": more, "failed": failed })));
    } else if executions.is_empty() {
        errln!("no executions match");
    } else {
        rows::print(&executions, now, args.wide);
        if more {
            errln!("only the newest {} are listed: --limit lists more", executions.len());
        }
    }
    Ok(exit)
}

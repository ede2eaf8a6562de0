//! `bolt ps` and `bolt history`: executions across instances.

mod order;
mod rows;

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, MAX_PAGE};
use packs_schema::base::name::{ActionRef, ExecutionId, Principal, RunId};
use packs_schema::base::quantity::parse_duration;
use serde_json::json;

use super::context::{Answers, Context, none_found};
use super::failure::{Exit, Failure};
use super::moment::{self, Moment};
use super::numbers::whole;
use super::select::SelectArgs;
use crate::connection::{Agent, ExecutionQuery, Newest};
use crate::error::Error;
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
  bolt history --failed --since 2026-11-26
  bolt history --action linux.disk_usage --since \"2026-11-26 14:00\" --until 2h
  bolt history --caller spiffe://example.org/oncall --sort instance --wide";

/// List executions across instances, the newest first.
#[derive(Debug, Args)]
#[command(after_help = PS_EXAMPLES)]
pub(super) struct PsCommand {
    #[command(flatten)]
    states: StateArgs,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    select: SelectArgs,
}

/// States of the executions to list.
#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// List executions in these states: queued, running, succeeded, failed, timed_out, killed, out_of_memory, error,
    /// interrupted, lost, expired.
    #[arg(long, value_name = "STATE,…", value_delimiter = ',')]
    state: Vec<State>,
    /// List executions that ended in any state but succeeded.
    #[arg(long, conflicts_with = "state")]
    failed: bool,
    /// List executions that have been running for longer than this, such as 10m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with_all = ["state", "failed"])]
    running_for: Option<Duration>,
}

impl StateArgs {
    pub(super) fn wanted(self) -> Wanted {
        let states = match self.running_for {
            Some(_) => vec![State::Running],
            None => wanted_states(self.state, self.failed),
        };
        Wanted { states, ended: false, running_for: self.running_for }
    }
}

/// List executions that have ended, across instances.
#[derive(Debug, Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(super) struct HistoryCommand {
    /// List executions that ended in these states: succeeded, failed, timed_out, killed, out_of_memory, error, interrupted,
    /// lost, expired.
    #[arg(long, value_name = "STATE,…", value_delimiter = ',', value_parser = terminal_state)]
    state: Vec<State>,
    /// List executions that ended in any state but succeeded.
    #[arg(long, conflicts_with = "state")]
    failed: bool,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    select: SelectArgs,
}

/// Which executions to list, and how.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
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
    list(&command.list, &command.select, &command.states.wanted(), &context).await
}

/// Runs `bolt history`.
pub(super) async fn history(command: HistoryCommand, context: Context) -> Result<Exit, Failure> {
    let states = wanted_states(command.state, command.failed);
    list(&command.list, &command.select, &Wanted { states, ended: true, running_for: None }, &context).await
}

/// Returns the states to list, each once; none for all states.
fn wanted_states(given: Vec<State>, failed: bool) -> Vec<State> {
    let is_failure = |state: &State| state.is_terminal() && *state != State::Succeeded;
    State::ALL.into_iter().filter(|state| if failed { is_failure(state) } else { given.contains(state) }).collect()
}

/// Which executions are listed, by their state.
pub(super) struct Wanted {
    /// States to list; none for all.
    states: Vec<State>,
    ended: bool,
    running_for: Option<Duration>,
}

impl ListArgs {
    /// Returns the query for agents, and how many executions each is asked for.
    pub(super) fn query(&self, wanted: &Wanted) -> Result<(ExecutionQuery, usize), Failure> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            let (since, until) = (when::at(since.ms()), when::at(until.ms()));
            return Err(Failure::new(Exit::Usage, format!("--since {since} is not before --until {until}")));
        }
        // Agents do not filter by running time: all running executions are listed and filtered here.
        let most = if wanted.running_for.is_some() { MAX_LISTED as usize } else { self.limit as usize };
        let query = ExecutionQuery {
            action: self.action.clone(),
            state: None,
            ended: wanted.ended,
            principal: self.caller.clone(),
            run: self.run.clone(),
            since_ms: self.since.map(Moment::ms),
            until_ms: self.until.map(Moment::ms),
            limit: Some(u32::try_from(most).unwrap_or(MAX_PAGE).min(MAX_PAGE)),
            cursor: None,
        };
        Ok((query, most))
    }

    /// Chooses the newest of the executions that were found, and sorts them; true if there are more.
    pub(super) fn choose(&self, wanted: &Wanted, executions: &mut Vec<Execution>, now_ms: u64) -> bool {
        if let Some(longer_than) = wanted.running_for {
            executions.retain(|e| order::duration(e, now_ms).is_some_and(|ran| ran > longer_than));
        }
        order::sort(executions, order::Key::Accepted, now_ms);
        let more = executions.len() > self.limit as usize;
        executions.truncate(self.limit as usize);
        order::sort(executions, self.sort, now_ms);
        if self.reverse {
            executions.reverse();
        }
        more
    }

    /// Prints the table.
    pub(super) fn print(&self, executions: &[Execution], more: bool, now_ms: u64) {
        rows::print(executions, now_ms, self.wide);
        if more {
            errln!("only the newest {} are listed: --limit lists more", executions.len());
        }
    }
}

impl Wanted {
    /// True if an execution in this state is to be listed.
    pub(super) fn takes(&self, state: State) -> bool {
        (self.states.is_empty() || self.states.contains(&state)) && (!self.ended || state.is_terminal())
    }
}

async fn list(args: &ListArgs, select: &SelectArgs, wanted: &Wanted, context: &Context) -> Result<Exit, Failure> {
    let now = when::now_ms();
    let (query, most) = args.query(wanted)?;
    let answers = context.ask(select, async |agent| newest(agent, &query, wanted, most).await).await?;
    let exit = answers.report_final()?;
    let failed = answers.failed_json();
    let Answers { given, failed: unanswered } = answers;
    let answered = given.len();
    for (instance, _) in given.iter().filter(|(_, newest)| newest.restarted) {
        errln!("{}: its history was replaced meanwhile, and was listed again from the newest on", instance.id());
    }
    let mut more = given.iter().any(|(_, newest)| newest.more);
    let mut executions: Vec<Execution> = given.into_iter().flat_map(|(_, newest)| newest.executions).collect();
    more |= args.choose(wanted, &mut executions, now);
    if context.json {
        let answer = json!({ "executions": executions, "more": more, "failed": failed });
        outln!("{}", show::json(&context.with_missing(answer)));
    } else if executions.is_empty() {
        errln!("{}", none_found("no executions match", answered, unanswered.len()));
    } else {
        args.print(&executions, more, now);
    }
    Ok(exit)
}

/// Returns the newest executions in these states. Agents filter by one state: each is asked for on its own.
pub(super) async fn newest(
    agent: &Agent,
    query: &ExecutionQuery,
    wanted: &Wanted,
    most: usize,
) -> Result<Newest, Error> {
    if wanted.states.is_empty() {
        return agent.newest(query, most).await;
    }
    let mut all = Newest::default();
    for state in &wanted.states {
        let query = ExecutionQuery { state: Some(*state), ..query.clone() };
        let more = agent.newest(&query, most).await?;
        // An execution whose state changed between two requests is in both answers: the later one holds.
        let ids: HashSet<&ExecutionId> = more.executions.iter().map(|execution| &execution.id).collect();
        all.executions.retain(|known| !ids.contains(&known.id));
        all.executions.extend(more.executions);
        all.more |= more.more;
        all.restarted |= more.restarted;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_means_all_terminal_states_but_succeeded() {
        let failed = wanted_states(Vec::new(), true);
        assert_eq!(failed.len(), 8);
        assert!(failed.iter().all(|state| state.is_terminal() && *state != State::Succeeded));
        let twice = vec![State::Failed, State::Killed, State::Failed];
        assert_eq!(wanted_states(twice, false), [State::Failed, State::Killed]);
        assert!(wanted_states(Vec::new(), false).is_empty());
    }
}

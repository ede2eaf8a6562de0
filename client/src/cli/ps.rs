//! `bolt ps` and `bolt history`: executions across instances.

use std::time::Duration;

use clap::Args;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, MAX_PAGE};
use packs_schema::base::name::{ActionRef, Principal, RunId};
use packs_schema::base::quantity::parse_duration;
use serde_json::json;

use super::context::{Answers, Context};
use super::failure::{Exit, Failure};
use super::find::short;
use super::numbers::whole;
use super::select::SelectArgs;
use super::terminal;
use crate::connection::ExecutionQuery;
use crate::show::{self, visible, when};
use crate::{errln, outln};

const HEADS: [&str; 7] = ["ID", "INSTANCE", "ACTION", "STATE", "STARTED", "TOOK", "BY"];
/// The most executions that one command lists.
const MOST: u64 = 100_000;

/// List executions across instances, the newest first.
#[derive(Debug, Args)]
pub(super) struct PsCommand {
    /// Only those in this state.
    #[arg(long)]
    state: Option<State>,
    #[command(flatten)]
    list: ListArgs,
}

/// List executions that have ended, across instances.
#[derive(Debug, Args)]
pub(super) struct HistoryCommand {
    /// Only those that ended in this state.
    #[arg(long, value_parser = terminal_state)]
    state: Option<State>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this action.
    #[arg(long)]
    action: Option<ActionRef>,
    /// Only of this fan-out.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<RunId>,
    /// Only those that this principal asked for.
    #[arg(long, value_name = "URI")]
    principal: Option<Principal>,
    /// Only those accepted within this time, such as 1h or 7d.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<Duration>,
    /// The most to list, over all instances.
    #[arg(long, value_name = "N", default_value = "20", allow_negative_numbers = true, value_parser = whole::<u32>(1..=MOST))]
    limit: u32,
    #[command(flatten)]
    select: SelectArgs,
}

fn terminal_state(text: &str) -> Result<State, String> {
    let state: State = text.parse()?;
    if state.is_terminal() { Ok(state) } else { Err(format!("{state} is no state in which an execution ends")) }
}

/// Runs `bolt ps`.
pub(super) async fn run(command: PsCommand, context: Context) -> Result<Exit, Failure> {
    list(&command.list, command.state, false, &context).await
}

/// Runs `bolt history`.
pub(super) async fn history(command: HistoryCommand, context: Context) -> Result<Exit, Failure> {
    list(&command.list, command.state, true, &context).await
}

async fn list(args: &ListArgs, state: Option<State>, ended: bool, context: &Context) -> Result<Exit, Failure> {
    let now = when::now_ms();
    let query = ExecutionQuery {
        action: args.action.clone(),
        state,
        ended,
        principal: args.principal.clone(),
        run: args.run.clone(),
        since_ms: args.since.map(|since| now.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))),
        until_ms: None,
        limit: Some(args.limit.min(MAX_PAGE)),
        cursor: None,
    };
    let most = args.limit as usize;
    let answers = context.ask(&args.select, async |agent| agent.newest(&query, most).await).await?;
    let exit = answers.report()?;
    let failed = answers.failed_json();
    let Answers { given, .. } = answers;
    for (instance, _) in given.iter().filter(|(_, newest)| newest.restarted) {
        errln!("{}: its history was replaced meanwhile, and was listed again from the newest on", instance.id());
    }
    let mut more = given.iter().any(|(_, newest)| newest.more);
    let mut executions: Vec<Execution> = given.into_iter().flat_map(|(_, newest)| newest.executions).collect();
    executions.sort_by(|a, b| (b.created_at_ms, &b.id).cmp(&(a.created_at_ms, &a.id)));
    more |= executions.len() > most;
    executions.truncate(most);
    if context.json {
        outln!("{}", show::json(&json!({ "executions": executions, "more": more, "failed": failed })));
    } else if executions.is_empty() {
        errln!("no executions that match");
    } else {
        let mut rows: Vec<Vec<String>> = executions.iter().map(|e| row(e, now)).collect();
        let widest = show::table(&HEADS, &rows, None).lines().map(|line| line.chars().count()).max();
        if terminal::width() < widest && terminal::width().is_some() {
            rows.iter_mut().filter_map(|row| row.last_mut()).for_each(|by| *by = end(by));
        }
        context.print_table(&HEADS, &rows);
        if more {
            errln!("only the newest {} are listed: --limit lists more", executions.len());
        }
    }
    Ok(exit)
}

/// The last part of a principal, where the whole has no room.
fn end(principal: &str) -> String {
    principal.rsplit_once('/').map_or_else(|| principal.to_owned(), |(_, name)| name.to_owned())
}

fn row(execution: &Execution, now: u64) -> Vec<String> {
    vec![
        short(&execution.id).to_owned(),
        execution.instance.to_string(),
        match execution.dev {
            Some(_) => format!("{} (dev)", execution.action),
            None => execution.action.to_string(),
        },
        state(execution),
        // One that has not started shows no start; the newest are first by when they were accepted.
        execution.started_at_ms.map_or_else(|| "-".to_owned(), |at| when::ago(at, now)),
        execution.duration_ms.map_or_else(|| "-".to_owned(), |ms| when::lasted(Duration::from_millis(ms))),
        visible(execution.principal.as_str()),
    ]
}

/// The state, with the exit status or signal where there is one and the state does not say it.
pub(super) fn state(execution: &Execution) -> String {
    match (execution.state, execution.exit_status, execution.signal) {
        (state @ State::Succeeded, Some(0), _) => state.to_string(),
        (state, Some(status), _) => format!("{state} (exit {status})"),
        (state, None, Some(signal)) => format!("{state} (signal {signal})"),
        (state, ..) => state.to_string(),
    }
}

//! `bolt run`: an action on many instances.
//!
//! ```text
//!  select ─▶ the action's schema, from an instance ─▶ bind all parameters ─▶ plan, and ask ─▶ run ─▶ report
//! ```
//!
//! Until the plan is agreed to, nothing has been sent but questions.

mod params;
mod progress;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use packs_schema::agent::rest::{ActionView, Code};
use packs_schema::base::name::{ActionRef, ExecutionId};
use packs_schema::base::quantity::{format_duration, parse_duration};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::{Action, Class};
use serde_json::{Map, Value};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{Context, nobody};
use super::failure::{Exit, Failure};
use super::numbers::whole;
use super::select::SelectArgs;
use super::{actions, terminal};
use crate::connection::{Agent, ExecutionQuery};
use crate::error::{Error, Kind};
use crate::fleet::plan::DEFAULT_PARALLEL;
use crate::fleet::{self, Amount, Grouping, Plan, Request, Run, Stop, Strategy, across};
use crate::inventory::Instance;
use crate::parameters;
use crate::show;
use crate::tls::Identity;
use crate::{err, errln, outln};

/// How many instances are asked at once for the action's schema.
const SCHEMA_TRIES: usize = 8;
/// How many are asked at most before none of them counts as reachable.
const SCHEMA_MOST: usize = 64;
/// How long instances are asked, when the user leaves, for what they started.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Between two of these questions.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How many bytes of each output stream are fetched from each instance.
const OUTPUT_LIMIT: usize = 256 << 10;
/// The same when there are very many instances.
const OUTPUT_LIMIT_MANY: usize = 8 << 10;

/// Run an action on instances, one at a time unless told otherwise.
#[derive(Debug, Args)]
pub(super) struct RunCommand {
    /// What to run, such as linux.disk_usage.
    action: ActionRef,
    /// Its parameters: NAME=VALUE, or NAME=@FILE to read the value from a file (@@ for a literal @).
    #[arg(value_name = "NAME=VALUE")]
    parameters: Vec<params::Given>,
    /// Parameters from a file with one JSON object; - is standard input.
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
    /// Only have it say what it would do.
    #[arg(long)]
    noop: bool,
    /// Why, for those who read the history.
    #[arg(long, value_name = "TEXT", value_parser = note)]
    note: Option<String>,
    /// Stop it after this time, if that is shorter than the action's own time-out.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Do not ask before instances are changed.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    how: How,
}

/// In which order, and when to stop.
#[derive(Debug, Args)]
#[command(next_help_heading = "In which order")]
struct How {
    /// All at once.
    #[arg(long, conflicts_with = "by")]
    all: bool,
    /// One zone or region at a time, and all of it at once.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// So many at a time, or such a share of all.
    #[arg(long, value_name = "N|P%", value_parser = batch)]
    batch: Option<Amount>,
    /// So many first, as a batch of their own.
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, allow_negative_numbers = true,
        value_parser = whole::<usize>(0..=u64::MAX))]
    canary: usize,
    /// So many may fail, over the whole run; once more than that have, nothing more is started.
    #[arg(long, value_name = "N|P%", default_value = "0")]
    max_failures: Amount,
    /// The most in flight at once, whatever the batches say.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PARALLEL, allow_negative_numbers = true, value_parser = whole::<usize>(1..=10_000))]
    parallel: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Zone,
    Region,
}

fn note(text: &str) -> Result<String, String> {
    if text.chars().count() <= 500 { Ok(text.to_owned()) } else { Err("a note has at most 500 characters".to_owned()) }
}

fn batch(text: &str) -> Result<Amount, String> {
    match text.parse().map_err(|e: fleet::plan::AmountError| e.to_string())? {
        Amount::Count(0) | Amount::Percent(0) => Err("a batch has at least one instance".to_owned()),
        amount => Ok(amount),
    }
}

impl How {
    fn strategy(&self) -> Strategy {
        let grouping = match (self.all, self.by) {
            (true, _) => Grouping::All,
            (false, Some(By::Zone)) => Grouping::Zone,
            (false, Some(By::Region)) => Grouping::Region,
            (false, None) => Grouping::Serial,
        };
        let parallel = self.parallel.min(descriptors());
        Strategy { grouping, batch: self.batch, canary: self.canary, max_failures: self.max_failures, parallel }
    }
}

/// How many connections this process may hold, with some descriptors for itself.
fn descriptors() -> usize {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap_or((256, 256));
    usize::try_from(soft.saturating_sub(64)).unwrap_or(usize::MAX).max(1)
}

/// Runs `bolt run`.
pub(super) async fn run(command: RunCommand, context: Context) -> Result<Exit, Failure> {
    let targets = context.select(&command.select)?;
    let identity = context.identity()?;
    let ActionView { action, version, dev, .. } = schema(&command.action, &targets, &identity).await?;
    if dev.is_some() && !context.json {
        errln!("{} {version} is of a dev pack: it was pushed and is not signed", command.action);
    }
    let parameters = check(&command, &action).await?;
    let facts: Vec<&Facts> = targets.iter().map(|target| &target.facts).collect();
    let plan = Plan::new(&facts, &command.how.strategy());
    agree(&command, &action, &plan, &targets).await?;
    let request = Request {
        action: command.action.clone(),
        parameters,
        noop: command.noop,
        timeout_ms: command.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        note: command.note.clone(),
        output_limit: if targets.len() > 1000 { OUTPUT_LIMIT_MANY } else { OUTPUT_LIMIT },
    };
    let run = Run { id: fleet::new_run_id(), request, targets, plan };
    carry_out(&run, &identity, &context).await
}

/// Carries out the run. The first interrupt stops new starts; the second one leaves, the third one at once.
async fn carry_out(run: &Run, identity: &Identity, context: &Context) -> Result<Exit, Failure> {
    let stop = Stop::default();
    let began = Instant::now();
    let progress = std::cell::RefCell::new(progress::Progress::new(run));
    let running = fleet::run(run, identity, &stop, |event| progress.borrow_mut().event(&event));
    tokio::pin!(running);
    // One listener for all interrupts: the next one may come before the answer to this one is printed, and must not be lost.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for interrupts: {error}")))?;
    let mut is_stopping = false;
    let report = loop {
        tokio::select! {
            report = &mut running => break report,
            Some(()) = interrupts.recv() => {
                if is_stopping {
                    return Ok(leave(run, identity, context, running, &progress, &mut interrupts).await);
                }
                is_stopping = true;
                stop.stop();
            }
        }
    };
    progress.borrow().finish();
    Ok(report::print(run, &report, began.elapsed(), context))
}

/// Leaves a run that goes on, and says which executions it started: an instance that has not answered the start yet is
/// asked for its execution of this run.
async fn leave(
    run: &Run,
    identity: &Identity,
    context: &Context,
    running: std::pin::Pin<&mut impl Future<Output = fleet::Report>>,
    progress: &std::cell::RefCell<progress::Progress<'_>>,
    interrupts: &mut Signal,
) -> Exit {
    let unknown: Vec<Instance> =
        progress.borrow().unanswered().into_iter().map(|target| run.targets[target].clone()).collect();
    let look_up = across(&unknown, identity, DEFAULT_PARALLEL, async |agent| started(agent, run).await);
    let found = tokio::select! {
        found = tokio::time::timeout(LOOK_UP, look_up) => found.unwrap_or_default(),
        // Answers that still come are noted by the progress.
        _ = running => Vec::new(),
        _ = interrupts.recv() => Vec::new(),
    };
    let mut progress = progress.borrow_mut();
    for (instance, execution) in found {
        if let Ok(Some(execution)) = execution {
            progress.found(instance.id(), execution);
        }
    }
    if context.json {
        outln!("{}", show::json(&progress.left_json()));
    }
    progress.detach();
    Exit::Interrupted
}

/// The execution of `run` on this agent. A start that is on its way is waited for: the caller bounds how long.
async fn started(agent: &Agent, run: &Run) -> Result<Option<ExecutionId>, Error> {
    let query = ExecutionQuery { run: Some(run.id.clone()), limit: Some(1), ..ExecutionQuery::default() };
    loop {
        if let Some(execution) = agent.executions(&query).await?.items.pop() {
            return Ok(Some(execution.id));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The action as the first instance that answers has it.
async fn schema(action: &ActionRef, targets: &[Instance], identity: &Identity) -> Result<ActionView, Failure> {
    let mut failed: Vec<Error> = Vec::new();
    for some in targets[..targets.len().min(SCHEMA_MOST)].chunks(SCHEMA_TRIES) {
        // The first that answers is enough: one that hangs holds nobody up.
        let mut answers: FuturesUnordered<_> =
            some.iter().map(|instance| async move { Agent::new(instance, identity).action(action).await }).collect();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(view) if view.action.reference() == *action => return Ok(view),
                Ok(_) => {}
                Err(error) => failed.push(error),
            }
        }
    }
    let missing = |error: &&Error| matches!(&error.kind, Kind::Problem(p) if matches!(p.code, Code::UnknownAction | Code::UnknownPack | Code::NotFound));
    if let Some(error) = failed.iter().find(missing) {
        let there: Vec<Instance> = targets.iter().filter(|t| *t.id() == error.instance).cloned().collect();
        let answers = across(&there, identity, 1, async |agent| agent.actions().await).await;
        let known: Vec<ActionRef> =
            answers.into_iter().filter_map(|(_, a)| a.ok()).flatten().map(|view| view.action.reference()).collect();
        return Err(actions::unknown(action, known.iter()));
    }
    Err(match failed.iter().find(|error| error.kind.is_refusal()).or(failed.first()) {
        Some(first) => nobody(&failed, first),
        None => Failure::new(Exit::Unreachable, "the instances answered about another action than was asked for"),
    })
}

/// Everything that can be wrong with the request, at once, before anything is sent.
async fn check(command: &RunCommand, action: &Action) -> Result<Map<String, Value>, Failure> {
    let name = &command.action;
    let mut problems = Vec::new();
    if !action.enabled {
        problems.push("it is disabled".to_owned());
    }
    if command.noop && !action.noop {
        problems.push("it does not understand --noop: it would do what it does".to_owned());
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
    let (mut given, unread) = params::collect(&command.parameters, command.params_file.as_deref(), &action.parameters)?;
    params::ask_for_secrets(&action.parameters, &mut given).await?;
    let errors = parameters::errors(&action.parameters, &given, &unread);
    problems.extend(errors.iter().map(|error| show::visible(&error.to_string())));
    if problems.is_empty() {
        return Ok(given);
    }
    let message = format!("{name} cannot be run like this:\n  {}", problems.join("\n  "));
    Err(Failure::new(Exit::Usage, message).hint(format!("`bolt actions {name}` shows what it takes")))
}

/// Shows the plan of what changes instances, and asks. A script that named one instance is not asked: it has no terminal.
async fn agree(command: &RunCommand, action: &Action, plan: &Plan, targets: &[Instance]) -> Result<(), Failure> {
    let one = targets.len() < 2;
    if action.class == Class::Diagnostic || command.noop || (one && (command.yes || !terminal::can_ask())) {
        return Ok(());
    }
    err!("{}", describe(&command.action, action.class, plan, targets));
    if command.yes {
        return Ok(());
    }
    if !terminal::can_ask() {
        let message = format!("{} changes {}", command.action, show::counted(targets.len(), "instance"));
        return Err(
            Failure::new(Exit::Usage, message).hint("look at the plan above and add --yes, or try --noop first")
        );
    }
    match terminal::confirm("Go ahead?").await {
        Ok(true) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Ok(false) => Err(Failure::new(Exit::Usage, "not agreed to; nothing was done")),
        Err(e) => Err(Failure::new(Exit::Usage, format!("cannot ask: {e}")).hint("add --yes")),
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
        match plan.budget() {
            _ if targets.len() < 2 => "nothing else is changed".to_owned(),
            _ if batches.len() == 1 && plan.parallel() >= targets.len() =>
                "a failure stops none of the others".to_owned(),
            0 => "stops after the first failure".to_owned(),
            budget if budget >= targets.len() => "goes on whatever fails".to_owned(),
            budget => format!("stops when more than {budget} have failed"),
        }
    );
    for (number, batch) in (1..).zip(batches).take(20) {
        let ids: Vec<&str> = batch.targets.iter().map(|target| targets[*target].id().as_str()).collect();
        let name = if batch.name.is_empty() { String::new() } else { format!(" ({})", show::visible(&batch.name)) };
        text.push_str(&format!("  {number}.{name} {}\n", show::listed(&ids, 8)));
    }
    if batches.len() > 20 {
        text.push_str(&format!("  and {} more\n", batches.len() - 20));
    }
    text
}

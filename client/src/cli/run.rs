//! `bolt run`: runs an action on many instances.
//!
//! ```text
//!  select ─▶ the action's definition, kept or from an instance ─▶ bind all parameters ─▶ plan, and ask ─▶ run ─▶ report
//! ```
//!
//! Until the plan is confirmed, nothing but reads is sent.

mod args;
mod check;
mod definition;
mod detach;
mod params;
mod path;
mod prepare;
mod progress;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use packs_schema::agent::rest::ActionView;
use packs_schema::base::name::ExecutionId;
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::terminal;
use crate::connection::{Agent, ExecutionQuery};
use crate::definitions::Definitions;
use crate::error::Error;
use crate::fleet::DEFAULT_PARALLEL;
use crate::fleet::{self, Control, Event, Plan, Request, Run, across};
use crate::inventory::Instance;
use crate::outln;
use crate::show::{self, Mask};
use crate::tls::Identity;

pub(super) use args::RunCommand;
use args::View;

/// Time that instances have to say what they started, when the user detaches.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Pause between two of these requests.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(250);
/// Maximum number of bytes of each output stream that is fetched from each instance.
const OUTPUT_LIMIT: usize = 256 << 10;
/// The same for runs on more than a thousand instances.
const OUTPUT_LIMIT_MANY: usize = 8 << 10;

/// Runs `bolt run`.
pub(super) async fn run(command: RunCommand, context: Context) -> Result<Exit, Failure> {
    if command.select.select.reads_stdin() && command.params_file.as_deref() == Some(Path::new("-")) {
        return Err(Failure::new(Exit::Usage, "--on - and --params-file - both read standard input"));
    }
    let targets = context.select_explicit("run", &command.select).await.map_err(|failure| match failure.hint {
        Some(hint) if command.how.at_once && command.select.is_empty() => {
            let hint = format!("{hint}; --at-once (--all) sets the order, not the instances");
            Failure { hint: Some(hint), ..failure }
        }
        _ => failure,
    })?;
    prepare::check_canary(command.how.canary, targets.len())?;
    let identity = context.identity()?;
    let mut definitions = Definitions::open(context.config());
    let (ActionView { action, .. }, parameters) =
        definition::find(&command, &targets, &identity, &mut definitions, context.json).await?;
    let mask = Mask::of_parameters(&action.parameters, &parameters);
    let facts: Vec<&Facts> = targets.iter().map(|target| &target.facts).collect();
    let plan = Plan::new(&facts, &command.how.strategy(prepare::changes(&command, &action)));
    if command.how.detach {
        detach::check(&plan)?;
    }
    let check = check::prepare(&command.how, &targets, &identity).await?;
    prepare::confirm(&command, &action, &plan, &targets).await?;
    let request = Request {
        action: command.action.action.clone(),
        version: command.action.version.clone(),
        // A run that was not confirmed must not change an instance that has another version.
        class: (action.class == Class::Diagnostic && !command.noop).then_some(action.class),
        parameters,
        noop: command.noop,
        timeout_ms: command.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        note: command.note.clone(),
        output_limit: if targets.len() > 1000 { OUTPUT_LIMIT_MANY } else { OUTPUT_LIMIT },
    };
    let run = Run { id: fleet::new_run_id(), request, targets, plan, check };
    if command.how.detach {
        return Ok(detach::start(&run, &identity, &context, &mask).await);
    }
    let is_diagnostic = action.class == Class::Diagnostic;
    let progress = progress::Progress::new(&run, command.view.quiet, is_diagnostic, &mask);
    carry_out(&run, progress, &identity, &context, &command.view, &mask, &mut definitions).await
}

/// Carries out the run. The first interrupt stops new starts; the second one detaches; the third one detaches at once.
async fn carry_out(
    run: &Run,
    progress: progress::Progress<'_>,
    identity: &Identity,
    context: &Context,
    view: &View,
    mask: &Mask,
    definitions: &mut Definitions,
) -> Result<Exit, Failure> {
    let control = Control::default();
    let began = Instant::now();
    let progress = std::cell::RefCell::new(progress);
    let (ask, mut questions) = mpsc::unbounded_channel();
    let running = fleet::run(run, identity, &control, |event| {
        progress.borrow_mut().event(&event);
        if let Event::Confirm { .. } = event {
            let _ = ask.send(());
        }
    });
    tokio::pin!(running);
    // A single listener for all interrupts: the next may come before the answer to this one is printed, and must not be lost.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for interrupts: {error}")))?;
    let mut is_stopping = false;
    let mut report = loop {
        tokio::select! {
            report = &mut running => break report,
            Some(()) = interrupts.recv() => {
                if is_stopping {
                    return Ok(detach(run, identity, context, running, &progress, &mut interrupts).await);
                }
                is_stopping = true;
                control.stop();
            }
            Some(()) = questions.recv() => match terminal::confirm("Begin the next batch?").await {
                Ok(may_begin) => control.confirm(may_begin),
                Err(_) => {
                    is_stopping = true;
                    control.stop();
                }
            },
        }
    };
    progress.borrow().finish();
    let took = began.elapsed();
    report::mask(&mut report, mask);
    // Another version may mark other parameters as secret.
    for view in definition::learn(run, &report, identity, definitions).await {
        report::mask(&mut report, &Mask::of_parameters(&view.action.parameters, &run.request.parameters));
    }
    Ok(report::print(run, &report, took, view, context))
}

/// Detaches from a run whose executions go on, and prints which they are: an instance that has not answered the start yet is
/// asked for its execution of this run.
async fn detach(
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
        // The progress records answers that still arrive.
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

/// Returns the execution of `run` on this agent. Waits for a start that is on its way; the caller bounds the time.
async fn started(agent: &Agent, run: &Run) -> Result<Option<ExecutionId>, Error> {
    let query = ExecutionQuery { run: Some(run.id.clone()), limit: Some(1), ..ExecutionQuery::default() };
    loop {
        if let Some(execution) = agent.executions(&query).await?.items.pop() {
            return Ok(Some(execution.id));
        }
        tokio::time::sleep(LOOK_UP_AGAIN).await;
    }
}

//! Carries out a run with its progress and interrupts, and prints the report.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use packs_schema::base::name::{ExecutionId, InstanceId};
use packs_schema::pack::action::Class;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::args::View;
use super::progress::Progress;
use super::report;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::connection::{Agent, ExecutionQuery};
use crate::definitions::Definitions;
use crate::error::Error;
use crate::fleet::{self, Control, DEFAULT_PARALLEL, Event, Observer, Run, across};
use crate::inventory::Instance;
use crate::outln;
use crate::runner::{self, Job, Work};
use crate::show;
use crate::tls::Identity;

/// Time that instances have to say what they started, when the user detaches.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Pause between two of these requests.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(250);

/// Run that a command carries out.
pub(super) struct Wanted<'a> {
    pub(super) job: Job,
    pub(super) view: &'a View,
}

/// Passes the progress on to the display.
struct Display<'a> {
    progress: &'a RefCell<Progress<'a>>,
    ask: mpsc::UnboundedSender<()>,
    began: Instant,
    took: Duration,
    /// True once another client has taken over the run, which was reported.
    is_lost: bool,
}

impl Observer for Display<'_> {
    fn event(&mut self, event: Event) {
        self.progress.borrow_mut().event(&event);
        if let Event::Confirm { .. } = event {
            // Without a receiver, the user has detached.
            let _ = self.ask.send(());
        }
    }
}

impl runner::View for Display<'_> {
    fn finished(&mut self) {
        self.took = self.began.elapsed();
        self.progress.borrow().finish();
    }

    fn lost(&mut self) {
        self.is_lost = true;
    }
}

/// Carries out the run. The first interrupt stops new starts; the second one detaches; the third one detaches at once.
pub(super) async fn carry_out(
    wanted: Wanted<'_>,
    identity: &Identity,
    context: &Context,
    definitions: &mut Definitions,
) -> Result<Exit, Failure> {
    let Wanted { job: Job { run, class, mask, earlier, recorder }, view } = wanted;
    let control = Control::default();
    let ended = earlier.before.iter().filter(|before| matches!(before, fleet::Before::Ended(_))).count();
    let progress = Progress::new(&run, view.quiet, class == Class::Diagnostic, &mask);
    let progress = RefCell::new(progress.resumed(ended, recorder.is_some()));
    let (ask, mut questions) = mpsc::unbounded_channel();
    let mut display = Display { progress: &progress, ask, began: Instant::now(), took: Duration::ZERO, is_lost: false };
    // A single listener for all interrupts: the next may come before the answer to this one is printed, and must not be lost.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for interrupts: {error}")))?;
    let given_up = async {
        let mut is_stopping = false;
        loop {
            tokio::select! {
                Some(()) = interrupts.recv() => {
                    if is_stopping {
                        return look_up(&run, identity, &progress, &mut interrupts).await;
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
        }
    };
    let work = Work { run: &run, mask: &mask, earlier, recorder };
    match runner::carry_out(work, identity, definitions, &control, &mut display, given_up).await {
        Ok(report) => {
            let took = display.took;
            let exit = report::print(&run, &report, took, view, context);
            Ok(if display.is_lost && exit == Exit::Interrupted { Exit::Failed } else { exit })
        }
        Err(found) => {
            detach(&progress, found, context);
            Ok(Exit::Interrupted)
        }
    }
}

/// Asks the instances that have not answered the start yet for their execution of this run.
async fn look_up(
    run: &Run,
    identity: &Identity,
    progress: &RefCell<Progress<'_>>,
    interrupts: &mut Signal,
) -> Vec<(InstanceId, ExecutionId)> {
    let unknown: Vec<Instance> =
        progress.borrow().unanswered().into_iter().map(|target| run.targets[target].clone()).collect();
    let asked = across(&unknown, identity, DEFAULT_PARALLEL, async |agent| started(agent, run).await);
    let found = tokio::select! {
        found = tokio::time::timeout(LOOK_UP, asked) => found.unwrap_or_default(),
        _ = interrupts.recv() => Vec::new(),
    };
    let known = |(instance, answer): (Instance, Result<Option<ExecutionId>, Error>)| {
        Some((instance.id().clone(), answer.ok()??))
    };
    found.into_iter().filter_map(known).collect()
}

/// Detaches from a run whose executions go on, and prints which they are.
fn detach(progress: &RefCell<Progress<'_>>, found: Vec<(InstanceId, ExecutionId)>, context: &Context) {
    let mut progress = progress.borrow_mut();
    for (instance, execution) in found {
        progress.found(&instance, execution);
    }
    if context.json {
        outln!("{}", show::json(&progress.left_json()));
    }
    progress.detach();
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

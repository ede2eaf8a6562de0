//! Carries out a run with its progress, its record and interrupts, and prints the report.

use std::cell::RefCell;
use std::pin::Pin;
use std::time::{Duration, Instant};

use packs_schema::base::name::ExecutionId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::args::View;
use super::progress::Progress;
use super::{definition, report};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::mask::mask_execution;
use crate::cli::terminal;
use crate::connection::{Agent, ExecutionQuery};
use crate::definitions::Definitions;
use crate::error::Error;
use crate::fleet::{self, Control, DEFAULT_PARALLEL, Earlier, Ending, Event, Observer, Report, Run, Stopped, across};
use crate::inventory::Instance;
use crate::outln;
use crate::runs::{Entry, Recorder};
use crate::show::when::now_ms;
use crate::show::{self, Mask};
use crate::tls::Identity;

/// Time that instances have to say what they started, when the user detaches.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Pause between two of these requests.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(250);

/// Run, and what a command knows of it.
pub(super) struct Wanted<'a> {
    pub(super) run: &'a Run,
    /// Part of it that an earlier client has done.
    pub(super) earlier: Earlier,
    pub(super) is_diagnostic: bool,
    /// Values that are masked in all that is printed or recorded.
    pub(super) mask: &'a Mask,
    pub(super) view: &'a View,
    /// Record of the run; `None` if it is not recorded.
    pub(super) recorder: Option<Recorder>,
}

/// Passes the progress on to the display and the record.
struct Observing<'a> {
    progress: &'a RefCell<Progress<'a>>,
    recorder: Option<&'a Recorder>,
    mask: &'a Mask,
    ask: mpsc::UnboundedSender<()>,
}

impl Observer for Observing<'_> {
    fn event(&mut self, event: Event) {
        self.progress.borrow_mut().event(&event);
        if let Some(recorder) = self.recorder {
            recorder.event(&event);
        }
        if let Event::Confirm { .. } = event {
            // Without a receiver, the user has detached.
            let _ = self.ask.send(());
        }
    }

    fn ended(&mut self, target: usize, ending: &Ending) {
        if let Some(recorder) = self.recorder {
            recorder.ended(
                target,
                ending,
                |execution| mask_execution(execution, self.mask),
                |text| self.mask.text(text),
            );
        }
    }
}

/// Carries out the run. The first interrupt stops new starts; the second one detaches; the third one detaches at once.
pub(super) async fn carry_out(
    wanted: Wanted<'_>,
    identity: &Identity,
    context: &Context,
    definitions: &mut Definitions,
) -> Result<Exit, Failure> {
    let Wanted { run, earlier, is_diagnostic, mask, view, recorder } = wanted;
    let control = Control::default();
    let began = Instant::now();
    let ended = earlier.before.iter().filter(|before| matches!(before, fleet::Before::Ended(_))).count();
    let progress = RefCell::new(Progress::new(run, view.quiet, is_diagnostic, mask).resumed(ended, recorder.is_some()));
    let (ask, mut questions) = mpsc::unbounded_channel();
    let observing = Observing { progress: &progress, recorder: recorder.as_ref(), mask, ask };
    let mut running = Box::pin(fleet::resume(run, earlier, identity, &control, observing));
    // A single listener for all interrupts: the next may come before the answer to this one is printed, and must not be lost.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for interrupts: {error}")))?;
    let mut is_stopping = false;
    let mut report = loop {
        tokio::select! {
            report = &mut running => break report,
            Some(()) = interrupts.recv() => {
                if is_stopping {
                    let exit = detach(run, identity, context, running.as_mut(), &progress, &mut interrupts).await;
                    drop(running);
                    close(recorder, None).await;
                    return Ok(exit);
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
    drop(running);
    progress.borrow().finish();
    let took = began.elapsed();
    close(recorder, Some(report.stopped)).await;
    report::mask(&mut report, mask);
    // Another version may mark other parameters as secret.
    for view in definition::learn(run, &report, identity, definitions).await {
        report::mask(&mut report, &Mask::of_parameters(&view.action.parameters, &run.request.parameters));
    }
    Ok(report::print(run, &report, took, view, context))
}

/// Writes the rest of the record, with the end of the run: `Some(why it was stopped)`. Errors of the record have been reported.
pub(super) async fn close(recorder: Option<Recorder>, end: Option<Option<Stopped>>) {
    let Some(recorder) = recorder else { return };
    if let Some(stopped) = end {
        recorder.add(Entry::Done { at_ms: now_ms(), stopped });
    }
    let _ = recorder.finish().await;
}

/// Detaches from a run whose executions go on, and prints which they are: an instance that has not answered the start yet is
/// asked for its execution of this run.
async fn detach(
    run: &Run,
    identity: &Identity,
    context: &Context,
    running: Pin<&mut impl Future<Output = Report>>,
    progress: &RefCell<Progress<'_>>,
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

//! Carries out a run with its progress and interrupts, and prints the report.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use packs_schema::base::name::{ExecutionId, InstanceId};
use packs_schema::pack::action::Class;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::args::View;
use super::output_dir::OutputDir;
use super::progress::Progress;
use super::{events, report};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::connection::{Agent, ExecutionQuery};
use crate::definitions::Definitions;
use crate::error::Error;
use crate::fleet::{Control, DEFAULT_PARALLEL, Ending, Event, Observer, Run, Stopped, across};
use crate::inventory::Instance;
use crate::outln;
use crate::runner::{self, Job, Work};
use crate::show::{self, Mask};
use crate::tls::Identity;

/// Time that instances have to say what they started, when the user detaches.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Pause between two of these requests.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(250);

/// Run that a command carries out.
pub(super) struct Wanted<'a> {
    pub(super) job: Job,
    /// Files of `--output-dir`.
    pub(super) files: Option<OutputDir>,
    pub(super) view: &'a View,
}

/// Passes the progress on to the display, to the files of `--output-dir` and to the lines of `--ndjson`.
struct Display<'a> {
    run: &'a Run,
    mask: &'a Mask,
    progress: &'a RefCell<Progress<'a>>,
    files: &'a RefCell<Option<OutputDir>>,
    lines: Option<Lines<'a>>,
    /// Entry of the instance whose end is reported next, for the lines.
    entry: Option<Value>,
    ask: mpsc::UnboundedSender<()>,
    began: Instant,
    took: Duration,
    /// True once another client has taken over the run, which was reported.
    is_lost: bool,
}

/// Standard output for lines of which the reader may go away: then no further instance starts.
struct Lines<'a> {
    control: &'a Control,
    is_closed: bool,
}

impl Lines<'_> {
    fn print(&mut self, object: Value) {
        if !self.is_closed && show::try_stdout(format_args!("{}\n", events::line(object))).is_err() {
            self.is_closed = true;
            let _ = show::try_stderr(format_args!("bolt: standard output is closed: no further instance starts\n"));
            self.control.stop();
        }
    }
}

impl Observer for Display<'_> {
    fn event(&mut self, event: Event) {
        self.progress.borrow_mut().event(&event);
        if let Some(lines) = &mut self.lines {
            lines.print(events::object(self.run, &event, self.entry.take(), self.mask));
        }
        if let Event::Confirm { .. } = event {
            // Without a receiver, the user has detached.
            let _ = self.ask.send(());
        }
    }

    fn ended(&mut self, target: usize, ending: &Ending) {
        self.progress.borrow_mut().outcome(ending.outcome());
        if self.lines.is_some() {
            self.entry = Some(report::entry(self.run.targets[target].id(), ending, self.mask));
        }
    }

    fn keep(&mut self, target: usize, mut ending: Ending) -> Ending {
        if let Some(files) = &mut *self.files.borrow_mut() {
            runner::mask_ending(&mut ending, self.mask);
            files.write(self.run.targets[target].id(), &ending);
            if let Ending::Ended(_, output) = &mut ending {
                output.shorten(runner::output_limit(self.run.targets.len()));
            }
        }
        ending
    }
}

impl runner::View for Display<'_> {
    fn finished(&mut self) {
        self.took = self.began.elapsed();
        self.progress.borrow_mut().finish();
    }

    fn masked(&mut self, mask: &Mask) {
        if let Some(files) = &mut *self.files.borrow_mut() {
            files.mask(mask);
        }
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
    let Wanted { job: Job { run, class, mask, earlier, recorder }, files, view } = wanted;
    let control = Control::default();
    let is_diagnostic = class == Class::Diagnostic;
    let colored = context.colored_if(true);
    let progress =
        Progress::new(&run, &earlier, view.quiet, is_diagnostic, &mask, colored).recorded(recorder.is_some());
    // The first one after an interval: a tick that is due at once takes a millisecond, the resolution of timers.
    let interval = progress.interval();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (progress, files) = (RefCell::new(progress), RefCell::new(files));
    let mut lines = view.ndjson.then_some(Lines { control: &control, is_closed: false });
    if let Some(lines) = &mut lines {
        lines.print(events::begun(&run));
    }
    let (ask, mut questions) = mpsc::unbounded_channel();
    let mut display = Display {
        run: &run,
        mask: &mask,
        progress: &progress,
        files: &files,
        lines,
        entry: None,
        ask,
        began: Instant::now(),
        took: Duration::ZERO,
        is_lost: false,
    };
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
                        // The interrupt that answered the question is not a second one.
                        let _ = interrupts.recv().now_or_never();
                        is_stopping = true;
                        control.stop();
                    }
                },
                _ = ticks.tick() => progress.borrow_mut().tick(),
            }
        }
    };
    let work = Work { run: &run, mask: &mask, earlier, recorder };
    match runner::carry_out(work, identity, definitions, &control, &mut display, given_up).await {
        Ok(report) => {
            let took = display.took;
            let unwritten = files.take().and_then(|mut files| files.finish(&run, report.stopped));
            let exit = report::print(&run, &report, took, view, context);
            Ok(match exit {
                Exit::Interrupted if display.is_lost => Exit::Failed,
                Exit::Success => unwritten.unwrap_or(exit),
                _ => exit,
            })
        }
        Err(found) => {
            files.take().map(|mut files| files.finish(&run, Some(Stopped::Asked)));
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

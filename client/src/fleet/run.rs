//! Carries out a run: starts what the plan allows, and waits for what was started.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::check::check;
use super::control::Control;
use super::fence::Fence;
use super::outcome::Stopped;
use super::progress::{Before, Progress, Step};
use super::start::{Flight, Target, start};
use super::{Ending, Event, Report, Run};
use crate::connection::max_open;
use crate::error::{Error, Kind};
use crate::tls::Identity;

/// Error of an instance that an earlier client has asked, with no known answer, and this one has not asked.
const NEVER_ANSWERED: &str = "it was asked to start, and its answer is not known";

/// Receives the progress of a run. A closure that takes [`Event`]s is one.
pub trait Observer {
    /// Something has happened.
    fn event(&mut self, event: Event);

    /// Returns what gives permission for each start; `None` if no other client can take over the run.
    fn fence(&self) -> Option<Arc<dyn Fence>> {
        None
    }

    /// An instance has ended; [`Event::Ended`] follows.
    fn ended(&mut self, _target: usize, _ending: &Ending) {}

    /// Returns what the report keeps of the ending of an instance: an observer that has stored its output may shorten it.
    fn keep(&mut self, _target: usize, ending: Ending) -> Ending {
        ending
    }
}

impl<F: FnMut(Event)> Observer for F {
    fn event(&mut self, event: Event) {
        self(event);
    }
}

/// Part of a run that an earlier client has done.
#[derive(Debug, Default)]
pub struct Earlier {
    /// State of each target.
    pub before: Vec<Before>,
    /// Ending of each target that has one.
    pub endings: Vec<Option<Ending>>,
    /// Number of batches whose check has passed.
    pub checked: usize,
}

/// Carries out `run` and reports to `observer`. Dropping the future leaves started executions running.
pub async fn run(run: &Run, identity: &Identity, control: &Control, observer: impl Observer) -> Report {
    resume(run, Earlier::default(), identity, control, observer).await
}

/// Goes on with a run of which another client has done a part.
pub async fn resume(
    run: &Run,
    earlier: Earlier,
    identity: &Identity,
    control: &Control,
    mut observer: impl Observer,
) -> Report {
    let began = Instant::now();
    let Earlier { before, mut endings, checked } = earlier;
    let mut progress = Progress::resume(&run.plan, run.seed(), &before, checked);
    let mut listener = control.listen();
    let mut flights = Flights::new(run, identity, observer.fence());
    endings.resize_with(run.targets.len(), || None);
    let mut left: Vec<Flight> =
        before.iter().zip(&endings).map(|(before, ending)| Flight::left(*before, ending.as_ref())).collect();
    let mut checking = None;
    loop {
        if listener.is_stopped() && progress.stopped().is_none() {
            progress.stop();
            observer.event(Event::Stopping { in_flight: progress.in_flight() });
        }
        let until = match progress.next(began.elapsed()) {
            Step::Start { target, first_of } => {
                if let Some(batch) = first_of {
                    observer.event(Event::BatchStarted { batch });
                }
                observer.event(Event::Starting { target });
                flights.start(target, left.get_mut(target).map(std::mem::take).unwrap_or_default());
                continue;
            }
            Step::Check { batch } => {
                // Instances on which nothing ran have been counted against their own budget.
                let ran = |target: &usize| matches!(endings[*target], Some(Ending::Ended(..)));
                let targets: Vec<usize> = run.plan.batches()[batch].targets.iter().copied().filter(ran).collect();
                observer.event(Event::CheckStarted { batch, targets: targets.len() });
                checking = run.check.as_ref().map(|wanted| Box::pin(check(run, wanted, targets, identity)));
                if checking.is_none() {
                    progress.checked(0);
                }
                continue;
            }
            Step::Confirm { batch } => {
                listener.forget_answers();
                observer.event(Event::Confirm { batch });
                continue;
            }
            Step::Pause { time } => {
                observer.event(Event::Pausing { time });
                continue;
            }
            Step::Wait { until } => until,
            Step::Done => break,
        };
        let sleep = pin!(async {
            match until {
                Some(until) => tokio::time::sleep_until(began + until).await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            event = flights.next(&mut observer) => {
                let (target, ending) = event;
                let is_asked = !matches!(ending, Ending::NotStarted);
                if !is_asked && progress.stopped().is_none() {
                    // Not a failure: another client has the run.
                    progress.stop();
                    observer.event(Event::Stopping { in_flight: progress.in_flight() });
                }
                observer.ended(target, &ending);
                let ending = match is_asked {
                    true => ending,
                    false => endings[target].take().unwrap_or_else(|| unasked(run, &before, target)),
                };
                let outcome = ending.outcome();
                observer.event(Event::Ended { target, state: ending.state(), succeeded: ending.succeeded() });
                endings[target] = Some(observer.keep(target, ending));
                if let Some(stopped) = progress.finished(outcome) {
                    observer.event(exceeded(run, &progress, stopped));
                }
            }
            failed = async { checking.as_mut().expect("checked before").await }, if checking.is_some() => {
                checking = None;
                let (batch, count) = (progress.batch(), failed.len());
                let budget = run.plan.max_check_failures(batch).unwrap_or(0);
                let stopped = progress.checked(count);
                observer.event(Event::CheckEnded { batch, failed, has_passed: stopped.is_none() });
                if let Some(stopped) = stopped {
                    observer.event(Event::BudgetExceeded { stopped, count, budget });
                }
            }
            () = listener.changed() => {
                if let Some(may_begin) = listener.take_answer() {
                    progress.confirmed(may_begin);
                }
            }
            () = sleep => {}
        }
    }
    let endings = endings.into_iter().enumerate();
    let endings = endings.map(|(target, ending)| ending.unwrap_or_else(|| unasked(run, &before, target))).collect();
    Report { endings, stopped: progress.stopped() }
}

fn exceeded(run: &Run, progress: &Progress<'_>, stopped: Stopped) -> Event {
    let (count, budget) = match stopped {
        Stopped::Unreachable => (progress.unreachable(), run.plan.max_unreachable()),
        Stopped::BatchFailures => (progress.batch_failures(), run.plan.max_batch_failures(progress.batch())),
        _ => (progress.failures(), run.plan.max_failures()),
    };
    Event::BudgetExceeded { stopped, count, budget }
}

/// Targets in flight, each in a task of its own.
struct Flights<'a> {
    run: &'a Run,
    identity: &'a Identity,
    tasks: JoinSet<Option<Ending>>,
    targets: HashMap<Id, usize>,
    /// Permission for each start; `None`: no other client can take over the run.
    fence: Option<Arc<dyn Fence>>,
    /// Connections: each flight holds one while it waits. Those beyond wait without one.
    connections: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl<'a> Flights<'a> {
    fn new(run: &'a Run, identity: &'a Identity, fence: Option<Arc<dyn Fence>>) -> Flights<'a> {
        let (sender, events) = mpsc::unbounded_channel();
        let connections = Arc::new(Semaphore::new(max_open().min(Semaphore::MAX_PERMITS)));
        Flights { run, identity, tasks: JoinSet::new(), targets: HashMap::new(), fence, connections, sender, events }
    }

    /// Starts a target, of which an earlier client may have `left` an execution.
    fn start(&mut self, target: usize, left: Flight) {
        let flight = Target::new(self.run, target);
        let (identity, sender, connections) = (self.identity.clone(), self.sender.clone(), self.connections.clone());
        let fence = self.fence.clone();
        let flight = async move {
            // Never closed.
            let _connection = connections.acquire_owned().await.ok();
            if let Some(fence) = fence
                && !fence.may_start().await
            {
                return Some(Ending::NotStarted);
            }
            start(flight, left, identity, sender).await
        };
        self.targets.insert(self.tasks.spawn(flight).id(), target);
    }

    /// Returns the next target that ends. Events that it sent before come first.
    async fn next(&mut self, observer: &mut impl Observer) -> (usize, Ending) {
        loop {
            tokio::select! {
                Some(event) = self.events.recv() => observer.event(event),
                Some(joined) = self.tasks.join_next_with_id() => {
                    while let Ok(event) = self.events.try_recv() {
                        observer.event(event);
                    }
                    if let Some(ended) = self.ended(joined) {
                        return ended;
                    }
                }
                // The sender lives in this value: the first branch waits.
                else => std::future::pending::<()>().await,
            }
        }
    }

    fn ended(&mut self, joined: Result<(Id, Option<Ending>), JoinError>) -> Option<(usize, Ending)> {
        let (task, ending) = match joined {
            Ok((task, ending)) => (task, ending),
            Err(failed) => (failed.id(), None),
        };
        let target = self.targets.remove(&task)?;
        Some((target, ending.unwrap_or_else(|| panicked(self.run, target))))
    }
}

/// Returns the ending of a task that panicked: a fault of this program, and still a named ending.
fn panicked(run: &Run, target: usize) -> Ending {
    unknown(run, target, Kind::Protocol("this program failed while it waited".to_owned()))
}

/// Returns the ending of an instance that this client has not asked.
fn unasked(run: &Run, before: &[Before], target: usize) -> Ending {
    match before.get(target) {
        Some(Before::Started) => unknown(run, target, Kind::recorded("unknown", NEVER_ANSWERED)),
        _ => Ending::NotStarted,
    }
}

/// Returns the ending of an instance on which an execution may run.
fn unknown(run: &Run, target: usize, kind: Kind) -> Ending {
    let instance = &run.targets[target];
    let error = Error { instance: instance.id().clone(), address: instance.address.to_string(), kind };
    Ending::Unreachable { error, execution: None, may_run: true }
}

//! Carries out a run: starts what the plan allows, and waits for what was started.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::plan::{Progress, Stopped};
use super::start::start;
use super::{Ending, Event, Report, Run};
use crate::tls::Identity;

/// Handle that stops further starts of a run. Clones refer to the same run.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Stop {
        Stop(watch::Sender::new(false))
    }
}

impl Stop {
    /// Stops further starts; executions that were started go on.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Carries out `run` and calls `observe` for each event. Dropping the future leaves started executions running.
pub async fn run(run: &Run, identity: &Identity, stop: &Stop, mut observe: impl FnMut(Event)) -> Report {
    let mut progress = Progress::new(&run.plan);
    let mut endings: Vec<Option<Ending>> = run.targets.iter().map(|_| None).collect();
    let mut asked = stop.0.subscribe();
    let mut flights = JoinSet::new();
    let mut targets_of = std::collections::HashMap::new();
    let (sender, mut events) = mpsc::unbounded_channel();
    loop {
        if *asked.borrow_and_update() && progress.stopped().is_none() {
            progress.stop();
            observe(Event::Stopping { in_flight: progress.in_flight() });
        }
        while let Some((target, first)) = progress.next_start() {
            if let Some(batch) = first {
                observe(Event::BatchStarted { batch });
            }
            observe(Event::Starting { target });
            let instance = &run.targets[target];
            let create = run.request.for_instance(&run.id, instance.id());
            let flight = start(
                target,
                instance.clone(),
                identity.clone(),
                run.id.clone(),
                create,
                run.request.output_limit,
                sender.clone(),
            );
            let handle = flights.spawn(flight);
            targets_of.insert(handle.id(), target);
        }
        if flights.is_empty() {
            break;
        }
        tokio::select! {
            Some(event) = events.recv() => observe(event),
            Ok(()) = asked.changed() => {}
            Some(joined) = flights.join_next_with_id() => {
                // Events that it sent before its end come first.
                while let Ok(event) = events.try_recv() {
                    observe(event);
                }
                let (task, ending) = match joined {
                    Ok((task, ending)) => (task, ending),
                    Err(failed) => (failed.id(), None),
                };
                let Some(target) = targets_of.remove(&task) else { continue };
                let ending = ending.unwrap_or_else(|| panicked(run, target));
                let outcome = ending.outcome();
                observe(Event::Ended { target, state: ending.state(), succeeded: ending.succeeded() });
                endings[target] = Some(ending);
                if let Some(stopped) = progress.finished(outcome) {
                    let (count, budget) = match stopped {
                        Stopped::Unreachable => (progress.unreachable(), run.plan.max_unreachable()),
                        Stopped::Failures | Stopped::Asked => (progress.failures(), run.plan.max_failures()),
                    };
                    observe(Event::BudgetExceeded { stopped, count, budget });
                }
            }
        }
    }
    let endings = endings.into_iter().map(|ending| ending.unwrap_or(Ending::NotStarted)).collect();
    Report { endings, stopped: progress.stopped() }
}

/// Returns the ending of a task that panicked: a fault of this program, and still a named ending.
fn panicked(run: &Run, target: usize) -> Ending {
    let instance = &run.targets[target];
    let error = crate::error::Error {
        instance: instance.id().clone(),
        address: instance.address.to_string(),
        kind: crate::error::Kind::Protocol("this program failed while it waited".to_owned()),
    };
    Ending::Unreachable { error, execution: None, may_run: true }
}

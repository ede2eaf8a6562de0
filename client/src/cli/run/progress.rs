//! What goes on during a run, on standard error: a bar on a terminal, plain lines otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use packs_schema::base::name::{ExecutionId, InstanceId};
use serde_json::{Value, json};

use crate::errln;
use crate::fleet::{Event, Run, start_key};
use crate::show;

pub(super) struct Progress<'a> {
    run: &'a Run,
    bar: Option<ProgressBar>,
    in_flight: BTreeMap<usize, Option<ExecutionId>>,
    problems: BTreeMap<usize, String>,
    ended: usize,
    failed: usize,
}

impl Progress<'_> {
    pub(super) fn new(run: &Run) -> Progress<'_> {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(run.targets.len() as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Progress { run, bar, in_flight: BTreeMap::new(), problems: BTreeMap::new(), ended: 0, failed: 0 }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::BatchStarted { batch } => self.batch(*batch),
            Event::Starting { target } => {
                self.in_flight.insert(*target, None);
            }
            Event::Accepted { target, execution } => {
                self.in_flight.insert(*target, Some(execution.clone()));
            }
            Event::Retrying { target, problem } => {
                // Once for each instance and problem, however often it is tried.
                if self.problems.insert(*target, problem.clone()).as_ref() != Some(problem) {
                    let line = format!("{}: {} (trying again)", self.id(*target), show::visible(problem));
                    self.line(&line);
                }
            }
            Event::Ended { target, state, succeeded } => {
                self.in_flight.remove(target);
                self.ended += 1;
                self.failed += usize::from(!succeeded);
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
                if self.bar.is_none() || !succeeded {
                    let line = format!("{}: {state}", self.id(*target));
                    self.line(&line);
                }
            }
            Event::BudgetExceeded { failures, budget } if self.is_more_to_start() => {
                self.line(&format!("{failures} failed and at most {budget} may: nothing more is started"));
            }
            Event::BudgetExceeded { .. } => {}
            Event::Stopping { in_flight } => self.stopping(*in_flight),
        }
        self.message();
    }

    /// Instances that were asked to start and have not answered.
    pub(super) fn unanswered(&self) -> Vec<usize> {
        self.in_flight.iter().filter(|(_, execution)| execution.is_none()).map(|(target, _)| *target).collect()
    }

    /// Notes an execution that was looked up.
    pub(super) fn found(&mut self, instance: &InstanceId, execution: ExecutionId) {
        let target = self.run.targets.iter().position(|target| target.id() == instance);
        if let Some(known) = target.and_then(|target| self.in_flight.get_mut(&target)) {
            known.get_or_insert(execution);
        }
    }

    /// The user leaves; what was started goes on.
    pub(super) fn detach(&mut self) {
        self.clear();
        let still = show::counted(self.in_flight.len(), "instance");
        errln!("left; it goes on on {still}:");
        for (target, execution) in self.in_flight.iter().take(20) {
            let id = self.run.targets[*target].id();
            match execution {
                Some(execution) => errln!("  {id}: {execution}"),
                None => errln!(
                    "  {id}: has not answered; if it starts, it is the execution with the idempotency key {}",
                    start_key(&self.run.id, id)
                ),
            }
        }
        if self.in_flight.len() > 20 {
            errln!("  and {} more", self.in_flight.len() - 20);
        }
        errln!("look with: bolt ps --run {}; stop one with: bolt kill ID", self.run.id);
    }

    /// The same for programs.
    pub(super) fn left_json(&self) -> Value {
        let left = self.in_flight.iter().map(|(target, execution)| {
            let instance = self.run.targets[*target].id();
            let key = start_key(&self.run.id, instance);
            json!({ "instance": instance, "execution_id": execution, "idempotency_key": key.as_str() })
        });
        let left: Vec<Value> = left.collect();
        json!({ "run": self.run.id, "action": self.run.request.action, "stopped": "left", "left": left })
    }

    pub(super) fn finish(&self) {
        self.clear();
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn batch(&self, batch: usize) {
        let batches = self.run.plan.batches();
        if batches.len() > 1 && (batches[batch].targets.len() > 1 || !batches[batch].name.is_empty()) {
            let name = show::visible(&batches[batch].name);
            let colon = if name.is_empty() { "" } else { ": " };
            let count = show::counted(batches[batch].targets.len(), "instance");
            self.line(&format!("batch {} of {}{colon}{name}, {count}", batch + 1, batches.len()));
        }
    }

    fn stopping(&self, in_flight: usize) {
        let still = show::counted(in_flight, "instance");
        self.line(&format!("interrupted: nothing more is started; {still} still at it, waiting for the end"));
        self.line(&format!("interrupt again to leave it running; look with: bolt ps --run {}", self.run.id));
    }

    fn message(&self) {
        if let Some(bar) = &self.bar {
            let ids: Vec<&str> = self.in_flight.keys().take(4).map(|target| self.id(*target)).collect();
            let failed = if self.failed > 0 { format!("{} failed, ", self.failed) } else { String::new() };
            let more = if self.in_flight.len() > ids.len() { ", …" } else { "" };
            let running = match self.in_flight.len() {
                0 => String::new(),
                some => format!("{some} in flight: {}{more}", ids.join(", ")),
            };
            bar.set_message(format!("{failed}{running}"));
        }
    }

    fn is_more_to_start(&self) -> bool {
        self.ended + self.in_flight.len() < self.run.targets.len()
    }

    fn id(&self, target: usize) -> &str {
        self.run.targets[target].id().as_str()
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{line}")),
            None => errln!("{line}"),
        }
    }
}

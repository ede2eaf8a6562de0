//! Progress of a run, on standard error: a bar on a terminal, plain lines otherwise.
//!
//! At most [`LINES`] lines for each state, however many instances there are: the report groups and counts them all.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use packs_schema::base::name::{ExecutionId, InstanceId};
use serde_json::{Value, json};

use crate::errln;
use crate::fleet::Stopped;
use crate::fleet::{Event, Run, start_key};
use crate::show::{self, Mask};

/// Maximum number of lines about instances that end in the same state.
const LINES: usize = 20;

pub(super) struct Progress<'a> {
    run: &'a Run,
    quiet: bool,
    is_diagnostic: bool,
    /// Secrets of the request, which a problem may repeat.
    mask: &'a Mask,
    bar: Option<ProgressBar>,
    in_flight: BTreeMap<usize, Option<ExecutionId>>,
    problems: BTreeMap<usize, String>,
    /// Number of lines printed for each state.
    printed: BTreeMap<&'static str, usize>,
    ended: usize,
    is_recorded: bool,
    failed: usize,
    /// Target that was the last not to succeed.
    last_failed: Option<usize>,
}

impl<'a> Progress<'a> {
    /// With `quiet`, prints only what the user must answer or know to go on: interrupts and what was detached.
    pub(super) fn new(run: &'a Run, quiet: bool, is_diagnostic: bool, mask: &'a Mask) -> Progress<'a> {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(run.targets.len() as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Progress {
            run,
            quiet,
            is_diagnostic,
            mask,
            bar,
            in_flight: BTreeMap::new(),
            problems: BTreeMap::new(),
            printed: BTreeMap::new(),
            ended: 0,
            is_recorded: false,
            failed: 0,
            last_failed: None,
        }
    }

    /// Goes on where `ended` instances have ended already. `is_recorded`: the run can be resumed.
    pub(super) fn resumed(mut self, ended: usize, is_recorded: bool) -> Self {
        (self.ended, self.is_recorded) = (ended, is_recorded);
        if let Some(bar) = &self.bar {
            bar.inc(ended as u64);
        }
        self
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
                // Once for each instance and problem, however many attempts there are.
                if self.problems.insert(*target, problem.clone()).as_ref() != Some(problem) {
                    let line = format!("{}: {} (retrying)", self.id(*target), show::visible(&self.mask.text(problem)));
                    self.bounded("retried", &line);
                }
            }
            Event::Ended { target, state, succeeded } => {
                self.in_flight.remove(target);
                self.ended += 1;
                self.failed += usize::from(!succeeded);
                if !succeeded {
                    self.last_failed = Some(*target);
                }
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
                if self.bar.is_none() || !succeeded {
                    let line = format!("{}: {state}", self.id(*target));
                    self.bounded(state, &line);
                }
            }
            Event::CheckStarted { targets, .. } => {
                self.bounded("checks", &format!("checking {}", show::counted(*targets, "instance")));
            }
            Event::CheckEnded { failed, .. } => {
                for (target, state) in failed {
                    let line = format!("{}: check {state}", self.id(*target));
                    self.bounded("failed checks", &line);
                }
            }
            Event::Pausing { time } => {
                self.bounded("pauses", &format!("the next batch begins in {}", show::when::lasted(*time)));
            }
            Event::Confirm { batch } => self.ask(*batch),
            Event::BudgetExceeded { stopped: Stopped::Check, count, budget } => {
                self.line(&over_budget(Stopped::Check, *count, *budget, None, false));
            }
            Event::BudgetExceeded { stopped, count, budget } if self.is_more_to_start() => {
                let last = self.last_failed.map(|target| self.id(target));
                self.line(&over_budget(*stopped, *count, *budget, last, self.is_diagnostic));
            }
            Event::BudgetExceeded { .. } => {}
            Event::Stopping { in_flight } => self.stopping(*in_flight),
        }
        self.message();
    }

    /// Returns the instances that were asked to start and have not answered.
    pub(super) fn unanswered(&self) -> Vec<usize> {
        self.in_flight.iter().filter(|(_, execution)| execution.is_none()).map(|(target, _)| *target).collect()
    }

    /// Records an execution that was looked up.
    pub(super) fn found(&mut self, instance: &InstanceId, execution: ExecutionId) {
        let target = self.run.targets.iter().position(|target| target.id() == instance);
        if let Some(known) = target.and_then(|target| self.in_flight.get_mut(&target)) {
            known.get_or_insert(execution);
        }
    }

    /// Prints the executions that go on when the user detaches.
    pub(super) fn detach(&mut self) {
        self.clear();
        let still = show::counted(self.in_flight.len(), "instance");
        errln!("detached; still running on {still}:");
        for (target, execution) in self.in_flight.iter().take(20) {
            let id = self.run.targets[*target].id();
            match execution {
                Some(execution) => errln!("  {id}: {execution}"),
                None => errln!(
                    "  {id}: has not answered; if it starts, its execution has the idempotency key {}",
                    start_key(&self.run.id, id)
                ),
            }
        }
        if self.in_flight.len() > 20 {
            errln!("  and {} more", self.in_flight.len() - 20);
        }
        if self.is_recorded {
            errln!("go on with the run: bolt resume {}", self.run.id);
        }
        errln!("list them with: bolt ps --run {}; stop one with: bolt kill ID", self.run.id);
    }

    /// Returns the same for programs.
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

    fn batch(&mut self, batch: usize) {
        let batches = self.run.plan.batches();
        if !self.quiet && batches.len() > 1 && (batches[batch].targets.len() > 1 || !batches[batch].name.is_empty()) {
            let name = show::visible(&batches[batch].name);
            let colon = if name.is_empty() { "" } else { ": " };
            let count = show::counted(batches[batch].targets.len(), "instance");
            let line = format!("batch {} of {}{colon}{name}, {count}", batch + 1, batches.len());
            self.bounded("batches", &line);
        }
    }

    /// Prints what has happened so far and what would begin next. The question follows.
    fn ask(&self, batch: usize) {
        let next = &self.run.plan.batches()[batch];
        let name = if next.name.is_empty() { String::new() } else { format!(", {}", show::visible(&next.name)) };
        let count = show::counted(next.targets.len(), "instance");
        let so_far = format!("{} of {} ended, {} failed", self.ended, self.run.targets.len(), self.failed);
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
        }
        self.line(&format!(
            "{so_far}; next is batch {} of {}{name}: {count}",
            batch + 1,
            self.run.plan.batches().len()
        ));
    }

    fn stopping(&self, in_flight: usize) {
        let still = show::counted(in_flight, "instance");
        self.line(&format!("interrupted: no further instance starts; waiting for executions on {still} to end"));
        if self.is_recorded && self.is_more_to_start() {
            self.line(&format!("go on with the others later: bolt resume {}", self.run.id));
        }
        self.line(&format!(
            "interrupt again to detach and leave them running; list them with: bolt ps --run {}",
            self.run.id
        ));
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

    /// Prints `line`, unless there have been many of its `kind`.
    fn bounded(&mut self, kind: &'static str, line: &str) {
        if self.quiet {
            return;
        }
        let printed = self.printed.entry(kind).or_default();
        *printed += 1;
        match (*printed).cmp(&(LINES + 1)) {
            Ordering::Less => self.line(line),
            Ordering::Equal => {
                self.line(&format!("further lines ({kind}) are left out; the report at the end counts all"))
            }
            Ordering::Greater => {}
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{line}")),
            None => errln!("{line}"),
        }
    }
}

/// Says which budget stopped the run, and with which options the next run gets further. `last` is the instance that
/// exceeded it.
fn over_budget(stopped: Stopped, count: usize, budget: usize, last: Option<&str>, is_diagnostic: bool) -> String {
    let allowed = if budget == 0 { "none".to_owned() } else { budget.to_string() };
    let instances = show::counted(count, "instance");
    match stopped {
        Stopped::Unreachable => {
            let is = if count == 1 { "is" } else { "are" };
            let leave_out = match last {
                Some(id) if count == 1 => format!("leave it out (--where 'id != \"{id}\"')"),
                _ => "leave them out (--where)".to_owned(),
            };
            format!(
                "stopping: {instances} {is} unreachable, and --max-unreachable allows {allowed}\n\
                 hint: {leave_out}, or give --max-unreachable {count}"
            )
        }
        Stopped::BatchFailures => {
            format!("stopping: {instances} of this batch failed, and --max-batch-failures allows {allowed}")
        }
        Stopped::Check => {
            format!("stopping: the check failed on {instances}, and --max-check-failures allows {allowed}")
        }
        Stopped::Failures | Stopped::Declined | Stopped::Deadline | Stopped::Asked => {
            let hint =
                "\nhint: a diagnostic changes nothing: --max-failures 100% or --at-once runs it on the others as well";
            let hint = if is_diagnostic { hint } else { "" };
            format!("stopping: {instances} failed, and --max-failures allows {allowed}{hint}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_stops_says_which_option_stops_it() {
        assert_eq!(
            over_budget(Stopped::Unreachable, 1, 0, Some("i-0b21"), false),
            "stopping: 1 instance is unreachable, and --max-unreachable allows none\n\
             hint: leave it out (--where 'id != \"i-0b21\"'), or give --max-unreachable 1"
        );
        let failed = over_budget(Stopped::Failures, 3, 2, Some("i-1"), false);
        assert_eq!(failed, "stopping: 3 instances failed, and --max-failures allows 2");
        assert!(over_budget(Stopped::Failures, 1, 0, None, true).contains("--max-failures 100% or --at-once"));
    }
}

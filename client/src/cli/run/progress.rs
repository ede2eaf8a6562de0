//! Progress of a run, on standard error: a live view on a terminal, plain lines otherwise.
//!
//! At most [`LINES`] lines for each state, however many instances there are: the report groups and counts them all.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use packs_schema::base::name::{ExecutionId, InstanceId};
use serde_json::{Value, json};

use super::live::{self, Live};
use crate::errln;
use crate::fleet::{Before, Earlier, Event, Outcome, Run, Stopped, start_key};
use crate::show::{self, Mask};

/// Maximum number of lines about instances that end in the same state.
const LINES: usize = 20;
/// The same above the live view, which counts all.
const LINES_LIVE: usize = 5;
/// Time between two lines that say how far a run is, where there is no live view.
const HEARTBEAT: Duration = Duration::from_secs(30);

pub(super) struct Progress<'a> {
    run: &'a Run,
    quiet: bool,
    is_diagnostic: bool,
    /// Secrets of the request, which a problem may repeat.
    mask: &'a Mask,
    live: Option<Live<'a>>,
    began: Instant,
    /// Outcome of the target whose end is reported next.
    outcome: Outcome,
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
    /// Goes on with a run of which an earlier client has done a part. With `quiet`, prints only what the user must answer or know
    /// to go on: interrupts and what was detached. `colored`: the live view may use colours.
    pub(super) fn new(
        run: &'a Run,
        earlier: &Earlier,
        quiet: bool,
        is_diagnostic: bool,
        mask: &'a Mask,
        colored: bool,
    ) -> Progress<'a> {
        let has_ended = |before: &&Before| matches!(before, Before::Ended(_));
        Progress {
            run,
            quiet,
            is_diagnostic,
            mask,
            live: if quiet { None } else { Live::new(run, earlier, colored) },
            began: Instant::now(),
            outcome: Outcome::Failed,
            in_flight: BTreeMap::new(),
            problems: BTreeMap::new(),
            printed: BTreeMap::new(),
            ended: earlier.before.iter().filter(has_ended).count(),
            is_recorded: false,
            failed: 0,
            last_failed: None,
        }
    }

    /// The run can be resumed if it `is_recorded`.
    pub(super) fn recorded(self, is_recorded: bool) -> Self {
        Progress { is_recorded, ..self }
    }

    /// Time between two calls of [`Progress::tick`].
    pub(super) fn interval(&self) -> Duration {
        if self.live.is_some() { live::INTERVAL } else { HEARTBEAT }
    }

    /// Draws the live view, or says how far the run is.
    pub(super) fn tick(&mut self) {
        match &mut self.live {
            Some(live) => live.draw(),
            None if self.quiet => {}
            None => {
                let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
                let (all, in_flight) = (self.run.targets.len(), self.in_flight.len());
                let after = show::when::lasted(self.began.elapsed());
                self.line(&format!("{} of {all} ended after {after}{failed}; {in_flight} in flight", self.ended));
            }
        }
    }

    /// Records the outcome of the target whose end is reported next.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    pub(super) fn event(&mut self, event: &Event) {
        if let Some(live) = &mut self.live {
            live.event(event, self.outcome);
        }
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
                    self.passing("retried", &line);
                }
            }
            Event::Ended { target, state, succeeded } => {
                self.in_flight.remove(target);
                self.ended += 1;
                self.failed += usize::from(!succeeded);
                if !succeeded {
                    self.last_failed = Some(*target);
                }
                if self.live.is_none() || !succeeded {
                    let line = format!("{}: {state}", self.id(*target));
                    self.bounded(state, &line);
                }
            }
            Event::CheckStarted { targets, .. } => {
                self.passing("checks", &format!("checking {}", show::counted(*targets, "instance")));
            }
            Event::CheckEnded { failed, .. } => {
                for (target, state) in failed {
                    let line = format!("{}: check {state}", self.id(*target));
                    self.bounded("failed checks", &line);
                }
            }
            Event::Pausing { time } => {
                self.passing("pauses", &format!("the next batch begins in {}", show::when::lasted(*time)));
            }
            Event::Confirm { batch } => self.ask(*batch),
            Event::BudgetExceeded { stopped: Stopped::Check, count, budget } => {
                self.line(&over_budget(Stopped::Check, *count, *budget, None, false));
            }
            Event::BudgetExceeded { stopped, count, budget } if self.is_more_to_start() => {
                let last = self.last_failed.map(|target| self.id(target));
                let line = over_budget(*stopped, *count, *budget, last, self.is_diagnostic);
                self.line(&line);
            }
            Event::BudgetExceeded { .. } => {}
            Event::Stopping { in_flight } => self.stopping(*in_flight),
        }
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

    /// Removes the live view.
    pub(super) fn finish(&mut self) {
        self.clear();
    }

    fn clear(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
    }

    fn batch(&mut self, batch: usize) {
        let batches = self.run.plan.batches();
        if !self.quiet && batches.len() > 1 && (batches[batch].targets.len() > 1 || !batches[batch].name.is_empty()) {
            let name = show::visible(&batches[batch].name);
            let colon = if name.is_empty() { "" } else { ": " };
            let count = show::counted(batches[batch].targets.len(), "instance");
            let line = format!("batch {} of {}{colon}{name}, {count}", batch + 1, batches.len());
            self.passing("batches", &line);
        }
    }

    /// Prints what has happened so far and what would begin next. The question follows.
    fn ask(&mut self, batch: usize) {
        let next = &self.run.plan.batches()[batch];
        let name = if next.name.is_empty() { String::new() } else { format!(", {}", show::visible(&next.name)) };
        let count = show::counted(next.targets.len(), "instance");
        let so_far = format!("{} of {} ended, {} failed", self.ended, self.run.targets.len(), self.failed);
        self.line(&format!(
            "{so_far}; next is batch {} of {}{name}: {count}",
            batch + 1,
            self.run.plan.batches().len()
        ));
    }

    fn stopping(&mut self, in_flight: usize) {
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

    fn is_more_to_start(&self) -> bool {
        self.ended + self.in_flight.len() < self.run.targets.len()
    }

    fn id(&self, target: usize) -> &str {
        self.run.targets[target].id().as_str()
    }

    /// Prints `line`, which the live view says as well.
    fn passing(&mut self, kind: &'static str, line: &str) {
        if self.live.is_none() {
            self.bounded(kind, line);
        }
    }

    /// Prints `line`, unless there have been many of its `kind`.
    fn bounded(&mut self, kind: &'static str, line: &str) {
        if self.quiet {
            return;
        }
        let most = if self.live.is_some() { LINES_LIVE } else { LINES };
        let printed = self.printed.entry(kind).or_default();
        *printed += 1;
        match (*printed).cmp(&(most + 1)) {
            Ordering::Less => self.line(line),
            Ordering::Equal => {
                self.line(&format!("further lines ({kind}) are left out; the report at the end counts all"))
            }
            Ordering::Greater => {}
        }
    }

    /// Prints `line` above the live view. A reader that went away (`2>&1 | head`) does not end the run.
    fn line(&mut self, line: &str) {
        self.clear();
        let _ = show::try_stderr(format_args!("{line}\n"));
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

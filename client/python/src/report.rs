//! Progress and results as Python gets them.

use bolt_client::fleet::{Ending, Event, Observer, Report, Run};
use bolt_client::runner::View;
use bolt_client::show::{Mask, visible};
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use crate::fault::of_instance;
use crate::outbox::Outbox;

/// Sends the progress of a run to Python.
pub(crate) struct Progress<'a> {
    pub(crate) run: &'a Run,
    pub(crate) mask: &'a Mask,
    pub(crate) outbox: &'a Outbox,
    /// False if only questions are sent.
    pub(crate) is_wanted: bool,
    pub(crate) ended: usize,
}

impl Observer for Progress<'_> {
    fn event(&mut self, event: Event) {
        let id = |target: usize| self.run.targets[target].id();
        let name = |batch: usize| self.run.plan.batches().get(batch).map(|batch| visible(&batch.name));
        let mut message = match event {
            Event::Confirm { batch } => {
                let targets = self.run.plan.batches().get(batch).map_or(&[][..], |batch| &batch.targets);
                let ids: Vec<_> = targets.iter().map(|target| id(*target)).collect();
                self.outbox.send(&json!({ "confirm": { "number": batch + 1, "name": name(batch), "instances": ids } }));
                return;
            }
            Event::Ended { target, state, succeeded } => {
                self.ended += 1;
                json!({ "kind": "ended", "instance": id(target), "state": state, "succeeded": succeeded })
            }
            _ if !self.is_wanted => return,
            Event::BatchStarted { batch } => json!({ "kind": "batch_started", "batch": name(batch) }),
            Event::Starting { target } => json!({ "kind": "starting", "instance": id(target) }),
            Event::Accepted { target, execution } => {
                json!({ "kind": "accepted", "instance": id(target), "execution_id": execution })
            }
            Event::Retrying { target, problem } => {
                let text = visible(&self.mask.text(&problem));
                json!({ "kind": "retrying", "instance": id(target), "message": text })
            }
            Event::BudgetExceeded { stopped, count, budget } => {
                let text = format!("{}: {count}, and {budget} are allowed", reason(stopped));
                json!({ "kind": "budget_exceeded", "state": stopped.code(), "message": text })
            }
            Event::CheckStarted { batch, targets } => {
                let text = format!("on {}", bolt_client::show::counted(targets, "instance"));
                json!({ "kind": "check_started", "batch": name(batch), "message": text })
            }
            Event::CheckEnded { batch, failed, has_passed } => {
                let failed: Vec<String> =
                    failed.iter().map(|(target, state)| format!("{}: {state}", id(*target))).collect();
                let failed = failed.join(", ");
                json!({ "kind": "check_ended", "batch": name(batch), "succeeded": has_passed, "message": failed })
            }
            Event::Pausing { time } => json!({ "kind": "pausing", "message": format!("{} s", time.as_secs_f64()) }),
            Event::Stopping { in_flight } => {
                let text = format!("{} running", bolt_client::show::counted(in_flight, "instance"));
                json!({ "kind": "stopping", "message": text })
            }
        };
        if self.is_wanted {
            (message["run_id"], message["ended"], message["total"]) =
                (json!(self.run.id), json!(self.ended), json!(self.run.targets.len()));
            self.outbox.send(&json!({ "progress": message }));
        }
    }
}

impl View for Progress<'_> {}

/// Describes why a run was stopped, in the words of the package.
fn reason(stopped: bolt_client::fleet::Stopped) -> String {
    let text = stopped.to_string();
    let renamed = ["max-failures", "max-batch-failures", "max-unreachable", "max-check-failures", "within"];
    renamed.iter().fold(text, |text, name| text.replace(&format!("--{name}"), &name.replace('-', "_")))
}

/// Sends the result of each instance, and returns the summary of the run.
pub(crate) fn send(run: &Run, report: Report, outbox: &Outbox) -> Value {
    let stopped = report.stopped.map(|stopped| json!({ "code": stopped.code(), "message": reason(stopped) }));
    for (instance, ending) in run.targets.iter().zip(report.endings) {
        let (state, succeeded) = (ending.state(), ending.succeeded());
        let mut message = json!({ "instance": instance.id(), "outcome": state, "succeeded": succeeded });
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        match ending {
            Ending::Ended(execution, output) => {
                message["execution"] = execution_json(&execution);
                message["truncated"] = json!(output.truncated);
                message["output_error"] = json!(output.problem.as_deref().map(visible));
                (stdout, stderr) = (output.stdout, output.stderr);
            }
            Ending::Unreachable { error, execution, may_run } => {
                message["error"] = of_instance(&error);
                message["may_run"] = json!(may_run);
                message["execution"] = json!(execution.map(|id| json!({ "id": id })));
            }
            Ending::Refused(error) => message["error"] = of_instance(&error),
            Ending::NotStarted => {}
        }
        outbox.send_with(&json!({ "result": message }), stdout, stderr);
    }
    json!({ "run_id": run.id, "action": run.request.action, "stopped": stopped })
}

/// Returns an execution as Python gets it.
pub(crate) fn execution_json(execution: &Execution) -> Value {
    json!({
        "id": execution.id,
        "instance": execution.instance,
        "version": execution.version,
        "state": execution.state,
        "reason": execution.reason.as_deref().map(visible),
        "exit_status": execution.exit_status,
        "signal": execution.signal,
        "duration_ms": execution.duration_ms,
        "result": execution.result,
    })
}

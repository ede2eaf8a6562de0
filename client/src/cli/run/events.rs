//! `--ndjson`: the events of a run for programs, a JSON object on each line of standard output.
//!
//! Every object has `event`, the name, and `time` (RFC 3339). Names and fields are stable; client/README.md lists them. Text of an
//! instance is bounded by what the report fetches of it.

use packs_schema::base::name::InstanceId;
use serde_json::{Value, json};

use crate::fleet::{Event, Run};
use crate::show::{self, Mask};

/// Maximum number of characters of a problem.
const MAX_PROBLEM: usize = 1000;

/// Returns an event as an object. [`Event::Ended`] comes with the whole `entry` of the instance in the report.
pub(super) fn object(run: &Run, event: &Event, entry: Option<Value>, mask: &Mask) -> Value {
    let id = |target: &usize| run.targets[*target].id();
    let seconds = |time: &std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match event {
        Event::BatchStarted { batch } => {
            let (number, name, instances) = of_batch(run, *batch);
            json!({ "event": "batch_started", "batch": number, "batches": run.plan.batches().len(), "name": name, "instances": instances })
        }
        Event::Starting { target } => json!({ "event": "starting", "instance": id(target) }),
        Event::Accepted { target, execution } => {
            json!({ "event": "accepted", "instance": id(target), "execution_id": execution })
        }
        Event::Retrying { target, problem } => {
            let problem: String = mask.text(problem).chars().take(MAX_PROBLEM).collect();
            json!({ "event": "retrying", "instance": id(target), "problem": problem })
        }
        Event::Ended { target, state, succeeded } => {
            let mut object = entry.unwrap_or_else(|| json!({ "instance": id(target), "state": state }));
            object["event"] = json!("ended");
            object["succeeded"] = json!(succeeded);
            object
        }
        Event::BudgetExceeded { stopped, count, budget } => {
            json!({ "event": "budget_exceeded", "budget": stopped.code(), "count": count, "allowed": budget })
        }
        Event::CheckStarted { batch, targets } => {
            json!({ "event": "check_started", "batch": batch + 1, "instances": targets })
        }
        Event::CheckEnded { batch, failed, has_passed } => {
            let failed: Vec<Value> =
                failed.iter().map(|(target, state)| json!({ "instance": id(target), "state": state })).collect();
            json!({ "event": "check_ended", "batch": batch + 1, "passed": has_passed, "failed": failed })
        }
        Event::Pausing { time } => json!({ "event": "pausing", "for_ms": seconds(time) }),
        Event::Confirm { batch } => {
            let (number, name, instances) = of_batch(run, *batch);
            json!({ "event": "confirm", "batch": number, "name": name, "instances": instances })
        }
        Event::Stopping { in_flight } => json!({ "event": "stopping", "in_flight": in_flight }),
    }
}

fn of_batch(run: &Run, batch: usize) -> (usize, &str, usize) {
    let one = &run.plan.batches()[batch];
    (batch + 1, &one.name, one.targets.len())
}

/// Returns the first object: what is run, and where.
pub(super) fn begun(run: &Run) -> Value {
    let ids: Vec<&InstanceId> = run.targets.iter().map(|target| target.id()).collect();
    let batches = run.plan.batches().len();
    json!({ "event": "run_started", "run": run.id, "action": run.request.action, "instances": ids, "batches": batches })
}

/// Returns the line for an object, with the time.
pub(super) fn line(mut object: Value) -> String {
    object["time"] = json!(show::when::at(show::when::now_ms()));
    show::json_line(&object)
}

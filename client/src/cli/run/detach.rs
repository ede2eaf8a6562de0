//! `bolt run --detach`: starts the run on all instances and returns when they have accepted it.

use futures_util::{StreamExt as _, stream};
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use crate::cli::context::{Context, error_json, grouped};
use crate::cli::failure::{Exit, Failure};
use crate::cli::mask::{mask_error, mask_execution};
use crate::error::Error;
use crate::fleet::{self, Ending, Event, Plan, Run};
use crate::runner::{Job, close};
use crate::show;
use crate::tls::Identity;
use crate::{errln, outln};

/// Fails unless all instances are started at once: batches and budgets need a client that stays.
pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
    if plan.batches().len() <= 1 {
        return Ok(());
    }
    let message = format!("--detach starts all instances at once, and this run has {} steps", plan.batches().len());
    Err(Failure::new(Exit::Usage, message)
        .hint("add --at-once, or leave out --detach: the command must stay to start step by step"))
}

/// Starts the run everywhere and reports which instances accepted it. Exit 3 or 4 only when none did.
pub(super) async fn start(job: Job, identity: &Identity, context: &Context) -> Exit {
    let Job { run, mask, recorder, .. } = job;
    let (run, mask) = (&run, &mask);
    if !context.json {
        // Known also to a user who interrupts this command.
        errln!("starting run {} on {}", run.id, show::counted(run.targets.len(), "instance"));
    }
    for target in 0..run.targets.len() {
        recorder.iter().for_each(|recorder| recorder.event(&Event::Starting { target }));
    }
    let starts = (0..run.targets.len()).map(|target| fleet::accept_on(run, target, identity));
    let answers: Vec<Result<Execution, Ending>> = stream::iter(starts).buffered(run.plan.parallel()).collect().await;
    let (mut accepted, mut failed, mut unclear) = (Vec::new(), Vec::new(), false);
    for (target, answer) in answers.into_iter().enumerate() {
        if let (Some(recorder), Err(ending)) = (&recorder, &answer) {
            recorder.ended(target, ending, |execution| mask_execution(execution, mask), |text| mask.text(text));
        }
        match answer {
            Ok(execution) => accepted.push(execution),
            Err(Ending::Refused(error)) => failed.push(error),
            Err(Ending::Unreachable { error, may_run, .. }) => {
                unclear |= may_run;
                failed.push(error);
            }
            Err(Ending::Ended(..) | Ending::NotStarted) => {}
        }
    }
    accepted.iter_mut().for_each(|execution| mask_execution(execution, mask));
    failed.iter_mut().for_each(|error| mask_error(error, mask));
    close(recorder, Some(None)).await;
    print(run, &accepted, &failed, unclear, context);
    exit(&accepted, &failed, unclear)
}

fn print(run: &Run, accepted: &[Execution], failed: &[Error], unclear: bool, context: &Context) {
    if context.json {
        let failed: Value = failed.iter().map(error_json).collect();
        let action = &run.request.action;
        let answer = json!({ "run": run.id, "action": action, "executions": accepted, "failed": failed });
        outln!("{}", show::json(&context.with_missing(answer)));
        return;
    }
    outln!("run {}: accepted by {} of {}", run.id, accepted.len(), show::counted(run.targets.len(), "instance"));
    for line in grouped(failed) {
        errln!("bolt: {line}");
    }
    if unclear {
        errln!("some instances did not answer and may have started it: `bolt ps --run {}` shows it", run.id);
    }
    if !accepted.is_empty() {
        errln!(
            "follow with: bolt logs -f --run {id}\nwait with:   bolt wait --run {id}\nstop with:   bolt kill --run {id}",
            id = run.id
        );
    }
}

fn exit(accepted: &[Execution], failed: &[Error], unclear: bool) -> Exit {
    match (failed.is_empty(), accepted.is_empty()) {
        (true, _) => Exit::Success,
        (false, true) if !unclear && failed.iter().all(|error| error.kind.is_refusal()) => Exit::Refused,
        (false, true) if !unclear && failed.iter().all(|error| !error.kind.is_refusal()) => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

//! The check after a batch: a diagnostic on its targets that has to succeed before the next batch begins.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::start::{Flight, Target, start};
use super::{Ending, Request, Run, new_run_id};
use crate::tls::Identity;

/// Check that runs after each batch.
#[derive(Debug, Clone)]
pub struct Check {
    /// Request that each target of the batch gets; a diagnostic, since it may be repeated.
    pub request: Request,
    /// Time for which the check is repeated on targets where it fails: a service needs some to start.
    pub within: Duration,
}

/// Pause before a check is repeated.
const AGAIN: Duration = Duration::from_secs(3);

/// Runs the check on `targets` until it has succeeded on all of them or its time is over. Returns the targets on which it has not,
/// with the state in which it ended there.
pub(super) async fn check(
    run: &Run,
    check: &Check,
    mut targets: Vec<usize>,
    identity: &Identity,
) -> Vec<(usize, &'static str)> {
    let end = Instant::now() + check.within;
    loop {
        // A new run each time: under the same one the agents would answer with the execution of the last attempt.
        let id = new_run_id();
        let (sender, _) = mpsc::unbounded_channel();
        let each = targets.iter().map(|target| {
            let each = Target { output_limit: 0, ..Target::of(run, *target, &id, &check.request) };
            let ending = start(each, Flight::default(), identity.clone(), sender.clone());
            async move { (*target, ending.await) }
        });
        let endings: Vec<(usize, Option<Ending>)> =
            stream::iter(each).buffer_unordered(run.plan.parallel()).collect().await;
        let state = |(target, ending): (usize, Option<Ending>)| match ending {
            Some(ending) if ending.succeeded() => None,
            Some(ending) => Some((target, ending.state())),
            None => Some((target, "unreachable")),
        };
        let failed: Vec<(usize, &'static str)> = endings.into_iter().filter_map(state).collect();
        if failed.is_empty() || Instant::now() + AGAIN > end {
            return failed;
        }
        targets = failed.into_iter().map(|(target, _)| target).collect();
        tokio::time::sleep(AGAIN).await;
    }
}

//! Executions of a run as they appear: a run over many instances may still be starting them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use packs_schema::base::name::{ExecutionId, InstanceId, RunId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Found, Recorded, find, search};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::find::FoundExecution;
use crate::cli::select::SelectArgs;
use crate::error::Error;
use crate::fleet::{DEFAULT_PARALLEL, across};
use crate::inventory::Instance;
use crate::tls::Identity;

/// Pause between two searches for executions that appeared meanwhile.
const SEARCH_AGAIN: Duration = Duration::from_secs(2);

/// Searches instances again and again for executions of a run, and gives each once.
pub(in crate::cli) struct Discovery {
    identity: Identity,
    run: RunId,
    /// Instances on which no execution of the run was found yet.
    waiting: Vec<Instance>,
    known: HashSet<ExecutionId>,
    failed: BTreeMap<InstanceId, Error>,
    /// Number of instances that are asked.
    asked: usize,
    recorded: Option<Recorded>,
}

impl Discovery {
    /// Finds the executions that there are now: at least one, unless the run is recorded.
    pub(in crate::cli) async fn begin(
        context: &Context,
        select: &SelectArgs,
        run: &RunId,
    ) -> Result<(Discovery, Vec<FoundExecution>), Failure> {
        let identity = context.identity()?;
        let Found { executions: found, failed, recorded, .. } = find(context, select, run).await?;
        let waiting = super::to_ask(context, select, recorded.as_ref()).await?;
        let failed = failed.into_iter().map(|error| (error.instance.clone(), error)).collect();
        let asked = waiting.len();
        let mut discovery =
            Discovery { identity, run: run.clone(), waiting, known: HashSet::new(), failed, asked, recorded };
        discovery.note(&found);
        Ok((discovery, found))
    }

    /// Returns the identity with which instances are asked.
    pub(in crate::cli) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Returns the record of the run, if there is one.
    pub(in crate::cli) fn recorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref()
    }

    /// True if the record says that a client still carries out the run: it may start more after a pause.
    async fn may_start_more(&self) -> bool {
        match &self.recorded {
            Some(recorded) => recorded.is_carried_out().await,
            None => false,
        }
    }

    /// Returns the executions that were not found before.
    async fn search(&mut self) -> Vec<FoundExecution> {
        let run = &self.run;
        let answers =
            across(&self.waiting, &self.identity, DEFAULT_PARALLEL, async |agent| search(agent, run).await).await;
        let mut new = Vec::new();
        for (instance, answer) in answers {
            match answer {
                Ok(found) => {
                    self.failed.remove(instance.id());
                    let unknown = found.into_iter().filter(|execution| !self.known.contains(&execution.id));
                    new.extend(unknown.map(|execution| (instance.clone(), execution)));
                }
                Err(error) => drop(self.failed.insert(instance.id().clone(), error)),
            }
        }
        self.note(&new);
        new
    }

    fn note(&mut self, found: &[FoundExecution]) {
        self.known.extend(found.iter().map(|(_, execution)| execution.id.clone()));
        let there: HashSet<&InstanceId> = found.iter().map(|(instance, _)| instance.id()).collect();
        self.waiting.retain(|instance| !there.contains(instance.id()));
    }

    /// Returns the instances that answered and have no execution of the run, and the number of all that were asked.
    pub(in crate::cli) fn without(&self) -> (Vec<InstanceId>, usize) {
        let ids = self.waiting.iter().map(Instance::id);
        (ids.filter(|id| !self.failed.contains_key(id)).cloned().collect(), self.asked)
    }

    /// Returns the errors of the instances that did not answer when they were asked last.
    pub(in crate::cli) fn into_failed(self) -> Vec<Error> {
        self.failed.into_values().collect()
    }
}

/// Runs `each` for `found`, at most `parallel` at a time. With `follow`, unless all had ended, also for every execution
/// that appears later: then it ends when all have ended, a search after that finds no other, and the record, if there is one,
/// names no client that carries out the run.
pub(in crate::cli) async fn for_each<T, F>(
    discovery: &mut Discovery,
    found: Vec<FoundExecution>,
    parallel: usize,
    follow: bool,
    each: impl Fn(FoundExecution) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(parallel));
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    let has_active = found.iter().any(|(_, execution)| !execution.state.is_terminal());
    let is_active = follow && (has_active || discovery.may_start_more().await);
    let mut new = found;
    loop {
        for one in new.drain(..) {
            let (slots, work) = (slots.clone(), each(one));
            running.spawn(async move {
                let _slot = slots.acquire_owned().await;
                work.await
            });
        }
        if !is_active {
            done.extend(running.join_all().await);
            return done;
        }
        let pause = tokio::time::sleep(SEARCH_AGAIN);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                Some(ended) = running.join_next() => match ended {
                    Ok(result) => done.push(result),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = &mut pause => break,
            }
        }
        // In this order: what a client has started before it ended is found.
        let have_all_ended = running.is_empty() && !discovery.may_start_more().await;
        new = discovery.search().await;
        if have_all_ended && new.is_empty() {
            return done;
        }
    }
}

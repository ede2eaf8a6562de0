//! Goes on with a recorded run, or repeats it where it did not succeed.

use std::sync::Arc;

use packs_schema::agent::rest::ActionView;
use packs_schema::base::name::RunId;
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde_json::Map;

use super::{Input, Job, Prepared, Problem, Read, RunError, changes, definition};
use crate::fleet::{self, Before, Ending, Plan, Run};
use crate::inventory::Instance;
use crate::runs::{Entry, Recorder, RunStore, StoreError, StoredRun, TakenOver, take_over};
use crate::show::Mask;
use crate::show::when::now_ms;
use crate::tls::Identity;

/// Recorded run that can go on here. So far it was only read: another client may still carry it out.
pub struct Resumable {
    /// The run.
    pub run: Run,
    /// State of each of its instances.
    pub before: Vec<Before>,
    class: Class,
    mask: Mask,
    store: Arc<dyn RunStore>,
    principal: Option<String>,
    /// Number of instances that have ended.
    pub ended: usize,
    /// Number of instances that were asked to start and have no recorded end.
    pub started: usize,
    /// Number of instances that another principal has asked to start, with no recorded end: they are left as they are.
    pub others: usize,
    /// Number of instances that are left to start.
    pub left: usize,
}

impl Resumable {
    /// True if the run may change instances.
    pub fn changes(&self) -> bool {
        changes(self.class, self.run.request.noop)
    }

    /// Takes the run over, with what another client has done of it by then, and records that this client goes on with it.
    pub async fn take_over(self, on_failure: impl FnOnce(&StoreError) + Send + 'static) -> Result<Job, RunError> {
        let Resumable { run, class, mask, store, principal, .. } = self;
        let lease = store.acquire(&run.id).await?;
        let taken = async {
            let stored = store.load(&run.id).await?;
            let wanted = stored.plan.secrets().to_vec();
            let secrets = run.request.parameters.clone().into_iter().filter(|(name, _)| wanted.contains(name));
            Ok::<_, RunError>(take_over(&stored, secrets.collect(), principal.as_deref())?)
        };
        let earlier = match taken.await {
            Ok(TakenOver { earlier, .. }) => earlier,
            Err(error) => {
                // Best effort: without it, the next client waits until the lease expires.
                let _ = lease.release().await;
                return Err(error);
            }
        };
        let recorder = Recorder::new(lease, on_failure);
        recorder.add(Entry::Resumed { at_ms: now_ms(), principal });
        Ok(Job { run, class, mask, earlier, recorder: Some(recorder) })
    }
}

/// Instances on which a run is repeated, besides those where it failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retried {
    /// Includes instances that were not reached.
    pub unreachable: bool,
    /// Includes instances that the run did not come to.
    pub not_started: bool,
}

/// Reads a recorded run that is to go on. `input` gives its secret parameters, which the record does not hold. Instances are asked
/// for the definition only if there are secrets.
pub async fn resumable<I: Input>(
    store: Arc<dyn RunStore>,
    run: &RunId,
    identity: &Identity,
    input: &mut I,
) -> Result<Resumable, I::Error> {
    let stored = store.load(run).await.map_err(RunError::from)?;
    let (TakenOver { run, earlier, others, .. }, mask) = take(&stored, identity, input).await?;
    let before = earlier.before;
    let count = |wanted: fn(&Before) -> bool| before.iter().filter(|before| wanted(before)).count();
    let ended = count(|before| matches!(before, Before::Ended(_))) - others;
    let started = count(|before| *before == Before::Started);
    let left = run.targets.len() - ended - started - others;
    let principal = identity.principal().map(str::to_owned);
    Ok(Resumable { run, before, class: stored.head.class, mask, store, principal, ended, started, others, left })
}

/// Plans a new run on the instances where a recorded one did not succeed: at least one.
pub async fn retry<I: Input>(
    store: &dyn RunStore,
    run: &RunId,
    which: Retried,
    identity: &Identity,
    input: &mut I,
) -> Result<Prepared, I::Error> {
    let stored = store.load(run).await.map_err(RunError::from)?;
    let (TakenOver { run: old, earlier, .. }, mask) = take(&stored, identity, input).await?;
    let is_wanted = |target: &usize| match &earlier.endings[*target] {
        // Where an execution may still run, a repetition would run beside it.
        Some(Ending::Unreachable { .. }) => which.unreachable,
        Some(ending) => !ending.succeeded(),
        None if earlier.before[*target] == Before::Started => which.unreachable,
        None => which.not_started,
    };
    let targets: Vec<Instance> =
        (0..old.targets.len()).filter(is_wanted).map(|target| old.targets[target].clone()).collect();
    if targets.is_empty() {
        return Err(RunError::NothingToRetry(old.id).into());
    }
    let facts: Vec<&Facts> = targets.iter().map(|target| &target.facts).collect();
    let plan = Plan::new(&facts, old.plan.strategy());
    let view = definition::ask(&old.request.action, old.request.version.as_ref(), &targets, identity).await?;
    let run = Run { id: fleet::new_run_id(), targets, plan, ..old };
    Ok(Prepared { run, view, mask, principal: identity.principal().map(str::to_owned) })
}

/// Returns the recorded run with its secrets, and the mask for them.
async fn take<I: Input>(stored: &StoredRun, identity: &Identity, input: &mut I) -> Result<(TakenOver, Mask), I::Error> {
    if stored.plan.secrets().is_empty() {
        if !input.is_empty() {
            return Err(RunError::NoSecrets(stored.head.run.clone()).into());
        }
        let taken = take_over(stored, Map::new(), identity.principal()).map_err(RunError::from)?;
        return Ok((taken, Mask::default()));
    }
    let (action, version) = (&stored.head.action, stored.head.version.as_ref());
    let view: ActionView = definition::ask(action, version, &stored.plan.instances(), identity).await?;
    let Read { values, unread } = input.parameters(&view).await?;
    if !unread.is_empty() {
        let problems = unread.into_iter().map(Problem::Parameter).collect();
        return Err(RunError::Request { action: action.clone(), problems }.into());
    }
    let taken = take_over(stored, values, identity.principal()).map_err(RunError::from)?;
    let mask = Mask::of_parameters(&view.action.parameters, &taken.run.request.parameters);
    Ok((taken, mask))
}

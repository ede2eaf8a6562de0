//! Record of a run, as `bolt show` and `bolt wait` use it: its instances, how each ended, and the client that carries it out now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use packs_schema::base::name::{InstanceId, RunId};
use serde_json::{Value, json};

use super::NAMED;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::run_store;
use crate::cli::select::SelectArgs;
use crate::errln;
use crate::inventory::Instance;
use crate::runs::{Entry, RunStore, Status, StoreError, StoredRun};
use crate::show::{self, visible, when};

/// Recorded run.
pub(in crate::cli) struct Recorded {
    store: Arc<dyn RunStore>,
    stored: StoredRun,
    status: Status,
}

impl Recorded {
    /// Returns the record of a run; `None` if there is none. One that cannot be read is reported: the instances know the run.
    pub(in crate::cli) async fn find(context: &Context, run: &RunId) -> Result<Option<Recorded>, Failure> {
        let Some(store) = run_store::find(context.config())? else { return Ok(None) };
        // The status first: a client that ends in between has recorded all before the run is loaded.
        let read = async { Ok((store.status(run).await?, store.load(run).await?)) };
        match read.await {
            Ok((status, stored)) => Ok(Some(Recorded { store, stored, status })),
            Err(StoreError::Unknown { .. }) => Ok(None),
            Err(error) => {
                errln!("bolt: {error}\nbolt: the instances are asked without the record");
                Ok(None)
            }
        }
    }

    /// True if a client carries out the run now.
    pub(in crate::cli) async fn is_carried_out(&self) -> bool {
        self.store.status(&self.stored.head.run).await.is_ok_and(|status| status.holder.is_some())
    }

    /// Returns the instances of the run that are to be asked: at the addresses of the inventory, if it has them still, else at
    /// those of the plan.
    pub(super) async fn instances(&self, context: &Context, select: &SelectArgs) -> Result<Vec<Instance>, Failure> {
        let planned = self.stored.plan.instances();
        let chosen = match context.select(select).await {
            Ok(chosen) => chosen,
            // The record is enough, unless some of them were asked for.
            Err(_) if select.is_default() => return Ok(planned),
            Err(failure) => return Err(failure),
        };
        let ids: HashSet<&InstanceId> = planned.iter().map(Instance::id).collect();
        let mut there: Vec<Instance> = chosen.into_iter().filter(|instance| ids.contains(instance.id())).collect();
        if select.is_default() {
            let known: HashSet<InstanceId> = there.iter().map(|instance| instance.id().clone()).collect();
            there.extend(planned.into_iter().filter(|instance| !known.contains(instance.id())));
        }
        if there.is_empty() {
            let message = format!("run {} was for none of the chosen instances", self.stored.head.run);
            return Err(Failure::new(Exit::Usage, message).hint("leave out the options that choose instances"));
        }
        Ok(there)
    }

    /// Returns the lines that come before those of the executions.
    pub(in crate::cli) fn lines(&self) -> Vec<(&'static str, String)> {
        let head = &self.stored.head;
        let mut lines = vec![
            ("planned", format!("{} for {}", when::at(head.created_at_ms), show::counted(head.targets, "instance"))),
            ("state", self.state().to_owned()),
        ];
        if let Some(holder) = &self.status.holder {
            lines.push(("carried out", format!("by {holder}")));
        }
        if let Some(stopped) = self.status.summary.stopped() {
            lines.push(("stopped", stopped.to_string()));
        }
        lines
    }

    fn state(&self) -> &'static str {
        self.status.summary.state(self.status.holder.is_some(), self.stored.head.targets)
    }

    /// Describes instances that have no execution: `2 not_started (interrupted): i-1, i-2`.
    pub(in crate::cli) fn describe(&self, without: &[InstanceId]) -> Vec<String> {
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let fates = self.without(without);
        for (id, state, message) in &fates {
            let why = match (*state, message) {
                ("not_started", _) => self.why_not_started(),
                (_, Some(message)) => visible(message),
                (_, None) => "asked, and no answer is recorded".to_owned(),
            };
            groups.entry(format!("{} ({why})", visible(state))).or_default().push(id.as_str());
        }
        let line = |(what, ids): (&String, &Vec<&str>)| format!("{} {what}: {}", ids.len(), show::listed(ids, NAMED));
        groups.iter().map(line).collect()
    }

    fn why_not_started(&self) -> String {
        match (self.status.summary.stopped(), self.state()) {
            (Some(stopped), _) => stopped.to_string(),
            (None, "running") => "the run goes on".to_owned(),
            (None, _) => format!("interrupted: `bolt resume {}` goes on", self.stored.head.run),
        }
    }

    /// Returns instances of the run that are in `without`, each with its recorded state and error.
    fn without(&self, without: &[InstanceId]) -> Vec<(InstanceId, &str, Option<&str>)> {
        let mut states: HashMap<usize, (&str, Option<&str>)> = HashMap::new();
        for entry in &self.stored.entries {
            match entry {
                Entry::Starting { target } => drop(states.insert(*target, ("unknown", None))),
                Entry::Ended { target, ending } => drop(states.insert(*target, (ending.state(), ending.message()))),
                Entry::Checked { .. } | Entry::Done { .. } | Entry::Resumed { .. } => {}
            }
        }
        let without: HashSet<&InstanceId> = without.iter().collect();
        let ids = self.stored.plan.instances().into_iter().enumerate();
        ids.filter(|(_, instance)| without.contains(instance.id()))
            .map(|(target, instance)| {
                let (state, message) = states.get(&target).copied().unwrap_or(("not_started", None));
                (instance.id().clone(), state, message)
            })
            .collect()
    }

    /// Returns the record for programs, with the instances that have no execution.
    pub(in crate::cli) fn json(&self, without: &[InstanceId]) -> Value {
        let head = &self.stored.head;
        let without: Vec<Value> = self
            .without(without)
            .into_iter()
            .map(|(instance, state, message)| json!({ "instance": instance, "state": state, "message": message }))
            .collect();
        json!({
            "planned_at_ms": head.created_at_ms,
            "instances": head.targets,
            "state": self.state(),
            "holder": self.status.holder,
            "stopped": self.status.summary.stopped().map(crate::fleet::Stopped::code),
            "without": without,
        })
    }
}

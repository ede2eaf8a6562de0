//! Instances of a recorded run, chosen by how it ended there.

use std::collections::HashSet;

use packs_schema::base::name::{InstanceId, RunId};

use crate::inventory::{Instance, Inventory};
use crate::runs::{Fate, RunStore, StoreError};

/// Returns the instances of a recorded run that ended in one of these ways.
pub async fn of_run(store: &dyn RunStore, run: &RunId, wanted: &[Fate]) -> Result<Vec<InstanceId>, StoreError> {
    let fates = store.load(run).await?.fates();
    Ok(fates.into_iter().filter(|(_, fate)| wanted.contains(fate)).map(|(id, _)| id).collect())
}

/// Divides ids into those that the inventory has, and those that it no longer has.
pub fn still_there(ids: Vec<InstanceId>, inventory: &Inventory) -> (Vec<InstanceId>, Vec<InstanceId>) {
    let known: HashSet<&InstanceId> = inventory.instances().iter().map(Instance::id).collect();
    ids.into_iter().partition(|id| known.contains(id))
}

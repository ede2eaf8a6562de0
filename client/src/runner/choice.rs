//! The record of runs in effect, and instances of a recorded run, chosen by how it ended there.

use std::collections::HashSet;
use std::sync::Arc;

use packs_schema::base::name::{InstanceId, RunId};

use crate::config::{Config, Setting};
use crate::inventory::{Instance, Inventory};
use crate::runs::{self, Directory, Fate, RunStore, StoreError};

/// Returns the record of runs in the place that the configuration names, else in the state directory; `None` where there is no
/// state directory, because neither `XDG_STATE_HOME` nor `HOME` is set.
pub fn store(config: &Config) -> Result<Option<Arc<dyn RunStore>>, StoreError> {
    match config.value(Setting::RunStore) {
        Some(location) => runs::open(location).map(Some),
        None => Ok(Directory::default_path().map(|path| Arc::new(Directory::new(path)) as Arc<dyn RunStore>)),
    }
}

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

//! The record of a run, made before its first start.

use std::sync::Arc;

use packs_schema::base::name::ActionRef;
use packs_schema::pack::action::Action;

use crate::cli::failure::{Exit, Failure};
use crate::cli::run_store;
use crate::errln;
use crate::fleet::Run;
use crate::parameters;
use crate::runs::{Head, Lease, Recorder, RunStore, StoreError, StoredPlan};
use crate::show::when::now_ms;

/// Records a new run. `None` if it is not to be recorded, or cannot be without a home directory.
pub(super) async fn begin(run: &Run, action: &Action, is_unrecorded: bool) -> Result<Option<Recorder>, Failure> {
    let Some(store) = run_store::find().filter(|_| !is_unrecorded) else { return Ok(None) };
    let secrets = parameters::secret_names(&action.parameters, &run.request.parameters);
    let is_secret = |of: &ActionRef, name: &str| *of == run.request.action && secrets.iter().any(|s| s == name);
    let head = Head::new(run, action.class, now_ms());
    let lease = store.create(&head, &StoredPlan::new(run, is_secret)).await.map_err(|error| match &error {
        StoreError::Exists(id) => {
            Failure::new(Exit::Usage, error.to_string()).hint(format!("go on with it: bolt resume {id}"))
        }
        _ => Failure::new(Exit::Storage, format!("the run cannot be recorded, and nothing was started: {error}"))
            .hint("make room, or add --unrecorded: then it cannot be resumed"),
    })?;
    Ok(Some(recorder(store, run, lease)))
}

/// Returns a recorder that says once when the record can no longer be written.
pub(super) fn recorder(store: Arc<dyn RunStore>, run: &Run, lease: Box<dyn Lease>) -> Recorder {
    let id = run.id.clone();
    Recorder::new(store, id.clone(), lease, move |error| {
        errln!(
            "bolt: {error}\nbolt: run {id} goes on, and its record ends here: `bolt resume` will ask instances again"
        );
    })
}

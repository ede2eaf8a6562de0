//! The record of a run, made before its first start.

use packs_schema::base::name::RunId;

use crate::cli::failure::Failure;
use crate::cli::run_store;
use crate::errln;
use crate::runner::{Job, Prepared};
use crate::runs::StoreError;

/// Records a new run, unless it is not to be recorded, or cannot be without a home directory.
pub(super) async fn begin(prepared: Prepared, is_unrecorded: bool) -> Result<Job, Failure> {
    let store = run_store::find().filter(|_| !is_unrecorded);
    let on_failure = say_unwritten(prepared.run.id.clone());
    Ok(Job::record(prepared, store, on_failure).await?)
}

/// Returns what is said when the record of a run can no longer be written.
pub(super) fn say_unwritten(run: RunId) -> impl FnOnce(&StoreError) + Send + 'static {
    move |error| {
        errln!(
            "bolt: {error}\nbolt: run {run} goes on, and its record ends here: `bolt resume` will ask instances again"
        );
    }
}

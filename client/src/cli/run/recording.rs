//! The record of a run, made before its first start.

use packs_schema::base::name::RunId;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::run_store;
use crate::errln;
use crate::runner::{Job, Prepared};
use crate::runs::StoreError;

/// Records a new run, unless it is not to be recorded, or cannot be without a home directory.
pub(super) async fn begin(prepared: Prepared, context: &Context, is_unrecorded: bool) -> Result<Job, Failure> {
    let store = if is_unrecorded { None } else { run_store::find(context.config())? };
    let on_failure = say_unwritten(prepared.run.id.clone());
    Ok(Job::record(prepared, store, on_failure).await?)
}

/// Returns what is said, once, when the record of a run cannot be written, or another client has taken over the run.
pub(super) fn say_unwritten(run: RunId) -> impl FnOnce(&StoreError) + Send + 'static {
    move |error| match error {
        StoreError::Lost { .. } => errln!("bolt: {error}\nbolt: nothing more is started from here"),
        _ => errln!(
            "bolt: {error}\nbolt: run {run} goes on, but cannot be resumed from here on, unless its record can be written \
             again; after a resume, instances that have started are asked again, and start nothing twice"
        ),
    }
}

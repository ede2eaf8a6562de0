//! The record of runs, as commands find it.

use std::sync::Arc;

use packs_schema::base::name::RunId;
use packs_schema::base::quantity::format_duration;

use super::failure::{Exit, Failure};
use crate::config::{Config, Setting};
use crate::errln;
use crate::runner;
use crate::runs::{RunStore, Status, StoreError};

/// Returns the record in the place that the configuration names, else in the state directory; `None` where there is no state
/// directory, because neither `XDG_STATE_HOME` nor `HOME` is set.
pub(super) fn find(config: &Config) -> Result<Option<Arc<dyn RunStore>>, Failure> {
    runner::store(config).map_err(|error| {
        let origin = config.get(Setting::RunStore).map(|sourced| format!(" ({})", sourced.origin));
        Failure::new(Exit::Usage, format!("{error}{}", origin.unwrap_or_default()))
    })
}

/// Returns the place of the record, or why there is none.
pub(super) fn require(config: &Config) -> Result<Arc<dyn RunStore>, Failure> {
    find(config)?.ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no record of runs: neither XDG_STATE_HOME nor HOME is set")
            .hint("set one of them; a run that was started with the same setting is found there. Or name a place with --run-store")
    })
}

/// Says that a resume of this run has to wait for the lease of a client that may have died. Best effort.
pub(super) async fn say_wait(store: &dyn RunStore, run: &RunId) {
    if let Ok(Status { lease: Some(lease), .. }) = store.status(run).await {
        errln!(
            "bolt: run {run} was not given up by its last client: watching for {} whether it still carries it out",
            format_duration(lease)
        );
    }
}

/// Returns the failure of a command for an error of the record.
pub(super) fn failure(error: &StoreError) -> Failure {
    match error {
        StoreError::Unknown { .. } => Failure::new(Exit::Usage, error.to_string())
            .hint("`bolt runs` lists the recorded runs; `bolt show RUN-ID` puts one together from its executions"),
        StoreError::Location { .. } => Failure::new(Exit::Usage, error.to_string()),
        StoreError::Busy { .. } => {
            Failure::new(Exit::Usage, error.to_string()).hint("wait for it, or interrupt it first")
        }
        _ => Failure::new(Exit::Storage, error.to_string()),
    }
}

//! The record of runs, as commands find it.

use std::sync::Arc;

use super::failure::{Exit, Failure};
use crate::runs::{Directory, RunStore, StoreError};

/// Returns the place of the record; `None` where neither `XDG_STATE_HOME` nor `HOME` is set.
pub(super) fn find() -> Option<Arc<dyn RunStore>> {
    Directory::default_path().map(|path| Arc::new(Directory::new(path)) as Arc<dyn RunStore>)
}

/// Returns the place of the record, or why there is none.
pub(super) fn require() -> Result<Arc<dyn RunStore>, Failure> {
    find().ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no record of runs: neither XDG_STATE_HOME nor HOME is set")
            .hint("set one of them; a run that was started with the same setting is found there")
    })
}

/// Returns the failure of a command for an error of the record.
pub(super) fn failure(error: &StoreError) -> Failure {
    match error {
        StoreError::Unknown { .. } => Failure::new(Exit::Usage, error.to_string())
            .hint("`bolt runs` lists the recorded runs; `bolt show RUN-ID` puts one together from its executions"),
        StoreError::Busy { .. } => {
            Failure::new(Exit::Usage, error.to_string()).hint("wait for it, or interrupt it first")
        }
        _ => Failure::new(Exit::Storage, error.to_string()),
    }
}

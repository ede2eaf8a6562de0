//! Ids of recorded runs, for completion.

use std::ffi::OsStr;

use clap_complete::engine::CompletionCandidate;

use super::known::PATIENCE;
use super::{config, matching};
use crate::cli::run_store;
use crate::show::{self, when};

/// Maximum number of runs that are offered: the newest.
const MAX_RUNS: usize = 50;

/// Completes the id of a recorded run. A record that does not answer in time offers nothing.
pub(super) fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let listed = || {
        let store = run_store::find(&config()?).ok()??;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let listed = runtime.block_on(async { tokio::time::timeout(PATIENCE, store.list(MAX_RUNS)).await });
        runtime.shutdown_background();
        listed.ok()?.ok()
    };
    let now = when::now_ms();
    let heads = listed().map(|listing| listing.heads).unwrap_or_default();
    matching(
        current,
        heads.into_iter().map(|head| {
            let instances = show::counted(head.targets, "instance");
            (head.run.to_string(), format!("{} on {instances}, {}", head.action, when::ago(head.created_at_ms, now)))
        }),
    )
}

//! Doors for the fuzz targets to the record of a run, as a directory or a bucket holds it.

use packs_schema::base::name::RunId;
use serde_json::Map;

use super::bucket::fuzz as bucket;
use super::directory::fuzz_progress;
use super::read::versioned;
use super::resume::{TakenOver, take_over};
use super::{StoredRun, Tally};

/// Reads the three parts of a record, and takes over the run; the error is what a user reads.
pub fn stored_run(head: &[u8], plan: &[u8], progress: &[u8]) -> Result<(StoredRun, TakenOver), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let head = versioned("head", head).map_err(|error| text(&error))?;
    let plan = versioned("plan", plan).map_err(|error| text(&error))?;
    let entries = fuzz_progress(progress).map_err(|error| text(&error))?;
    let stored = StoredRun { head, plan, entries };
    let mut tally = Tally::default();
    tally.extend(&stored.entries);
    let summary = tally.summary();
    summary.with_not_started(stored.head.targets);
    summary.state(false, stored.head.targets);
    stored.fates();
    let secrets = stored.plan.secrets().iter().map(|name| (name.clone(), "value".into())).collect::<Map<_, _>>();
    let taken = take_over(&stored, secrets, Some("spiffe://bolt.local/operator")).map_err(|error| text(&error))?;
    Ok((stored, taken))
}

/// Reads a lease in a bucket; returns the description of its holder and its expiry in milliseconds.
pub fn lease(bytes: &[u8]) -> Result<(String, u128), String> {
    bucket::lease(&run(), bytes)
}

/// Reads a group of entries in a bucket; returns their number.
pub fn group(bytes: &[u8]) -> Result<usize, String> {
    bucket::group(&run(), bytes)
}

fn run() -> RunId {
    RunId::new("r-1").expect("an id")
}

//! The record of runs: what was planned, and how each instance ended, so that a run can be shown, resumed and repeated.
//!
//! ```text
//!  RunStore ─┬─ Directory      create, acquire ──▶ Lease: the right to carry out a run, and to write its progress
//!            └─ InBucket
//!  fleet::run ──events──▶ Recorder ──groups of entries──▶ Lease::append
//!  RunStore::load ──▶ StoredRun ──▶ a Run that goes on, a table, a new run on the failed instances
//! ```
//!
//! The plan is durable before the first start. Entries are written in groups and may lag behind: the idempotency key of a
//! start is made from run and instance, so that an instance that is asked again starts nothing twice and answers with the
//! execution that it has.
//!
//! Must never: hold a secret parameter, or fail a run that has begun because it cannot be recorded.

#[cfg(feature = "s3")]
mod bucket;
mod certainty;
mod directory;
mod fate;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod read;
mod record;
mod recorder;
mod resume;
mod summary;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use packs_schema::base::name::RunId;

#[cfg(feature = "s3")]
pub use bucket::InBucket;
pub use certainty::Certainty;
pub use directory::Directory;
pub use fate::Fate;
pub use record::{Entry, FORMAT, Head, Plan as StoredPlan, StoredEnding};
pub use recorder::Recorder;
pub use resume::{ResumeError, TakenOver, take_over};
pub use summary::{Summary, Tally};

/// Error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A run with this id is recorded already.
    #[error("run {0} is recorded already: run ids are used once")]
    Exists(RunId),
    /// No run with this id is recorded.
    #[error("run {run} is not in the record of runs ({place})")]
    Unknown {
        /// Id of the run.
        run: RunId,
        /// Where the record is.
        place: String,
    },
    /// Another client carries out the run.
    #[error("run {run} is being carried out by another client{by}")]
    Busy {
        /// Id of the run.
        run: RunId,
        /// Description of the other client, if known.
        by: String,
    },
    /// Another client has taken over the run. The client that held it must start nothing more.
    #[error("run {run} has been taken over by another client{by}: it goes on there")]
    Lost {
        /// Id of the run.
        run: RunId,
        /// Description of the other client, if known.
        by: String,
    },
    /// A location names no store.
    #[error("{location} cannot hold the record of runs: {problem}")]
    Location {
        /// The location.
        location: String,
        /// Description of the problem.
        problem: String,
    },
    /// A file of a record can be changed by another user.
    #[error("{what} is not used: {problem}")]
    Insecure {
        /// File or directory.
        what: String,
        /// Owner or mode.
        problem: String,
    },
    /// A record was written by a later version.
    #[error("{what} has format {format}, and this version of bolt reads formats 1 to {FORMAT}: use a newer one")]
    Later {
        /// File or object.
        what: String,
        /// Its format.
        format: u64,
    },
    /// A record is damaged.
    #[error("{what} is damaged: {problem}")]
    Damaged {
        /// File or object.
        what: String,
        /// Description of the problem.
        problem: String,
    },
    /// The record cannot be read or written.
    #[error("cannot {verb} {what}: {problem}")]
    Io {
        /// `read`, `write`, `list` or `open`.
        verb: &'static str,
        /// File or object.
        what: String,
        /// Error of the system.
        problem: String,
    },
}

/// Run as it was recorded.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// Summary of the request.
    pub head: Head,
    /// Request, instances and strategy.
    pub plan: StoredPlan,
    /// Progress, in the order in which it was recorded.
    pub entries: Vec<Entry>,
}

/// Runs of a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// Heads, the newest first.
    pub heads: Vec<Head>,
    /// Errors of the runs that cannot be read.
    pub problems: Vec<StoreError>,
    /// Number of older runs beyond the limit.
    pub more: usize,
}

/// Progress of a run, without its details.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Description of the client that carries out the run now, such as `process 71 on host a`. A record in a bucket shows a
    /// client that died until its lease expires.
    pub holder: Option<String>,
    /// Time for which [`RunStore::acquire`] watches the lease of a client that has not given up the run.
    pub lease: Option<Duration>,
    /// Progress so far.
    pub summary: Summary,
}

/// Exclusive right to carry out a run and to record its progress. Without [`Lease::release`] it ends with the process; in a
/// bucket, when it expires.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Adds entries to the progress. They are durable when this returns. After an error other than [`StoreError::Lost`], the next
    /// call must begin with the same entries; they are recorded once.
    async fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError>;

    /// Returns until when the right is certain; `None` if no other client can take it while this process lives.
    fn certainty(&self) -> Option<Certainty> {
        None
    }

    /// Waits until another client has taken over the run. Cancel safe.
    async fn lost(&self) -> StoreError;

    /// Gives up the right, so that another client need not wait.
    async fn release(self: Box<Self>) -> Result<(), StoreError>;
}

/// Place where runs are recorded.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Returns the name of the place, for messages.
    fn place(&self) -> String;

    /// Records a new run and takes the right to carry it out. The record is durable when this returns.
    async fn create(&self, head: &Head, plan: &StoredPlan) -> Result<Box<dyn Lease>, StoreError>;

    /// Takes the right to carry out a recorded run. What a previous holder has recorded by then is in the next [`RunStore::load`];
    /// afterwards it can record nothing more. Waits while a holder may have died: see the store.
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn Lease>, StoreError>;

    /// Returns a run.
    async fn load(&self, run: &RunId) -> Result<StoredRun, StoreError>;

    /// Returns the newest runs, at most `limit`.
    async fn list(&self, limit: usize) -> Result<Listing, StoreError>;

    /// Returns the progress of a run, without reading all of it where the store can.
    async fn status(&self, run: &RunId) -> Result<Status, StoreError>;
}

/// Opens the store at `location`: a directory, or `s3://bucket/prefix`. Sends nothing.
pub fn open(location: &Path) -> Result<Arc<dyn RunStore>, StoreError> {
    let text = location.to_str().filter(|text| text.contains("://") || text.starts_with("s3:"));
    #[cfg(feature = "s3")]
    if let Some(text) = text.filter(|text| text.starts_with("s3:")) {
        return Ok(Arc::new(InBucket::at(text)?));
    }
    if text.is_some() {
        return Err(StoreError::Location {
            location: crate::show::path(location),
            problem: "give a directory or s3://bucket/prefix".to_owned(),
        });
    }
    Ok(Arc::new(Directory::new(location.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_bucket_is_no_directory() {
        for text in ["s3:x", "s3:/ops/runs", "gs://ops/runs", "file:///var/runs"] {
            let error = open(Path::new(text)).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("s3://"), "{text}: {error}");
        }
        open(Path::new("./s3:x")).unwrap();
    }
}

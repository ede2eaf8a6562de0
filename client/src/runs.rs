//! The record of runs: what was planned, and how each instance ended, so that a run can be shown, resumed and repeated.
//!
//! ```text
//!  fleet::run ──events──▶ Recorder ──groups of entries──▶ RunStore ─┬─ Directory
//!                                                                  └─ (a bucket)
//!  RunStore::load ──▶ StoredRun ──▶ a Run that goes on, a table, a new run on the failed instances
//! ```
//!
//! The plan is durable before the first start. Entries are written in groups and may lag behind: the idempotency key of a
//! start is made from run and instance, so that an instance that is asked again starts nothing twice and answers with the
//! execution that it has.
//!
//! Must never: hold a secret parameter, or fail a run that has begun because it cannot be recorded.

mod directory;
mod fate;
mod record;
mod recorder;
mod resume;

use async_trait::async_trait;
use packs_schema::base::name::RunId;

pub use directory::Directory;
pub use fate::Fate;
pub use record::{Entry, FORMAT, Head, Plan as StoredPlan, StoredEnding};
pub use recorder::Recorder;
pub use resume::{ResumeError, TakenOver, take_over};

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
        /// `read` or `write`.
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

/// Exclusive right to carry out a run; ends when it is dropped, and when the process dies.
pub trait Lease: Send + Sync {}

/// Place where runs are recorded.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Returns the name of the place, for messages.
    fn place(&self) -> String;

    /// Records a new run and takes the right to carry it out. The record is durable when this returns.
    async fn create(&self, head: &Head, plan: &StoredPlan) -> Result<Box<dyn Lease>, StoreError>;

    /// Takes the right to carry out a recorded run.
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn Lease>, StoreError>;

    /// Adds entries to the progress of a run. They are durable when this returns.
    async fn append(&self, run: &RunId, entries: &[Entry]) -> Result<(), StoreError>;

    /// Returns a run.
    async fn load(&self, run: &RunId) -> Result<StoredRun, StoreError>;

    /// Returns the heads of all runs, the newest first, and the problems of those that cannot be read.
    async fn list(&self) -> Result<(Vec<Head>, Vec<StoreError>), StoreError>;

    /// True if a client carries out the run now.
    async fn is_busy(&self, run: &RunId) -> Result<bool, StoreError>;
}

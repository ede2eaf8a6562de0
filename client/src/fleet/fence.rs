//! Permission for each start of a run that another client can take over.

use std::fmt::Debug;

use async_trait::async_trait;

/// Gives permission for starts. A process that was stopped for a while, or a host that slept, does not know that another client has
/// gone on with its run meanwhile.
#[async_trait]
pub trait Fence: Debug + Send + Sync {
    /// Returns false if another client has taken over the run: then nothing more may be started. Asked directly before each start.
    async fn may_start(&self) -> bool;
}

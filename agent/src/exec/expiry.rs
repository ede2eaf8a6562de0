//! Start deadlines: a queued execution that has not started in time ends as `expired`.

use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::base::name::ExecutionId;

use super::Exec;
use super::state::{EXPIRED_REASON, may_expire};

impl Exec {
    /// Ends an execution that is still waiting after `delay`.
    pub(super) fn expire_after(self: &Arc<Self>, id: &ExecutionId, delay: Duration) {
        let (exec, expiring) = (Arc::downgrade(self), id.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Some(exec) = exec.upgrade() else { return };
            if exec.claim_start(&expiring, may_expire) {
                exec.abort(&expiring, State::Expired, EXPIRED_REASON.to_owned());
            }
        });
        if let Some(live) = self.lock().live.get_mut(id) {
            live.expiry = Some(timer.abort_handle());
        }
    }
}

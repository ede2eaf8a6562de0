//! The account that an action runs as.

use packs_schema::agent::launch::Refusal;
use packs_schema::base::name::{ExecutionId, UserName};

use super::{Refused, refuse};
use crate::account::{self, Account};
use crate::cgroup::Missing;
use crate::host::Host;
use crate::uids::{Lease, UidPool};

/// An account for an execution.
pub(super) struct Chosen {
    pub(super) account: Account,
    /// Set when no other execution has it.
    pub(super) lease: Option<Lease>,
    /// Why it is another one than it should be, without root.
    pub(super) missing: Option<Missing>,
}

/// The account that the action's file or the configuration names, after the site's map; where neither does, one that this
/// execution alone has.
pub(super) fn choose(host: &Host, run_as: Option<&UserName>, execution: &ExecutionId) -> Result<Chosen, Refused> {
    let without_root = || ("run_as", "not enforced without root".to_owned());
    let Some(asked) = run_as.or(host.config.execution.default_run_as.as_ref()) else {
        let Some(uids) = &host.uids else {
            return Ok(Chosen { account: host.me.clone(), lease: None, missing: Some(without_root()) });
        };
        let leased = uids.lease(execution).or_else(|e| refuse(Refusal::Resources, crate::describe(&e)))?;
        return Ok(Chosen { account: leased.1, lease: Some(leased.0), missing: None });
    };
    let name = host.config.users.map.get(asked).unwrap_or(asked);
    if host.root {
        let account = account::find(name).or_else(|e| refuse(Refusal::UnknownUser, format!("run_as {asked}: {e}")))?;
        if let Some(range) = host.uids.as_ref().map(UidPool::range).filter(|range| range.contains(account.uid.as_raw()))
        {
            let message = format!(
                "run_as {asked}: the user id {} is kept for executions with an account of their own \
                 (execution.uid_range = \"{range}\")",
                account.uid
            );
            return refuse(Refusal::UnknownUser, message);
        }
        return Ok(Chosen { account, lease: None, missing: None });
    }
    let same = account::find(name).is_ok_and(|account| account.uid == host.me.uid);
    Ok(Chosen { account: host.me.clone(), lease: None, missing: (!same).then(without_root) })
}

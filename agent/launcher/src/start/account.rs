//! Selection of the account that an action runs as.

use packs_schema::agent::launch::Refusal;
use packs_schema::base::name::{ExecutionId, UserName};

use crate::account::{self, Account};
use crate::cgroup::Unenforced;
use crate::host::Host;
use crate::refusal::{Refused, refuse};
use crate::uids::{Lease, LeaseError, UidPool};
use crate::{clean_up, log};

/// The account of an execution.
pub(super) struct ChosenAccount {
    pub(super) account: Account,
    /// Present when no other execution has this account.
    pub(super) lease: Option<Lease>,
    /// The reason why the action runs as the launcher's own account, without root.
    pub(super) unenforced: Option<Unenforced>,
}

/// Chooses the account that the action file or the configuration names, mapped by `[users.map]`; without either, an account that
/// only this execution has.
pub(super) fn choose(
    host: &Host,
    run_as: Option<&UserName>,
    execution: &ExecutionId,
) -> Result<ChosenAccount, Refused> {
    let without_root = || ("run_as", "not enforced without root".to_owned());
    let Some(requested) = run_as.or(host.config.execution.default_run_as.as_ref()) else {
        let Some(uids) = &host.uids else {
            return Ok(ChosenAccount { account: host.me.clone(), lease: None, unenforced: Some(without_root()) });
        };
        let leased = uids.lease(execution).or_else(|e| {
            // Executions that have ended keep their ids until they are cleaned up: the api tries again.
            let waits = matches!(e, LeaseError::Exhausted(_)) && clean_up::count_ended(host) > 0;
            refuse(if waits { Refusal::TooManyRunning } else { Refusal::Resources }, log::error_chain(&e))
        })?;
        return Ok(ChosenAccount { account: leased.1, lease: Some(leased.0), unenforced: None });
    };
    let name = host.config.users.map.get(requested).unwrap_or(requested);
    if host.root {
        let account =
            account::find(name).or_else(|e| refuse(Refusal::UnknownUser, format!("run_as {requested}: {e}")))?;
        if let Some(range) = host.uids.as_ref().map(UidPool::range).filter(|range| range.contains(account.uid.as_raw()))
        {
            let message = format!(
                "run_as {requested}: user id {} is reserved for executions with an account of their own \
                 (execution.uid_range = \"{range}\")",
                account.uid
            );
            return refuse(Refusal::UnknownUser, message);
        }
        return Ok(ChosenAccount { account, lease: None, unenforced: None });
    }
    let same = account::find(name).is_ok_and(|account| account.uid == host.me.uid);
    Ok(ChosenAccount { account: host.me.clone(), lease: None, unenforced: (!same).then(without_root) })
}

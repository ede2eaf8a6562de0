//! As whom an action runs.

use packs_schema::launch::Refusal;
use packs_schema::name::UserName;

use super::{Refused, refuse};
use crate::account::{self, Account};
use crate::cgroup::Missing;
use crate::host::Host;

/// The account for what the action's file says, after the site's map; and that it cannot be changed to, without root.
pub(super) fn choose(host: &Host, run_as: Option<&UserName>) -> Result<(Account, Option<Missing>), Refused> {
    let asked = run_as.unwrap_or(&host.config.execution.default_run_as);
    let name = host.config.users.map.get(asked).unwrap_or(asked);
    if host.root {
        return match account::find(name) {
            Ok(account) => Ok((account, None)),
            Err(e) => refuse(Refusal::UnknownUser, format!("run_as {asked}: {e}")),
        };
    }
    let same = account::find(name).is_ok_and(|account| account.uid == host.me.uid);
    let missing = (!same).then(|| ("run_as", "not enforced without root".to_owned()));
    Ok((host.me.clone(), missing))
}

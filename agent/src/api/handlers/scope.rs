//! Visibility of packs: a caller sees no more than its grants on their actions cover.
//!
//! A pack is visible to a caller that may see one of its actions. The reason for which a version failed may name any action
//! of the pack, so it is shown only to callers whose grant covers the whole pack.

use packs_schema::agent::rest::{FailedVersion, SyncStatus};
use packs_schema::base::name::{ActionRef, PackName};

use crate::access::Caller;
use crate::api::App;
use crate::api::visibility::covers;
use crate::health::{Detail, withheld};
use crate::registry::{ActivePack, RegistryError};

/// Returns the actions of an active pack that the caller may see.
pub(super) fn actions_of(app: &App, caller: &Caller, pack: &ActivePack) -> Result<Vec<ActionRef>, RegistryError> {
    let names = app.registry.actions(pack)?.into_iter();
    let references = names.map(|action| ActionRef::join(&pack.pack.name, &action));
    Ok(references.filter(|action| covers(&app.registry, caller, action)).collect())
}

/// Returns how much of a pack the caller may see.
pub(super) fn of_pack(app: &App, caller: &Caller, name: &PackName) -> Result<Detail, RegistryError> {
    if caller.covers_pack(name) {
        return Ok(Detail::All);
    }
    let visible = match app.registry.pack(name)? {
        Some(active) => !actions_of(app, caller, &active)?.is_empty(),
        None => caller.could_cover_in(name),
    };
    Ok(if visible { Detail::Name } else { Detail::Nothing })
}

/// Returns a failed version as the caller may see it.
pub(super) fn failed_version(detail: Detail, pack: &PackName, failed: FailedVersion) -> Option<FailedVersion> {
    match detail {
        Detail::All => Some(failed),
        Detail::Name => Some(FailedVersion { message: withheld(pack), findings: Vec::new(), ..failed }),
        Detail::Nothing => None,
    }
}

/// Returns the sync's status as the caller may see it.
pub(super) fn sync_status(app: &App, caller: &Caller, status: SyncStatus) -> Result<SyncStatus, RegistryError> {
    let mut failed = Vec::new();
    for (pack, version) in status.failed {
        let detail = of_pack(app, caller, &pack)?;
        failed.extend(failed_version(detail, &pack, version).map(|version| (pack, version)));
    }
    let mut rollouts = Vec::new();
    for (pack, rollout) in status.rollouts {
        if of_pack(app, caller, &pack)? != Detail::Nothing {
            rollouts.push((pack, rollout));
        }
    }
    Ok(SyncStatus { failed, rollouts, ..status })
}

//! `bolt repo refresh`: renews signatures before they expire, for cron and CI. It changes nothing of what is published.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::RepoError;
use super::access::Access;
use super::change::change;
use super::keys::KeyRing;
use super::sign::after;
use super::state::State;

/// Result of [`refresh`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Refreshed {
    /// Roles that were signed again.
    pub renewed: Vec<String>,
    /// Roles that expire soon and whose keys are not here.
    pub pending: Vec<Ending>,
}

/// Role whose signatures expire soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// The role.
    pub role: String,
    /// Time of expiry, RFC 3339.
    pub expires: String,
}

/// Signs snapshot and timestamp again, and the targets and teams that expire within `within` and whose keys are here.
///
/// With `only_if_needed`, does nothing while nothing expires within `within`, so that it can run often.
pub fn refresh(access: &Access, within: Duration, only_if_needed: bool) -> Result<Refreshed, RepoError> {
    let missing = RepoError::file("find the keys' directory", &access.keys);
    match std::fs::metadata(&access.keys) {
        Ok(there) if there.is_dir() => {}
        Ok(_) => return Err(missing(std::io::ErrorKind::NotADirectory.into())),
        Err(error) => return Err(missing(error)),
    }
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let soon = after(within);
        let mut done = Refreshed::default();
        let ending = |role: &str, at: Timestamp| Ending { role: role.to_owned(), expires: at.to_string() };
        if state.root.expires < soon {
            done.pending.push(ending("root", state.root.expires));
        }
        for owner in state.owners() {
            let Some(expires) = state.listed(&owner).map(|listed| listed.expires) else { continue };
            if expires >= soon {
                continue;
            }
            if ring.role(&owner.role())?.is_empty() {
                done.pending.push(ending(&owner.role(), expires));
            } else {
                state.touch(&owner);
                done.renewed.push(owner.role());
            }
        }
        let (snapshot, timestamp) = (&state.repository().snapshot().signed, &state.repository().timestamp().signed);
        if !only_if_needed || !done.renewed.is_empty() || snapshot.expires.min(timestamp.expires) < soon {
            state.renew();
            done.renewed.extend(["snapshot", "timestamp"].map(str::to_owned));
        }
        Ok(done)
    };
    change(access, edit).map(|(done, _)| done)
}

//! Signs a role: with a threshold of its keys, or not at all.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tough::editor::signed::SignedRole;
use tough::schema::{Hashes, KeyHolder, Metafile, Role, RoleKeys, Targets};

use super::key_files;
use super::keys::{self, Key, KeyRing};
use super::{RepoError, SPEC_VERSION};
use crate::repo::KeyError;

/// Signs a role with the keys of `name` in `ring`. Returns the file name, its content, and its entry for a snapshot or timestamp.
pub(super) async fn sign<T: Role + serde::Serialize>(
    role: T,
    holder: &KeyHolder,
    allowed: &RoleKeys,
    name: &str,
    ring: &mut KeyRing,
) -> Result<(String, Vec<u8>, Metafile), RepoError> {
    let keys = keys_for(allowed, name, ring)?;
    let (file, version) = (role.filename(true), role.version());
    let signed = SignedRole::new(role, holder, &keys::sources(&keys), &SystemRandom::new())
        .await
        .map_err(RepoError::tuf("sign the new metadata"))?;
    // The library writes indented JSON, a third of which is blanks that every agent would download.
    let mut bytes = serde_json::to_vec(signed.signed()).expect("metadata serialise");
    bytes.push(b'\n');
    let hashes = Hashes { sha256: Sha256::digest(&bytes).to_vec().into(), _extra: HashMap::new() };
    let meta = Metafile { length: Some(bytes.len() as u64), hashes: Some(hashes), version, _extra: HashMap::new() };
    Ok((file, bytes, meta))
}

/// Returns the keys of `name` in `ring`, after checking that a threshold of them may sign.
pub(super) fn keys_for(allowed: &RoleKeys, name: &str, ring: &mut KeyRing) -> Result<Vec<Key>, RepoError> {
    let keys = ring.role(name)?;
    let mut good = 0;
    for key in &keys {
        good += u64::from(allowed.keyids.contains(&key.id()?));
    }
    if keys.is_empty() && !ring.directory().exists() {
        // The error names the missing file.
        ring.open(&key_files::path(ring.directory(), name, 1))?;
    }
    let (threshold, directory) = (allowed.threshold.get(), ring.directory().to_owned());
    if good == 0 && !keys.is_empty() {
        return Err(RepoError::Keys(KeyError::OtherKeys { role: name.to_owned(), directory }));
    }
    if good < threshold {
        return Err(RepoError::Keys(KeyError::TooFewKeys { role: name.to_owned(), good, threshold, directory }));
    }
    Ok(keys)
}

/// Returns targets that list nothing.
pub(super) fn no_targets(version: NonZeroU64, expires: Timestamp) -> Targets {
    Targets { delegations: None, ..Targets::new(SPEC_VERSION.to_owned(), version, expires) }
}

pub(super) fn next(version: NonZeroU64) -> NonZeroU64 {
    version.saturating_add(1)
}

/// Returns the time in `duration` from now.
pub(super) fn after(duration: Duration) -> Timestamp {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now.saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

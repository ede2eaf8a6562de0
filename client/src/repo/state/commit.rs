//! Signs a changed state and writes it: targets' files first, the timestamp last.

use std::collections::HashMap;
use std::num::NonZeroU64;

use packs_schema::delivery::marks::Mark;
use tough::schema::{DelegatedTargets, KeyHolder, RoleType, Snapshot};

use super::super::keys::KeyRing;
use super::super::owner::Owner;
use super::super::sign::{after, keys_for, sign};
use super::super::storage::Storage;
use super::super::trust::top_keys;
use super::super::{Expiry, RepoError, archives, hex};
use super::State;

impl State {
    /// Refuses when the keys in `ring` cannot sign the snapshot and the timestamp, which every change signs.
    pub(in crate::repo) fn check_online_keys(&self, ring: &mut KeyRing) -> Result<(), RepoError> {
        for (role, name) in [(RoleType::Snapshot, "snapshot"), (RoleType::Timestamp, "timestamp")] {
            keys_for(&self.role_keys(role)?, name, ring)?;
        }
        Ok(())
    }

    /// Refuses when the keys in `ring` cannot sign for `owner`.
    pub(in crate::repo) fn check_owner_keys(&self, owner: &Owner, ring: &mut KeyRing) -> Result<(), RepoError> {
        keys_for(&self.owner_keys(owner)?, &owner.role(), ring).map(drop)
    }

    /// Returns an error if an archive that the change requires is missing or damaged.
    pub(in crate::repo) fn check_required(&self, storage: &Storage) -> Result<(), RepoError> {
        for name in self.required.iter().filter(|name| !self.files.contains_key(*name)) {
            if let Some((_, target)) = self.find(name) {
                archives::require(storage, name, target)?;
            }
        }
        Ok(())
    }

    /// Signs the changed roles, the snapshot and the timestamp, and makes that the repository's newest state. Returns the version
    /// of the timestamp.
    pub(in crate::repo) async fn commit(
        mut self,
        storage: &Storage,
        ring: &mut KeyRing,
        expiry: &Expiry,
    ) -> Result<u64, RepoError> {
        for owner in self.changed.clone() {
            self.retire(&owner).await?;
        }
        let mut snapshot = self.repository.snapshot().signed.clone();
        let mut written: Vec<(String, Vec<u8>)> = Vec::new();
        // Teams first: the targets name their keys, not their metadata.
        for owner in std::mem::take(&mut self.changed).into_iter().rev() {
            let role = owner.role();
            let listed_before = snapshot.meta.get(&format!("{role}.json")).map(|meta| meta.version);
            let floor = NonZeroU64::new(self.trust.seen(&role)).unwrap_or(NonZeroU64::MIN);
            let listed = self.listed_mut(&owner)?;
            // A team that existed before continues its versions.
            let version = listed_before.unwrap_or(listed.version).max(listed.version);
            listed.version = storage.next(version.max(floor));
            listed.expires = after(expiry.targets);
            let listed = listed.clone();
            let (file, bytes, meta) = match &owner {
                Owner::Top => {
                    let holder = KeyHolder::Root(self.root.clone());
                    sign(listed, &holder, &self.role_keys(RoleType::Targets)?, &role, ring).await?
                }
                Owner::Team(_) => {
                    let delegations = self.targets.delegations.clone().unwrap_or_default();
                    let keys = self.targets.delegated_role(&role).map_err(|_| RepoError::Hidden(role.clone()))?.keys();
                    let named = DelegatedTargets { name: role.clone(), targets: listed };
                    sign(named, &KeyHolder::Delegations(delegations), &keys, &role, ring).await?
                }
            };
            written.push((file, bytes));
            snapshot.meta.insert(format!("{role}.json"), meta);
        }
        for (role, file, bytes, meta) in std::mem::take(&mut self.adopted) {
            written.push((file, bytes));
            snapshot.meta.insert(format!("{role}.json"), meta);
        }
        let marks = self.marks_of(&snapshot);
        let (timestamp, online) = self.online(storage, snapshot, ring, expiry, &mut written).await?;
        for (name, content) in &self.files {
            storage.write_target(name, content)?;
        }
        // Readers see the new state once the timestamp is written.
        storage.write_metadata(&written)?;
        self.trust.written(marks.into_iter().chain(online).collect())?;
        Ok(timestamp)
    }

    /// Returns the high-water marks of the roles in a snapshot, with the keys that sign for them from now on.
    fn marks_of(&self, snapshot: &Snapshot) -> Vec<(String, Mark)> {
        let keys = |role: &str| match self.targets.delegated_role(role) {
            Ok(role) => role.keyids.iter().map(|id| hex(id)).collect(),
            Err(_) => top_keys(&self.root, RoleType::Targets),
        };
        let listed = snapshot.meta.iter().filter_map(|(file, meta)| Some((file.strip_suffix(".json")?, meta)));
        let known = listed.filter(|(role, _)| *role == "targets" || self.targets.delegated_role(role).is_ok());
        known.map(|(role, meta)| (role.to_owned(), Mark::new(meta.version.get(), keys(role)))).collect()
    }

    /// Signs snapshot and timestamp. Returns the version of the timestamp, and the marks of both.
    async fn online(
        &self,
        storage: &Storage,
        mut snapshot: Snapshot,
        ring: &mut KeyRing,
        expiry: &Expiry,
        written: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<(u64, [(String, Mark); 2]), RepoError> {
        let holder = KeyHolder::Root(self.root.clone());
        let floor = |role: &str| NonZeroU64::new(self.trust.seen(role)).unwrap_or(NonZeroU64::MIN);
        snapshot.version = storage.next(snapshot.version.max(floor("snapshot")));
        let snapshot_mark = Mark::new(snapshot.version.get(), top_keys(&self.root, RoleType::Snapshot));
        snapshot.expires = after(expiry.snapshot);
        let keys = self.role_keys(RoleType::Snapshot)?;
        let (file, bytes, meta) = sign(snapshot, &holder, &keys, "snapshot", ring).await?;
        written.push((file, bytes));
        let mut timestamp = self.repository.timestamp().signed.clone();
        timestamp.version = storage.next(timestamp.version.max(floor("timestamp")));
        timestamp.expires = after(expiry.timestamp);
        timestamp.meta = HashMap::from([("snapshot.json".to_owned(), meta)]);
        let version = timestamp.version.get();
        let keys = self.role_keys(RoleType::Timestamp)?;
        let (file, bytes, _) = sign(timestamp, &holder, &keys, "timestamp", ring).await?;
        written.push((file, bytes));
        let timestamp_mark = Mark::new(version, top_keys(&self.root, RoleType::Timestamp));
        Ok((version, [("snapshot".to_owned(), snapshot_mark), ("timestamp".to_owned(), timestamp_mark)]))
    }
}

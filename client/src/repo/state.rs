//! State of a repository: loaded and verified, edited, and signed.
//!
//! ```text
//!  load ──▶ State ──set, unset, delegate──▶ State ──commit──▶ targets' files, team roles, targets, snapshot, timestamp
//! ```
//!
//! Only the roles that changed are signed again, so a team needs its own key and those of snapshot and timestamp, and never
//! that of the targets. Everything is signed before the first file is written, so that missing keys leave nothing behind.

mod commit;
mod removed;
pub(super) mod retired;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;

use jiff::Timestamp;
use packs_schema::base::name::{ChannelName, PackName, PackVersion, TeamName};
use packs_schema::delivery::channel::{Channel, MAX_CHANNEL_FILE, channel_target, pack_target, parse_pack_target};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::schema::{
    DelegatedRole, DelegatedTargets, Hashes, Metafile, Role, RoleKeys, RoleType, Root, Signed, Target, Targets,
};
use tough::{IntoVec, Repository, TargetName};

use super::change_reason::ChangeReason;
use super::content::Content;
use super::keys::KeyRing;
use super::owner::{Owner, alone};
use super::storage::Storage;
use super::trust::{Pinned, Verified, View};
use super::{RepoError, hex};
use crate::repo::TeamError;
use retired::Retired;

/// State of a repository with pending edits.
///
/// `T` records what it was verified against. Only a state with a [`Verified`] can be committed, and only [`Pinned`] makes one;
/// a state for reading is a `State<Viewed>`.
pub(super) struct State<T = Verified> {
    trust: T,
    repository: Repository,
    pub(super) root: Root,
    pub(super) targets: Targets,
    /// Roles to sign again.
    changed: BTreeSet<Owner>,
    /// Published versions that no channel holds and agents do not download the metadata of.
    pub(super) retired: BTreeMap<Owner, Retired>,
    /// Files of new targets, by target name.
    files: BTreeMap<String, Content>,
    /// Archives that must be intact in the repository for this change to be made, by target name.
    required: BTreeSet<String>,
    /// Metadata that others signed: role, file name, content, and the entry for the snapshot.
    adopted: Vec<(String, String, Vec<u8>, Metafile)>,
    /// True if snapshot and timestamp are signed again even when nothing else changed.
    renewed: bool,
    /// Reason of the change, for each line that it adds to the journal.
    pub(super) reason: Option<ChangeReason>,
}

/// Marks a state for reading only.
pub(super) struct Viewed;

impl State<Viewed> {
    /// Loads the newest state for reading.
    pub(super) async fn view(storage: &Storage, view: &View) -> Result<State<Viewed>, RepoError> {
        State::of(view.load(storage).await?, Viewed).await
    }
}

impl State {
    /// Loads and verifies the newest state. A root that has expired is an error.
    pub(super) async fn load(storage: &Storage, pinned: &Pinned) -> Result<State, RepoError> {
        let state = State::read(storage, pinned).await?;
        if state.root.expires < Timestamp::now() {
            return Err(RepoError::RootExpired(state.root.expires));
        }
        Ok(state)
    }

    /// Does the same, also under a root that has expired: the next root is made from it.
    pub(super) async fn read(storage: &Storage, pinned: &Pinned) -> Result<State, RepoError> {
        State::verified(pinned.load(storage, None).await?).await
    }

    /// Does the same under the root of version `newest`, although there is a newer one.
    pub(super) async fn read_under(storage: &Storage, pinned: &Pinned, newest: u64) -> Result<State, RepoError> {
        State::verified(pinned.load(storage, Some(newest)).await?).await
    }

    async fn verified((repository, verified): (Repository, Verified)) -> Result<State, RepoError> {
        let mut state = State::of(repository, verified).await?;
        if state.trust.is_older {
            // Agents refuse versions below those that they have seen, so such roles are signed with higher ones.
            let version = |state: &State, owner: &Owner| state.listed(owner).map_or(0, |listed| listed.version.get());
            let owners = state.owners().into_iter();
            let older: Vec<Owner> = owners.filter(|o| version(&state, o) < state.trust.seen(&o.role())).collect();
            older.iter().for_each(|owner| state.touch(owner));
            state.renew();
        }
        Ok(state)
    }
}

impl<T> State<T> {
    async fn of(repository: Repository, trust: T) -> Result<State<T>, RepoError> {
        let (root, targets) = (repository.root().signed.clone(), repository.targets().signed.clone());
        let mut state = State {
            trust,
            repository,
            root,
            targets,
            changed: BTreeSet::new(),
            retired: BTreeMap::new(),
            files: BTreeMap::new(),
            required: BTreeSet::new(),
            adopted: Vec::new(),
            renewed: false,
            reason: None,
        };
        let hidden = state.roles().find(|role| role.targets.is_none()).map(|role| role.name.clone());
        if let Some(role) = hidden {
            return Err(RepoError::Hidden(role));
        }
        state.load_retired().await?;
        Ok(state)
    }

    /// Returns the repository as it was verified.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the delegated roles.
    pub(super) fn roles(&self) -> impl Iterator<Item = &DelegatedRole> {
        self.targets.delegations.iter().flat_map(|delegations| &delegations.roles)
    }

    /// Returns every owner.
    pub(super) fn owners(&self) -> Vec<Owner> {
        std::iter::once(Owner::Top).chain(self.roles().filter_map(|role| Owner::of_role(&role.name))).collect()
    }

    /// Returns the owner of a target name.
    fn owner_of(&self, name: &TargetName) -> Owner {
        let role = self.roles().find(|role| alone(role).target_is_delegated(name));
        role.and_then(|role| Owner::of_role(&role.name)).unwrap_or(Owner::Top)
    }

    /// Returns the owner of `pack`; an error if `team` is given and is not the owner.
    pub(super) fn owner(&self, pack: &PackName, team: Option<&TeamName>) -> Result<Owner, RepoError> {
        let any = PackVersion::new("0.0.0").expect("a version");
        let owner = self.owner_of(&target_name(&pack_target(pack, &any))?);
        match team {
            Some(team) if owner.team() != Some(team) => Err(RepoError::Team(TeamError::NotDelegated {
                pack: pack.clone(),
                team: team.clone(),
                owner: owner.role(),
            })),
            _ => Ok(owner),
        }
    }

    /// Returns the targets that `owner` lists.
    pub(super) fn listed(&self, owner: &Owner) -> Option<&Targets> {
        match owner {
            Owner::Top => Some(&self.targets),
            Owner::Team(_) => self.targets.delegated_targets(&owner.role()).ok().map(|signed| &signed.signed),
        }
    }

    pub(super) fn listed_mut(&mut self, owner: &Owner) -> Result<&mut Targets, RepoError> {
        let role = owner.role();
        match owner {
            Owner::Top => Ok(&mut self.targets),
            Owner::Team(_) => match self.targets.delegated_targets_mut(&role) {
                Ok(signed) => Ok(&mut signed.signed),
                Err(_) => Err(RepoError::Hidden(role)),
            },
        }
    }

    /// Finds a target, listed or retired, with its owner.
    pub(super) fn find(&self, name: &str) -> Option<(Owner, &Target)> {
        let name = TargetName::new(name).ok()?;
        let owner = self.owner_of(&name);
        let listed = self.listed(&owner)?.targets.get(&name);
        let target = listed.or_else(|| self.retired.get(&owner)?.get(name.raw()))?;
        Some((owner, target))
    }

    /// Returns every target that its owner lists or has retired, sorted by name.
    pub(super) fn all(&self) -> Vec<(&str, Owner, &Target)> {
        let mut all = BTreeMap::new();
        for owner in self.owners() {
            let retired = self.retired.get(&owner).into_iter().flat_map(Retired::iter);
            let retired = retired.filter(|(name, _)| TargetName::new(*name).is_ok_and(|n| self.owner_of(&n) == owner));
            let listed = self.listed(&owner).into_iter().flat_map(|targets| &targets.targets);
            let listed = listed.filter(|(name, _)| self.owner_of(name) == owner).map(|(name, t)| (name.raw(), t));
            all.extend(retired.chain(listed).map(|(name, target)| (name, (owner.clone(), target))));
        }
        all.into_iter().map(|(name, (owner, target))| (name, owner, target)).collect()
    }

    /// Reads a target of at most `limit` bytes; `None` when it does not exist.
    pub(super) async fn bytes(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, RepoError> {
        if let Some(content) = self.files.get(name) {
            return content.to_vec().map(Some).map_err(RepoError::file("read", std::env::temp_dir()));
        }
        let Some((_, target)) = self.find(name) else { return Ok(None) };
        if target.length > limit {
            return Err(RepoError::Unreadable {
                name: name.to_owned(),
                problem: format!("it has {} bytes; at most {limit} are read", target.length),
            });
        }
        let failed = RepoError::tuf("read a target of the repository");
        match self.repository.read_target(&target_name(name)?).await {
            Ok(Some(stream)) => stream.into_vec().await.map(Some).map_err(failed),
            Ok(None) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the content of a channel for a pack.
    pub(super) async fn channel(&self, channel: &ChannelName, pack: &PackName) -> Result<Option<Channel>, RepoError> {
        let name = channel_target(channel, pack);
        let Some(bytes) = self.bytes(&name, MAX_CHANNEL_FILE).await? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|e| RepoError::Unreadable { name, problem: e.to_string() })
    }

    /// Adds or replaces a target of `owner`.
    pub(super) fn set(
        &mut self,
        owner: &Owner,
        name: &str,
        content: impl Into<Content>,
        custom: HashMap<String, Value>,
    ) -> Result<(), RepoError> {
        let content = content.into();
        let hashes = Hashes { sha256: content.hash(), _extra: HashMap::new() };
        let target = Target { length: content.length(), hashes, custom, _extra: HashMap::new() };
        self.listed_mut(owner)?.targets.insert(target_name(name)?, target);
        self.files.insert(name.to_owned(), content);
        self.touch(owner);
        Ok(())
    }

    /// Removes a target of `owner`.
    pub(super) fn unset(&mut self, owner: &Owner, name: &str) -> Result<(), RepoError> {
        self.listed_mut(owner)?.targets.remove(&target_name(name)?);
        self.files.remove(name);
        self.touch(owner);
        Ok(())
    }

    /// Writes the file of a listed target again with the change.
    pub(super) fn supply(&mut self, name: &str, content: impl Into<Content>) {
        self.files.insert(name.to_owned(), content.into());
    }

    /// Refuses the change if the archive of this version is missing or damaged, unless the change writes it.
    pub(super) fn require_archive(&mut self, pack: &PackName, version: &PackVersion) {
        self.required.insert(pack_target(pack, version));
    }

    /// Moves the chosen targets from one owner to another. Returns their number.
    pub(super) fn hand_over(
        &mut self,
        from: &Owner,
        to: &Owner,
        which: impl Fn(&TargetName) -> bool,
    ) -> Result<usize, RepoError> {
        self.restore(from, |name| TargetName::new(name).is_ok_and(|name| which(&name)))?;
        let listed = self.listed_mut(from)?;
        let names: Vec<TargetName> = listed.targets.keys().filter(|name| which(name)).cloned().collect();
        let moved: Vec<_> = names.iter().filter_map(|name| listed.targets.remove_entry(name)).collect();
        let count = moved.len();
        self.listed_mut(to)?.targets.extend(moved);
        if count > 0 {
            self.touch(from);
            self.touch(to);
        }
        Ok(count)
    }

    /// Removes the chosen targets of `owner`; `rememberer` signs which archives their versions had.
    pub(super) async fn drop_targets(
        &mut self,
        owner: &Owner,
        rememberer: &Owner,
        which: impl Fn(&TargetName) -> bool,
    ) -> Result<(), RepoError> {
        let retired = self.take_retired(owner, |name| TargetName::new(name).is_ok_and(|name| which(&name)))?;
        let listed = self.listed_mut(owner)?.targets.extract_if(|name, _| which(name));
        let dropped = listed.map(|(name, target)| (name.raw().to_owned(), target)).chain(retired);
        let versions = dropped.filter(|(name, _)| parse_pack_target(name).is_some());
        let removed = versions.map(|(name, target)| (name, hex(&target.hashes.sha256))).collect();
        self.touch(owner);
        self.remember_removed(rememberer, removed).await
    }

    /// Marks `owner` to be signed again.
    pub(super) fn touch(&mut self, owner: &Owner) {
        self.changed.insert(owner.clone());
    }

    /// Removes the mark of a role that no longer exists.
    pub(super) fn forget(&mut self, owner: &Owner) {
        self.changed.remove(owner);
    }

    /// Takes over a role's metadata as its team signed them.
    pub(super) fn adopt(&mut self, role: &str, signed: &Signed<DelegatedTargets>) {
        let mut bytes = serde_json::to_vec_pretty(signed).expect("metadata serialise");
        bytes.push(b'\n');
        let hashes = Hashes { sha256: Sha256::digest(&bytes).to_vec().into(), _extra: HashMap::new() };
        let (length, version) = (Some(bytes.len() as u64), signed.signed.version());
        let meta = Metafile { length, hashes: Some(hashes), version, _extra: HashMap::new() };
        self.adopted.push((role.to_owned(), signed.signed.filename(true), bytes, meta));
    }

    /// Returns the version that the snapshot lists for a role, also for one that is no longer delegated.
    pub(super) fn version_of(&self, role: &str) -> Option<NonZeroU64> {
        self.repository.snapshot().signed.meta.get(&format!("{role}.json")).map(|meta| meta.version)
    }

    /// True if there is anything to sign.
    pub(super) fn is_changed(&self) -> bool {
        self.renewed || !self.changed.is_empty()
    }

    /// Marks snapshot and timestamp to be signed again.
    pub(super) fn renew(&mut self) {
        self.renewed = true;
    }

    /// Signs with the keys of `root`, the next one.
    pub(super) fn sign_under(&mut self, root: Root) {
        self.root = root;
    }

    fn role_keys(&self, role: RoleType) -> Result<RoleKeys, RepoError> {
        self.root.roles.get(&role).cloned().ok_or_else(|| RepoError::Hidden(role.to_string()))
    }

    /// Returns the keys that may sign for `owner`.
    fn owner_keys(&self, owner: &Owner) -> Result<RoleKeys, RepoError> {
        match owner {
            Owner::Top => self.role_keys(RoleType::Targets),
            Owner::Team(_) => {
                let role = owner.role();
                Ok(self.targets.delegated_role(&role).map_err(|_| RepoError::Hidden(role.clone()))?.keys())
            }
        }
    }

    /// Returns the ids of the keys in `ring` that may sign for `owner`.
    pub(super) fn signers(&self, owner: &Owner, ring: &mut KeyRing) -> Result<Vec<String>, RepoError> {
        let allowed = self.owner_keys(owner)?;
        let mut ids = Vec::new();
        for key in ring.role(&owner.role())? {
            let id = key.id()?;
            if allowed.keyids.contains(&id) {
                ids.push(hex(&id));
            }
        }
        Ok(ids)
    }
}

pub(super) fn target_name(name: &str) -> Result<TargetName, RepoError> {
    TargetName::new(name).map_err(|e| RepoError::Unreadable { name: name.to_owned(), problem: e.to_string() })
}

//! `bolt repo rotate-root`: a new root, which lists the keys that sign from now on.
//!
//! The new root is signed by a threshold of the old root's keys, since agents follow it from there, and by a threshold of its own.
//! Keys of other roles may be replaced in it; those roles are then signed again in the same step. An agent that has not polled
//! for a long time follows the chain of roots one by one.
//!
//! A change of keys is two roots: one with the old and the new keys and, when everything is signed with the new ones, one with these
//! alone. So the repository verifies wherever its publisher stops, nothing is signed again on the authority of keys that are no
//! longer valid, and the change can be repeated. When another publisher signs with the old keys just before the second root, that
//! change is signed again under the first root.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use packs_schema::base::name::TeamName;
use serde::Serialize;
use tough::editor::signed::SignedRole;
use tough::schema::{KeyHolder, RoleKeys, RoleType, Root, Signed};

use super::access::Access;
use super::init::ROLES;
use super::key_files::{self, MAX_KEYS};
use super::keys::{self, Key, KeyRing};
use super::owner::Owner;
use super::passphrase::Passphrase;
use super::sign::{after, next};
use super::state::State;
use super::storage::Storage;
use super::trust::{Pinned, TrustFiles};
use super::{RepoError, block_on, hex};
use crate::files;
use crate::repo::KeyError;

/// Arguments of [`rotate_root`].
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Roles that get new keys, as many as they have, made in `new_keys`.
    pub replace: Vec<RoleType>,
    /// Directory for new keys.
    pub new_keys: Option<PathBuf>,
    /// Passphrase that encrypts them; `None` leaves them plain.
    pub passphrase: Option<Passphrase>,
    /// Files with private keys that become root keys as well.
    pub add: Vec<PathBuf>,
    /// Ids, or their prefixes, of root keys to remove.
    pub remove: Vec<String>,
    /// Number of root keys that must sign from now on; absent: unchanged.
    pub threshold: Option<u8>,
    /// Lifetime of the new root.
    pub expires: Duration,
}

/// Result of [`rotate_root`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The version of the new root.
    pub version: u64,
    /// Number of root keys that must sign the next root.
    pub threshold: u64,
    /// Ids of the root keys.
    pub root_keys: Vec<String>,
    /// Roles whose keys changed.
    pub replaced: Vec<String>,
    /// Private keys that were made.
    pub made: Vec<PathBuf>,
    /// Teams of the repository, which have copies of the keys of snapshot and timestamp.
    pub teams: Vec<TeamName>,
    /// The pinned root, which is the new one now.
    pub pinned: PathBuf,
}

/// In a root with old keys and new ones: how many of each role's are new. Should it stay at that, the next change of keys makes
/// as many as there were before.
const ADDED: &str = "x-bolt-added";

/// Key that was made, with its role and its file.
type Made = (RoleType, PathBuf, Key);

/// Writes the next root, and signs again every role whose keys changed. It works under an expired root as well.
///
/// When roles other than the root get new keys, two roots are written, so that the repository verifies at every step: one with the
/// old and the new keys, and, once everything is signed with the new, one with these alone. After an interruption in between the
/// old keys are still valid, and the rotation can be repeated.
pub fn rotate_root(access: &Access, rotation: &Rotation) -> Result<Rotated, RepoError> {
    let storage = Storage::at(&access.repository)?;
    storage.check_repository()?;
    let pinned = Pinned::open(access)?;
    let mut ring = access.ring();
    let mut plan: Option<Plan> = None;
    let done = storage.attempt(|| {
        block_on(async || {
            if plan.is_none() {
                let state = State::read(&storage, &pinned).await?;
                plan = Some(begin(&storage, &state, &mut ring, access, rotation).await?);
            }
            match &mut plan {
                Some(plan) => plan.resume(&storage, &pinned, &mut ring, access).await,
                None => unreachable!("it was just made"),
            }
        })
    });
    match (done, plan) {
        (Err(source), Some(Plan { between: Some((version, _)), is_written: false, .. })) => {
            Err(RepoError::HalfRotated { version, source: Box::new(source) })
        }
        (done, _) => {
            let done = done?;
            if let Some(directory) = rotation.new_keys.as_ref().filter(|_| !done.made.is_empty()) {
                pinned.copy_to(directory)?;
            }
            Ok(done)
        }
    }
}

/// Makes the keys and signs the roots; writes the one with old and new keys, where it is needed.
async fn begin(
    storage: &Storage,
    state: &State,
    ring: &mut KeyRing,
    access: &Access,
    rotation: &Rotation,
) -> Result<Plan, RepoError> {
    let made = make(&state.root, rotation, ring)?;
    let plan = async {
        let plan = describe_and_sign(state, ring, access, rotation, &made).await?;
        if let Some((version, bytes)) = &plan.between {
            storage.write_root(*version, bytes)?;
        }
        Ok(plan)
    };
    plan.await.inspect_err(|_| {
        // No root lists these keys.
        let files = made.iter().map(|(_, path, _)| path).filter(|path| !is_service(path));
        files.for_each(|path| drop(std::fs::remove_file(path)));
    })
}

/// Signed roots of a rotation, and its progress.
struct Plan {
    /// The root with the old keys and the new ones, and its version.
    between: Option<(u64, Vec<u8>)>,
    root: Root,
    bytes: Vec<u8>,
    /// True once `root` is written.
    is_written: bool,
    replaced: Vec<RoleType>,
    rotated: Rotated,
}

impl Plan {
    /// Continues the rotation. It is called again when another publisher was faster, whose change is included.
    async fn resume(
        &mut self,
        storage: &Storage,
        pinned: &Pinned,
        ring: &mut KeyRing,
        access: &Access,
    ) -> Result<Rotated, RepoError> {
        let Some((between, _)) = self.between else {
            self.publish_alone(storage, pinned, ring, access).await?;
            return Ok(self.rotated.clone());
        };
        if !self.is_written {
            self.sign(State::read(storage, pinned).await?, storage, ring, access).await?;
            storage.write_root(self.rotated.version, &self.bytes)?;
            self.is_written = true;
        }
        // Another publisher may have used the old keys between the two.
        if State::read(storage, pinned).await.is_err() {
            self.sign(State::read_under(storage, pinned, between).await?, storage, ring, access).await?;
        }
        Ok(self.rotated.clone())
    }

    /// Signs the newest state with the keys of the new root.
    async fn sign(
        &self,
        mut state: State,
        storage: &Storage,
        ring: &mut KeyRing,
        access: &Access,
    ) -> Result<(), RepoError> {
        if self.replaced.contains(&RoleType::Targets) {
            state.touch(&Owner::Top);
        }
        state.renew();
        state.sign_under(self.root.clone());
        state.commit(storage, ring, &access.expiry).await.map(drop)
    }

    /// The other roles' signatures stay good, and their keys may be elsewhere; where they are here, a new timestamp has
    /// instances take the new root with their next poll.
    async fn publish_alone(
        &mut self,
        storage: &Storage,
        pinned: &Pinned,
        ring: &mut KeyRing,
        access: &Access,
    ) -> Result<(), RepoError> {
        if !self.is_written {
            storage.write_root(self.rotated.version, &self.bytes)?;
            self.is_written = true;
        }
        let mut is_here = |role: &str| ring.role(role).is_ok_and(|keys| !keys.is_empty());
        // Read in any case: the new root is pinned when it was verified.
        let state = State::read(storage, pinned).await?;
        if is_here("snapshot") && is_here("timestamp") {
            self.sign(state, storage, ring, access).await?;
        }
        Ok(())
    }
}

/// True for the file of a key in a key service, which is not made here.
fn is_service(path: &Path) -> bool {
    path.extension() == Some("kms".as_ref())
}

/// Makes the keys that replace others.
fn make(old: &Root, rotation: &Rotation, ring: &mut KeyRing) -> Result<Vec<Made>, RepoError> {
    let mut wanted = Vec::new();
    for role in &rotation.replace {
        let directory = rotation.new_keys.as_ref().ok_or(RepoError::Keys(KeyError::NoNewKeys))?;
        let added = old._extra.get(ADDED).and_then(|added| added.get(role.to_string())?.as_u64()).unwrap_or(0);
        let count = old.roles.get(role).map_or(1, |keys| keys.keyids.len());
        let count = count.saturating_sub(usize::try_from(added).unwrap_or(0)).max(1);
        let count = u8::try_from(count).unwrap_or(MAX_KEYS).min(MAX_KEYS);
        wanted.extend((1..=count).map(|n| (*role, key_files::planned_path(directory, &key_files::name(*role), n))));
    }
    let new = wanted.iter().map(|(_, path)| path.as_path()).filter(|path| !is_service(path));
    files::refuse_existing(&new.collect::<Vec<_>>())?;
    if let Some(directory) = rotation.new_keys.as_ref().filter(|_| !wanted.is_empty()) {
        files::create_dir(directory)?;
    }
    let made = |(role, path): (RoleType, PathBuf)| {
        let key =
            if is_service(&path) { ring.open(&path)? } else { keys::generate(&path, rotation.passphrase.as_ref())? };
        Ok((role, path, key))
    };
    wanted.into_iter().map(made).collect()
}

async fn describe_and_sign(
    state: &State,
    ring: &mut KeyRing,
    access: &Access,
    rotation: &Rotation,
    made: &[Made],
) -> Result<Plan, RepoError> {
    let old = state.root.clone();
    let mut signers = ring.role("root")?;
    for path in &rotation.add {
        signers.push(ring.open(path)?);
    }
    let added = &signers[signers.len() - rotation.add.len()..];
    let mut root = describe(&old, rotation, made, added)?;
    signers.extend(made.iter().filter(|(role, ..)| *role == RoleType::Root).map(|(_, _, key)| key.clone()));
    if let Some(directory) = &rotation.new_keys {
        ring.also(directory, rotation.passphrase.as_ref());
    }
    let replaced: Vec<RoleType> =
        ROLES.into_iter().filter(|role| old.roles.get(role) != root.roles.get(role)).collect();
    let mut between = None;
    let mut before = old.clone();
    if replaced.iter().any(|role| *role != RoleType::Root) {
        before = both(&old, &root);
        root.version = next(before.version);
        between = Some((before.version.get(), sign(&old, &before, &signers, access).await?));
    }
    let bytes = sign(&before, &root, &signers, access).await?;
    let all = |role: RoleType| root.roles.get(&role).map_or_else(Vec::new, |keys| keys.keyids.clone());
    let rotated = Rotated {
        version: root.version.get(),
        threshold: root.roles.get(&RoleType::Root).map_or(0, |keys| keys.threshold.get()),
        root_keys: all(RoleType::Root).iter().map(|id| hex(id)).collect(),
        replaced: replaced.iter().map(ToString::to_string).collect(),
        made: made.iter().map(|(_, path, _)| path.clone()).collect(),
        teams: state.owners().iter().filter_map(|owner| owner.team().cloned()).collect(),
        pinned: TrustFiles::of(&access.keys, access.state.as_deref()).pin(),
    };
    Ok(Plan { between, root, bytes, is_written: false, replaced, rotated })
}

/// The root that comes after `old` and before `new`: what either's keys have signed is good under it. Who signs the next root is
/// as before.
fn both(old: &Root, new: &Root) -> Root {
    let mut root = Root { version: next(old.version), expires: new.expires, ..old.clone() };
    let mut added = serde_json::Map::new();
    for role in ROLES.into_iter().filter(|role| *role != RoleType::Root) {
        let (Some(keys), Some(more)) = (root.roles.get_mut(&role), new.roles.get(&role)) else { continue };
        let more: Vec<_> = more.keyids.iter().filter(|id| !keys.keyids.contains(id)).cloned().collect();
        root.keys.extend(more.iter().filter_map(|id| Some((id.clone(), new.keys.get(id)?.clone()))));
        added.insert(role.to_string(), more.len().into());
        keys.keyids.extend(more);
    }
    root._extra.insert(ADDED.to_owned(), added.into());
    root
}

/// Returns the content of the new root.
fn describe(old: &Root, rotation: &Rotation, made: &[Made], added: &[Key]) -> Result<Root, RepoError> {
    let mut root = Root { version: next(old.version), expires: after(rotation.expires), ..old.clone() };
    root._extra.remove(ADDED);
    for role in ROLES {
        let none = || RoleKeys { keyids: Vec::new(), threshold: NonZeroU64::MIN, _extra: HashMap::new() };
        let keys = root.roles.entry(role).or_insert_with(none);
        if rotation.replace.contains(&role) {
            keys.keyids.clear();
        }
        let new = made.iter().filter(|(of, ..)| *of == role).map(|(_, _, key)| key);
        let new = new.chain(added.iter().filter(|_| role == RoleType::Root));
        for key in new {
            let id = key.id()?;
            root.keys.insert(id.clone(), key.public());
            if !keys.keyids.contains(&id) {
                keys.keyids.push(id);
            }
        }
    }
    let keys = root.roles.get_mut(&RoleType::Root).expect("every role was just inserted");
    for removed in &rotation.remove {
        let before = keys.keyids.len();
        keys.keyids.retain(|id| !hex(id).starts_with(removed.as_str()));
        if removed.len() < 8 || keys.keyids.len() + 1 != before {
            return Err(RepoError::Keys(KeyError::NoSuchKey(removed.clone())));
        }
    }
    let count = keys.keyids.len();
    let wanted = rotation.threshold.map_or(keys.threshold.get(), u64::from);
    match NonZeroU64::new(wanted).filter(|n| n.get() <= count as u64 && count <= usize::from(MAX_KEYS)) {
        Some(threshold) => keys.threshold = threshold,
        None => {
            let small = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
            return Err(RepoError::Keys(KeyError::Threshold { keys: small(count as u64), threshold: small(wanted) }));
        }
    }
    let used: Vec<_> = root.roles.values().flat_map(|keys| keys.keyids.clone()).collect();
    root.keys.retain(|id, _| used.contains(id));
    Ok(root)
}

/// Signs `root` under the old root and under itself; refuses when one of the two thresholds is not reached.
async fn sign(old: &Root, root: &Root, signers: &[Key], access: &Access) -> Result<Vec<u8>, RepoError> {
    let mut signed: Option<SignedRole<Root>> = None;
    for holder in [old, root] {
        let allowed = holder.roles.get(&RoleType::Root).ok_or_else(|| RepoError::Hidden("root".to_owned()))?;
        let mut good = Vec::new();
        for key in signers {
            if allowed.keyids.contains(&key.id()?) {
                good.push(key.clone());
            }
        }
        let threshold = allowed.threshold.get();
        if (good.len() as u64) < threshold {
            let (role, directory) = (format!("root (version {})", holder.version), access.keys.clone());
            return Err(RepoError::Keys(KeyError::TooFewKeys { role, good: good.len() as u64, threshold, directory }));
        }
        let failed = RepoError::tuf("sign the new root");
        let holder = KeyHolder::Root(holder.clone());
        let next = SignedRole::new(root.clone(), &holder, &keys::sources(&good), &SystemRandom::new()).await;
        let next = next.map_err(failed)?;
        signed = Some(match signed {
            None => next,
            Some(before) => next
                .add_old_signatures(before.signed().signatures.clone())
                .map_err(RepoError::tuf("sign the new root"))?,
        });
    }
    let signed: Signed<Root> = signed.expect("there are two holders").signed().clone();
    for holder in [old, root] {
        let verified = holder.verify_role(&signed);
        verified.map_err(|e| RepoError::Tuf { what: "verify the new root", error: e.to_string() })?;
    }
    let mut bytes = serde_json::to_vec_pretty(&signed).expect("a root serialises");
    bytes.push(b'\n');
    Ok(bytes)
}

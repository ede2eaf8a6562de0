//! `bolt repo rotate-root`: a new root, which says who signs from now on.
//!
//! It is signed by a threshold of the old root's keys, since agents follow it from there, and by a threshold of its own. Keys
//! of other roles may be replaced in it; those roles are then signed anew in the same step. An agent that has not looked for
//! a long time follows the chain of roots one by one.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;
use serde::Serialize;
use tough::editor::signed::SignedRole;
use tough::schema::{KeyHolder, RoleKeys, RoleType, Root, Signed};

use super::change::Access;
use super::init::{ROLES, after};
use super::keys::{self, Key, KeyRing, MAX_KEYS};
use super::owner::Owner;
use super::passphrase::Passphrase;
use super::place::Place;
use super::sign::{next, next_root};
use super::state::State;
use super::{RepoError, block_on, hex};
use crate::files;

/// What [`rotate_root`] is to do.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Roles that get new keys, as many as they have, made in `new_keys`.
    pub replace: Vec<RoleType>,
    /// Where new keys are written.
    pub new_keys: Option<PathBuf>,
    /// What they are encrypted with; `None` leaves them plain.
    pub passphrase: Option<Passphrase>,
    /// Files with private keys that become root keys as well.
    pub add: Vec<PathBuf>,
    /// Ids, or their beginnings, of root keys that are none from now on.
    pub remove: Vec<String>,
    /// How many root keys must sign from now on; absent: as before.
    pub threshold: Option<u8>,
    /// How long the new root is good for.
    pub expires: Duration,
}

/// What [`rotate_root`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The version of the new root.
    pub version: u64,
    /// How many root keys must sign the next …
    pub threshold: u64,
    /// … of these.
    pub root_keys: Vec<String>,
    /// Roles with other keys than before.
    pub replaced: Vec<String>,
    /// Private keys that were made.
    pub made: Vec<PathBuf>,
}

/// A key that was made: for which role, and its file.
type Made = (RoleType, PathBuf, Key);

/// Writes the next root, and signs anew what other keys than before sign. It works under an expired root as well.
pub fn rotate_root(access: &Access, rotation: &Rotation) -> Result<Rotated, RepoError> {
    let place = Place::at(&access.repository)?;
    place.check_repository()?;
    let mut ring = access.ring();
    let mut stands: Option<Next> = None;
    place.attempt(|| {
        block_on(async || {
            let root = access.root.as_deref();
            if let Some(next) = &stands {
                let state = State::read_under(&place, root, next.before).await?;
                let done = next.commit(&place, state, &mut ring, access, false).await;
                return done.map_err(|error| left(next.rotated.version, error));
            }
            let state = State::read(&place, root).await?;
            let made = make(&state.root, rotation, &mut ring)?;
            let done = match describe_and_sign(&state, &mut ring, access, rotation, &made).await {
                Ok(next) => {
                    let done = next.commit(&place, state, &mut ring, access, true).await;
                    if done.is_err() && place.read_root(next.rotated.version)?.as_ref() == Some(&next.bytes) {
                        // It counts from now on, and so do its keys. Others' changes, made under the one before, are taken along.
                        let version = next.rotated.version;
                        stands = Some(next);
                        return done.map_err(|error| left(version, error));
                    }
                    done
                }
                Err(error) => Err(error),
            };
            if done.is_err() {
                // Nobody knows of these keys.
                let files = made.iter().map(|(_, path, _)| path).filter(|path| !is_service(path));
                files.for_each(|path| drop(std::fs::remove_file(path)));
            }
            done
        })
    })
}

/// What stopped a publisher whose new root stands. Being second only means to begin again.
fn left(version: u64, error: RepoError) -> RepoError {
    match error {
        RepoError::Raced(_) => error,
        other => RepoError::Unfinished { version, source: Some(Box::new(other)) },
    }
}

/// Signs what stands under the root before `version` anew under that one, as its own publisher did not come to. Gives the
/// roles that were signed.
pub(super) fn finish(access: &Access, version: u64) -> Result<Vec<String>, RepoError> {
    let place = Place::at(&access.repository)?;
    let mut ring = access.ring();
    place.attempt(|| {
        block_on(async || {
            let state = State::read_under(&place, access.root.as_deref(), version - 1).await?;
            let bytes = place.read_root(version)?.ok_or_else(|| RepoError::Hidden(format!("root {version}")))?;
            let new = next_root(&state.root, &bytes)?;
            if new.expires < Timestamp::now() {
                return Err(RepoError::RootExpired(new.expires));
            }
            let next = Next::new(&state.root, new, bytes, &[]);
            let targets = next.replaced.contains(&RoleType::Targets).then_some("targets");
            next.commit(&place, state, &mut ring, access, false).await?;
            Ok(targets.into_iter().chain(["snapshot", "timestamp"]).map(str::to_owned).collect())
        })
    })
}

/// A new root, signed, and what is said of it.
struct Next {
    /// The version of the one before.
    before: u64,
    root: Root,
    bytes: Vec<u8>,
    replaced: Vec<RoleType>,
    rotated: Rotated,
}

impl Next {
    fn new(old: &Root, root: Root, bytes: Vec<u8>, made: &[Made]) -> Next {
        let replaced: Vec<RoleType> =
            ROLES.into_iter().filter(|role| old.roles.get(role) != root.roles.get(role)).collect();
        let keys = root.roles.get(&RoleType::Root);
        let rotated = Rotated {
            version: root.version.get(),
            threshold: keys.map_or(0, |keys| keys.threshold.get()),
            root_keys: keys.map_or_else(Vec::new, |keys| keys.keyids.iter().map(|id| hex(id)).collect()),
            replaced: replaced.iter().map(ToString::to_string).collect(),
            made: made.iter().map(|(_, path, _)| path.clone()).collect(),
        };
        Next { before: old.version.get(), root, bytes, replaced, rotated }
    }

    /// Makes it count. `write` says that it is to be written; otherwise it stands already.
    async fn commit(
        &self,
        place: &Place,
        mut state: State,
        ring: &mut KeyRing,
        access: &Access,
        write: bool,
    ) -> Result<Rotated, RepoError> {
        // The other roles' signatures stay good, and their keys may be elsewhere; where they are here, a new timestamp has
        // instances look at the new root with their next poll.
        let others_stay = self.replaced.iter().all(|role| *role == RoleType::Root);
        let mut is_here = |role: &str| ring.role(role).is_ok_and(|keys| !keys.is_empty());
        if others_stay && !(is_here("snapshot") && is_here("timestamp")) {
            place.write_root(self.rotated.version, &self.bytes)?;
            return Ok(self.rotated.clone());
        }
        if self.replaced.contains(&RoleType::Targets) {
            state.touch(&Owner::Top);
        }
        state.renew();
        state.replace_root(self.root.clone(), write.then(|| self.bytes.clone()));
        state.commit(place, ring, &access.expiry).await?;
        Ok(self.rotated.clone())
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
        let directory = rotation.new_keys.as_ref().ok_or(RepoError::NoNewKeys)?;
        let count = old.roles.get(role).map_or(1, |keys| keys.keyids.len());
        let count = u8::try_from(count).unwrap_or(MAX_KEYS).min(MAX_KEYS);
        wanted.extend((1..=count).map(|n| (*role, keys::planned_path(directory, &keys::name(*role), n))));
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
) -> Result<Next, RepoError> {
    let old = state.root.clone();
    let mut signers = ring.role("root")?;
    for path in &rotation.add {
        signers.push(ring.open(path)?);
    }
    let added = &signers[signers.len() - rotation.add.len()..];
    let root = describe(&old, rotation, made, added)?;
    signers.extend(made.iter().filter(|(role, ..)| *role == RoleType::Root).map(|(_, _, key)| key.clone()));
    let bytes = sign(&old, &root, &signers, access).await?;
    if let Some(directory) = &rotation.new_keys {
        ring.also(directory, rotation.passphrase.as_ref());
    }
    Ok(Next::new(&old, root, bytes, made))
}

/// What the new root says.
fn describe(old: &Root, rotation: &Rotation, made: &[Made], added: &[Key]) -> Result<Root, RepoError> {
    let mut root = Root { version: next(old.version), expires: after(rotation.expires), ..old.clone() };
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
    let keys = root.roles.get_mut(&RoleType::Root).expect("every role was just looked at");
    for removed in &rotation.remove {
        let before = keys.keyids.len();
        keys.keyids.retain(|id| !hex(id).starts_with(removed.as_str()));
        if removed.len() < 8 || keys.keyids.len() + 1 != before {
            return Err(RepoError::NoSuchKey(removed.clone()));
        }
    }
    let count = keys.keyids.len();
    let wanted = rotation.threshold.map_or(keys.threshold.get(), u64::from);
    match NonZeroU64::new(wanted).filter(|n| n.get() <= count as u64 && count <= usize::from(MAX_KEYS)) {
        Some(threshold) => keys.threshold = threshold,
        None => {
            let small = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
            return Err(RepoError::Threshold { keys: small(count as u64), threshold: small(wanted) });
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
            return Err(RepoError::TooFewKeys { role, good: good.len() as u64, threshold, directory });
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
    let mut bytes = serde_json::to_vec_pretty(&signed).expect("a root serialises");
    bytes.push(b'\n');
    next_root(old, &bytes).map(|_| bytes)
}

//! Teams: a delegated role signs for a team's own packs and their channels, and for nothing else.
//!
//! A delegation names exactly `packs/<pack>/*`, `channels/*/<pack>.json` and the team's part of the journal. Published versions of
//! a pack move with it: to the team when it is delegated, back to the targets role when that ends. The snapshot keeps the
//! metadata of a removed team, since agents take a snapshot with fewer roles for an old one.
//!
//! Agents take what is delegated from the team's role alone, and what the targets role lists as well from neither. A role that lists
//! anything else stops the poll, since the library verifies a repository as a whole; one that has expired stops its own packs only; a
//! snapshot that leaves a delegated role out stops the poll. With the keys of snapshot and timestamp, which it needs, a team can
//! stop polls, as any holder of these can, and publish nothing of others'.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;
use packs_schema::base::name::{PackName, TeamName};
use serde::{Deserialize, Serialize};
use tough::TargetName;
use tough::schema::key::Key as PublicKey;
use tough::schema::{DelegatedRole, DelegatedTargets, Delegations, PathPattern, PathSet, Role, Signature, Signed};
use tough::sign::Sign;

use super::access::Access;
use super::change::change;
use super::journal::{self, Change, Entry};
use super::key_files::{self, MAX_KEYS};
use super::keys::{self, KeyRing};
use super::origin::By;
use super::owner::{Owner, alone};
use super::passphrase::Passphrase;
use super::sign::no_targets;
use super::state::State;
use super::state::retired;
use super::trust::Pinned;
use super::{RepoError, block_on, hex};
use crate::files;
use crate::repo::{KeyError, TeamError};

/// Version of the files with a team's public key.
const FORMAT: u32 = 1;
/// Maximum size of such a file, in bytes.
const MAX_PUBLIC: u64 = 16 << 10;
/// Maximum number of packs of a team.
const MAX_PACKS: usize = 64;

/// Source of a team's keys.
#[derive(Debug, Clone)]
pub enum TeamKeys {
    /// The team has keys already.
    AsBefore,
    /// A new key in this directory, encrypted when there is a passphrase.
    New(PathBuf, Option<Passphrase>),
    /// The private keys `team-<team>.pem` in this directory.
    Private(PathBuf),
    /// Files that [`team_key`] wrote; the team keeps its private keys.
    Public(Vec<PathBuf>),
}

/// Result of a change of a delegation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delegated {
    /// The team.
    pub team: TeamName,
    /// Packs of the team after the change.
    pub packs: Vec<PackName>,
    /// Ids of its keys.
    pub keys: Vec<String>,
    /// Number of keys that must sign.
    pub threshold: u64,
    /// Number of targets that moved to the team, or back from it.
    pub moved: usize,
    /// Private key that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<PathBuf>,
}

/// Team's public key, with its signature over an empty role.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicTeamKey {
    format: u32,
    team: TeamName,
    key: PublicKey,
    /// Signature over a role that lists nothing, so that the role can exist before the team publishes first.
    signature: Signature,
}

/// Makes a team's key in `directory`: the private key, and the file for the publisher who delegates.
pub fn team_key(team: &TeamName, directory: &Path, passphrase: Option<&Passphrase>) -> Result<[PathBuf; 2], RepoError> {
    let role = Owner::Team(team.clone()).role();
    let (private, public) = (key_files::path(directory, &role, 1), directory.join(format!("{role}.pub")));
    files::refuse_existing(&[&private, &public])?;
    files::create_dir(directory)?;
    let key = keys::generate(&private, passphrase)?;
    let signature = block_on(async || {
        let message =
            beginning(&role).canonical_form().map_err(|e| RepoError::Tuf { what: "sign", error: e.to_string() })?;
        let signed = key.sign(&message, &SystemRandom::new()).await;
        signed.map_err(|e| RepoError::Tuf { what: "sign with the new key", error: e.to_string() })
    })?;
    let signature = Signature { keyid: key.id()?, sig: signature.into() };
    let file = PublicTeamKey { format: FORMAT, team: team.clone(), key: key.public(), signature };
    let mut bytes = serde_json::to_vec_pretty(&file).expect("a public key serialises");
    bytes.push(b'\n');
    files::write_new(&public, &bytes, 0o644)?;
    Ok([private, public])
}

/// Returns a role that lists nothing: the same bytes for every key of the team.
fn beginning(role: &str) -> DelegatedTargets {
    // The first day of 9999: it lists nothing, so it may last.
    let expires = Timestamp::from_second(253_370_764_800).unwrap_or(Timestamp::MAX);
    DelegatedTargets { name: role.to_owned(), targets: no_targets(NonZeroU64::MIN, expires) }
}

/// Gives `pack` to `team`; `threshold` of its keys must sign, or one, or as many as before.
pub fn delegate(
    access: &Access,
    team: &TeamName,
    pack: &PackName,
    keys: &TeamKeys,
    threshold: Option<u8>,
) -> Result<Delegated, RepoError> {
    let owner = Owner::Team(team.clone());
    let private = match keys {
        TeamKeys::New(directory, passphrase) => {
            let path = key_files::path(directory, &owner.role(), 1);
            files::refuse_existing(&[&path])?;
            files::create_dir(directory)?;
            keys::generate(&path, passphrase.as_ref())?;
            Some(path)
        }
        _ => None,
    };
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        match state.owner(pack, None)? {
            Owner::Team(other) if other != *team => {
                return Err(RepoError::Team(TeamError::Taken { pack: pack.clone(), team: other }));
            }
            _ => {}
        }
        let given = given(state, ring, &owner, keys)?;
        set_role(state, &owner, pack, given, threshold)?;
        let role = state.targets.delegated_role(&owner.role()).map_err(|_| RepoError::Hidden(owner.role()))?.clone();
        let paths = alone(&role);
        let theirs = |name: &TargetName| paths.target_is_delegated(name);
        state.restore(&Owner::Top, |name| TargetName::new(name).is_ok_and(|name| theirs(&name)))?;
        if matches!(keys, TeamKeys::Public(_)) && state.targets.targets.keys().any(theirs) {
            return Err(RepoError::Team(TeamError::NeedsTeamKey { team: team.clone(), pack: pack.clone() }));
        }
        let moved = state.hand_over(&Owner::Top, &owner, theirs)?;
        if !matches!(keys, TeamKeys::Public(_) | TeamKeys::AsBefore) {
            state.touch(&owner);
        }
        record(state, ring, Change::Delegate, team, pack).await?;
        Ok(described(state, team, moved))
    };
    let done = change(access, edit);
    if let (Err(_), Some(path)) = (&done, &private) {
        // No role lists the key.
        drop(std::fs::remove_file(path));
    }
    let (delegated, _) = done?;
    if let Some(directory) = private.as_deref().and_then(Path::parent) {
        Pinned::open(access)?.copy_to(directory)?;
    }
    Ok(Delegated { private, ..delegated })
}

/// New keys of a team, and the role that they signed.
struct Given {
    public: Vec<PublicKey>,
    beginning: Option<Signed<DelegatedTargets>>,
}

fn given(state: &State, ring: &mut KeyRing, owner: &Owner, keys: &TeamKeys) -> Result<Option<Given>, RepoError> {
    let role = owner.role();
    let is_there = state.listed(owner).is_some();
    let given = match keys {
        TeamKeys::AsBefore if is_there => return Ok(None),
        TeamKeys::AsBefore => return Err(RepoError::Team(TeamError::NoTeamKey(role))),
        TeamKeys::New(directory, _) | TeamKeys::Private(directory) => {
            let passphrase = if let TeamKeys::New(_, passphrase) = keys { passphrase.as_ref() } else { None };
            ring.also(directory, passphrase);
            Given { public: ring.role(&role)?.iter().map(keys::Key::public).collect(), beginning: None }
        }
        TeamKeys::Public(_) if is_there || state.version_of(&role).is_some() => {
            return Err(RepoError::Team(TeamError::TeamUsed(role)));
        }
        TeamKeys::Public(paths) => {
            let mut signed = Signed { signed: beginning(&role), signatures: Vec::new() };
            let mut public = Vec::new();
            for path in paths {
                let text = files::read_text(path, MAX_PUBLIC)?;
                let read = serde_json::from_str(&text).ok();
                let read =
                    read.filter(|read: &PublicTeamKey| read.format == FORMAT && Some(&read.team) == owner.team());
                let read = read.ok_or_else(|| {
                    RepoError::Team(TeamError::NotAPublicKey { path: path.clone(), role: role.clone() })
                })?;
                signed.signatures.push(read.signature);
                public.push(read.key);
            }
            Given { public, beginning: Some(signed) }
        }
    };
    if given.public.is_empty() || given.public.len() > usize::from(MAX_KEYS) {
        return Err(RepoError::Team(TeamError::NoTeamKey(role)));
    }
    Ok(Some(given))
}

/// Makes or changes the delegation in the targets.
fn set_role(
    state: &mut State,
    owner: &Owner,
    pack: &PackName,
    given: Option<Given>,
    threshold: Option<u8>,
) -> Result<(), RepoError> {
    let name = owner.role();
    let before = state.targets.delegated_role(&name).ok().cloned();
    let mut packs = before.as_ref().map_or_else(Vec::new, packs);
    if !packs.contains(pack) {
        packs.push(pack.clone());
    }
    if packs.len() > MAX_PACKS {
        return Err(RepoError::Team(TeamError::TooManyPacks { role: name, most: MAX_PACKS }));
    }
    let (public, beginning) = given.map_or((Vec::new(), None), |given| (given.public, given.beginning));
    let mut keyids = Vec::new();
    for key in &public {
        keyids.push(keys::id(key)?);
    }
    let mut kept = 1;
    if let (Some(before), true) = (&before, keyids.is_empty()) {
        (keyids, kept) = (before.keyids.clone(), before.threshold.get());
    }
    let wanted = threshold.map_or(kept, u64::from);
    let Some(threshold) = NonZeroU64::new(wanted).filter(|wanted| wanted.get() <= keyids.len() as u64) else {
        let small = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
        return Err(RepoError::Keys(KeyError::Threshold {
            keys: small(keyids.len() as u64),
            threshold: small(wanted),
        }));
    };
    let version = state.version_of(&name).unwrap_or(NonZeroU64::MIN);
    let unsigned = || Signed { signed: no_targets(version, Timestamp::now()), signatures: Vec::new() };
    let targets = match (&beginning, before) {
        (Some(beginning), _) => beginning.clone().targets().1,
        (None, Some(before)) => before.targets.unwrap_or_else(unsigned),
        (None, None) => unsigned(),
    };
    let role = DelegatedRole {
        name: name.clone(),
        keyids,
        threshold,
        paths: paths(owner, &packs)?,
        terminating: true,
        targets: Some(targets.clone()),
    };
    let delegations = state.targets.delegations.get_or_insert_with(Delegations::new);
    for key in public {
        delegations.keys.insert(keys::id(&key)?, key);
    }
    match delegations.roles.iter_mut().find(|other| other.name == name) {
        Some(other) => *other = role,
        None => delegations.roles.push(role),
    }
    tidy(delegations);
    if let Some(beginning) = beginning {
        let verified = delegations.verify_role(&targets, &name);
        verified.map_err(|e| RepoError::Tuf { what: "verify the team's signature", error: e.to_string() })?;
        state.adopt(&name, &beginning);
    }
    state.touch(&Owner::Top);
    Ok(())
}

/// Takes `pack`, or all its packs, away from `team`. Published versions stay published, now signed by the targets role, unless
/// they are dropped; agents keep what they have in both cases.
pub fn undelegate(
    access: &Access,
    team: &TeamName,
    pack: Option<&PackName>,
    drop_targets: bool,
) -> Result<Delegated, RepoError> {
    let owner = Owner::Team(team.clone());
    let name = owner.role();
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let role =
            state.targets.delegated_role(&name).map_err(|_| RepoError::Team(TeamError::NoTeam(team.clone())))?.clone();
        let before = packs(&role);
        if let Some(pack) = pack.filter(|pack| !before.contains(pack)) {
            let (pack, team, owner) = (pack.clone(), team.clone(), state.owner(pack, None)?.role());
            return Err(RepoError::Team(TeamError::NotDelegated { pack, team, owner }));
        }
        let left: Vec<PackName> =
            before.iter().filter(|other| pack.is_some_and(|pack| pack != *other)).cloned().collect();
        let kept = DelegatedRole { paths: paths(&owner, &left)?, ..role.clone() };
        let (all, stays) = (alone(&role), alone(&kept));
        let ends = left.is_empty();
        let goes =
            |target: &TargetName| all.target_is_delegated(target) && (ends || !stays.target_is_delegated(target));
        let mut moved = 0;
        if drop_targets {
            // Its journal is kept whatever becomes of it.
            moved += state.hand_over(&owner, &Owner::Top, |target| {
                goes(target) && target.raw().starts_with("log/") && !retired::is_index(target.raw())
            })?;
            state.drop_targets(&owner, &Owner::Top, goes).await?;
        } else {
            moved += state.hand_over(&owner, &Owner::Top, goes)?;
        }
        let delegations = state.targets.delegations.get_or_insert_with(Delegations::new);
        if ends {
            delegations.roles.retain(|other| other.name != name);
            state.forget(&owner);
        } else if let Some(other) = delegations.roles.iter_mut().find(|other| other.name == name) {
            other.paths = kept.paths;
        }
        tidy(state.targets.delegations.get_or_insert_with(Delegations::new));
        state.touch(&Owner::Top);
        for pack in before.iter().filter(|pack| !left.contains(pack)) {
            record(state, ring, Change::Undelegate, team, pack).await?;
        }
        Ok(described(state, team, moved))
    };
    change(access, edit).map(|(delegated, _)| delegated)
}

async fn record(
    state: &mut State,
    ring: &mut KeyRing,
    what: Change,
    team: &TeamName,
    pack: &PackName,
) -> Result<(), RepoError> {
    let mut entry = Entry::new(what, pack);
    entry.team = Some(team.clone());
    entry.by = By::here(state.signers(&Owner::Top, ring)?);
    journal::append(state, &Owner::Top, entry).await
}

/// Removes keys that no role uses.
fn tidy(delegations: &mut Delegations) {
    let used: Vec<_> = delegations.roles.iter().flat_map(|role| role.keyids.clone()).collect();
    delegations.keys.retain(|id, _| used.contains(id));
}

/// Returns the target paths that a team may list.
fn paths(owner: &Owner, packs: &[PackName]) -> Result<PathSet, RepoError> {
    let of = |pack: &PackName| [format!("packs/{pack}/*"), format!("channels/*/{pack}.json")];
    let mut patterns = Vec::new();
    for text in packs.iter().flat_map(of).chain([format!("log/{}/*", owner.role())]) {
        patterns.push(PathPattern::new(text).map_err(RepoError::tuf("name what is delegated"))?);
    }
    Ok(PathSet::Paths(patterns))
}

/// Returns the packs that a delegation names.
pub(super) fn packs(role: &DelegatedRole) -> Vec<PackName> {
    let PathSet::Paths(patterns) = &role.paths else { return Vec::new() };
    let pack = |pattern: &PathPattern| PackName::new(pattern.value().strip_prefix("packs/")?.strip_suffix("/*")?).ok();
    patterns.iter().filter_map(pack).collect()
}

fn described(state: &State, team: &TeamName, moved: usize) -> Delegated {
    let role = state.targets.delegated_role(&Owner::Team(team.clone()).role()).ok();
    Delegated {
        team: team.clone(),
        packs: role.map_or_else(Vec::new, packs),
        keys: role.map_or_else(Vec::new, |role| role.keyids.iter().map(|id| hex(id)).collect()),
        threshold: role.map_or(0, |role| role.threshold.get()),
        moved,
        private: None,
    }
}

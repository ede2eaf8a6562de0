//! Changes of channels: promote, widen, pause, resume, roll back. Each adds a line to the journal.

use std::collections::{BTreeSet, HashMap};

use packs_schema::base::environment::distance;
use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::delivery::channel::{
    Channel, MAX_WITHDRAWN, Rule, channel_target, pack_target, parse_channel_target,
};
use packs_schema::delivery::filter::Filter;
use serde::Serialize;
use serde_json::json;

use super::access::Access;
use super::change::change;
use super::journal::{self, Change, Entry};
use super::keys::KeyRing;
use super::origin::By;
use super::owner::Owner;
use super::state::State;
use super::state::retired::note_held;
use super::{RepoError, now_ms};
use crate::repo::ReleaseError;

/// Arguments of [`promote`].
#[derive(Debug, Clone)]
pub struct Promotion {
    /// The pack.
    pub pack: PackName,
    /// The version; absent: the newest that `from` holds.
    pub version: Option<PackVersion>,
    /// Channel that must hold it now.
    pub from: Option<ChannelName>,
    /// Channel that gets it.
    pub to: ChannelName,
    /// Makes the channel when no pack of the repository is in it yet; otherwise that is an error.
    pub new_channel: bool,
    /// Percentage of the instances that get it.
    pub percent: u8,
    /// Instances that get it; absent for a version that the channel holds already: unchanged.
    pub filter: Option<Filter>,
    /// Drops the filter of a version that the channel holds already.
    pub everywhere: bool,
    /// Allows a version that was withdrawn in this channel.
    pub again: bool,
}

/// Rule that a channel gets in front of those that it has.
pub(super) struct Offer {
    pub(super) rule: Rule,
    /// Drops the filter of a version that it holds already.
    pub(super) everywhere: bool,
    /// Allows a version that was withdrawn.
    pub(super) again: bool,
}

impl Offer {
    pub(super) fn new(rule: Rule) -> Offer {
        Offer { rule, everywhere: false, again: false }
    }
}

/// Result of a change of a channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// The channel.
    pub channel: ChannelName,
    /// The pack.
    pub pack: PackName,
    /// Content before the change.
    pub before: Option<Channel>,
    /// Content after the change.
    pub after: Channel,
    /// False if it held that already, so that nothing was written.
    pub changed: bool,
}

/// Gives a channel a version, or a version that it holds more instances.
pub fn promote(access: &Access, promotion: &Promotion) -> Result<Changed, RepoError> {
    let Promotion { pack, to, percent, filter, .. } = promotion;
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(pack, access.team.as_ref())?;
        let version = wanted(state, promotion).await?;
        if !promotion.new_channel {
            refuse_new(state, to)?;
        }
        let mut entry = Entry::new(Change::Promote, pack);
        entry.from.clone_from(&promotion.from);
        let rule = Rule { percent: *percent, filter: filter.clone(), ..Rule::new(version) };
        let (everywhere, again) = (promotion.everywhere, promotion.again);
        offer(state, ring, &owner, to, Offer { rule, everywhere, again }, entry).await
    };
    change(access, edit).map(|(changed, _)| changed)
}

/// Returns an error for a channel that no pack of the repository is in: its name is probably mistyped.
fn refuse_new(state: &State, channel: &ChannelName) -> Result<(), RepoError> {
    let all = state.all().into_iter().filter_map(|(name, ..)| parse_channel_target(name));
    let channels: BTreeSet<ChannelName> = all.map(|(channel, _)| channel).collect();
    if channels.contains(channel) {
        return Ok(());
    }
    let most = (channel.as_str().len() / 2).clamp(1, 3);
    let near = channels.iter().map(|other| (distance(channel.as_str(), other.as_str()), other));
    let nearest = near.filter(|(changed, _)| *changed <= most).min().map(|(_, other)| other.clone());
    let (channel, channels) = (channel.clone(), channels.into_iter().collect());
    Err(RepoError::Release(ReleaseError::NoChannelYet { channel, channels, nearest }))
}

/// Returns the version to promote, after checking that it is published and that `from` holds it.
async fn wanted(state: &State, promotion: &Promotion) -> Result<PackVersion, RepoError> {
    let Promotion { pack, version, from, .. } = promotion;
    let version = match from {
        None => version.clone().ok_or_else(|| RepoError::Release(ReleaseError::NoVersion(pack.clone())))?,
        Some(from) => {
            let held = state.channel(from, pack).await?;
            let held = held.ok_or_else(|| {
                RepoError::Release(ReleaseError::NotHeld { channel: from.clone(), pack: pack.clone() })
            })?;
            refuse_nothing(&held, from)?;
            let newest = held.newest().version.clone();
            match version {
                Some(version) if *version != newest => {
                    let (channel, pack) = (from.clone(), pack.clone());
                    return Err(RepoError::Release(ReleaseError::HoldsOther {
                        channel,
                        pack,
                        versions: Box::new((newest, version.clone())),
                    }));
                }
                _ => newest,
            }
        }
    };
    published(state, pack, &version)?;
    Ok(version)
}

pub(super) fn published(state: &State, pack: &PackName, version: &PackVersion) -> Result<(), RepoError> {
    match state.find(&pack_target(pack, version)) {
        Some(_) => Ok(()),
        None => Err(RepoError::Release(ReleaseError::NotPublished { pack: pack.clone(), version: version.clone() })),
    }
}

/// Returns an error if a channel cannot take the offered rule: its version is withdrawn there or lower than the newest, or its
/// percentage is lower than the current one.
pub(super) fn refuse_offer(channel: &ChannelName, held: &Channel, rule: &Rule, again: bool) -> Result<(), RepoError> {
    let (channel, pack, newest) = (channel.clone(), held.pack.clone(), held.newest());
    if held.withdrawn.contains(&rule.version) && !again {
        let version = rule.version.clone();
        return Err(RepoError::Release(ReleaseError::TakenBack { channel, pack, version }));
    }
    if rule.version < newest.version {
        let versions = Box::new((newest.version.clone(), rule.version.clone()));
        return Err(RepoError::Release(ReleaseError::Lower { channel, pack, versions }));
    }
    if rule.version == newest.version && rule.percent < newest.percent {
        let percents = (newest.percent, rule.percent);
        return Err(RepoError::Release(ReleaseError::Narrower { channel, pack, percents }));
    }
    Ok(())
}

/// Puts the offered rule in front of those that `channel` has.
pub(super) async fn offer(
    state: &mut State,
    ring: &mut KeyRing,
    owner: &Owner,
    channel: &ChannelName,
    offer: Offer,
    entry: Entry,
) -> Result<Changed, RepoError> {
    let Offer { rule, everywhere, again } = offer;
    if rule.percent > 100 {
        return Err(RepoError::Release(ReleaseError::Percent(rule.percent)));
    }
    let pack = entry.pack.clone();
    let before = state.channel(channel, &pack).await?;
    let entry = Entry { version: Some(rule.version.clone()), ..entry };
    let Some(held) = &before else {
        state.require_archive(&pack, &rule.version);
        return put(state, ring, owner, channel, None, vec![rule], Vec::new(), entry).await;
    };
    refuse_offer(channel, held, &rule, again)?;
    let newest = held.newest();
    let mut rules: Vec<Rule> = held.rules.iter().filter(|rule| !rule.is_nothing()).cloned().collect();
    if rule.version == newest.version {
        let filter = rule.filter.or_else(|| newest.filter.clone().filter(|_| !everywhere));
        rules[0] = Rule { filter, paused: newest.paused, ..rule };
    } else {
        rules.insert(0, rule);
    }
    state.require_archive(&pack, &rules[0].version);
    let withdrawn = held.withdrawn.clone();
    put(state, ring, owner, channel, before, rules, withdrawn, entry).await
}

/// Gives the newest version of a channel more instances.
pub fn widen(access: &Access, pack: &PackName, channel: &ChannelName, percent: u8) -> Result<Changed, RepoError> {
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(pack, access.team.as_ref())?;
        let held = held(state, channel, pack).await?;
        refuse_nothing(&held, channel)?;
        let rule = Rule { percent, filter: None, ..held.newest().clone() };
        offer(state, ring, &owner, channel, Offer::new(rule), Entry::new(Change::Widen, pack)).await
    };
    change(access, edit).map(|(changed, _)| changed)
}

/// Pauses or resumes the rollout of the newest version.
pub fn pause(access: &Access, pack: &PackName, channel: &ChannelName, paused: bool) -> Result<Changed, RepoError> {
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(pack, access.team.as_ref())?;
        let held = held(state, channel, pack).await?;
        refuse_nothing(&held, channel)?;
        let mut rules = held.rules.clone();
        rules[0].paused = paused;
        if !paused {
            state.require_archive(pack, &rules[0].version);
        }
        let mut entry = Entry::new(if paused { Change::Pause } else { Change::Resume }, pack);
        entry.version = Some(rules[0].version.clone());
        let withdrawn = held.withdrawn.clone();
        put(state, ring, &owner, channel, Some(held), rules, withdrawn, entry).await
    };
    change(access, edit).map(|(changed, _)| changed)
}

/// Rolls a channel back to `to`, or to what it held before its newest version.
///
/// Every higher version that the channel ever held is withdrawn: instances that run one go back.
pub fn rollback(
    access: &Access,
    pack: &PackName,
    channel: &ChannelName,
    to: Option<&PackVersion>,
) -> Result<Changed, RepoError> {
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(pack, access.team.as_ref())?;
        let held = held(state, channel, pack).await?;
        refuse_nothing(&held, channel)?;
        let then = history(state, channel, pack).await?;
        let ever = ever_held(&held, &then);
        let is_published = |version: &PackVersion| state.find(&pack_target(pack, version)).is_some();
        let mut rules = before_the_newest(&held, &then, &ever, &is_published, to, channel)?;
        let target = rules[0].version.clone();
        published(state, pack, &target)?;
        // A rule of that time may name a version that was pruned since.
        rules.retain(|rule| is_published(&rule.version));
        let withdrawn = ever.into_iter().filter(|version| *version > target).chain(held.withdrawn.clone()).collect();
        state.require_archive(pack, &target);
        let mut entry = Entry::new(Change::Rollback, pack);
        entry.version = Some(target);
        put(state, ring, &owner, channel, Some(held), rules, withdrawn, entry).await
    };
    change(access, edit).map(|(changed, _)| changed)
}

/// Withdraws every version that a channel ever held, the first one included: instances that run one lose the pack.
pub fn withdraw(access: &Access, pack: &PackName, channel: &ChannelName) -> Result<Changed, RepoError> {
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(pack, access.team.as_ref())?;
        let held = held(state, channel, pack).await?;
        let mut versions = ever_held(&held, &history(state, channel, pack).await?);
        versions.extend(held.withdrawn.iter().cloned());
        if versions.len() > MAX_WITHDRAWN {
            let (channel, pack, versions) = (channel.clone(), pack.clone(), versions.len());
            return Err(RepoError::Release(ReleaseError::TooManyToWithdraw { channel, pack, versions }));
        }
        let (rules, withdrawn) = (vec![Rule::nothing()], versions.into_iter().collect());
        put(state, ring, &owner, channel, Some(held), rules, withdrawn, Entry::new(Change::Rollback, pack)).await
    };
    change(access, edit).map(|(changed, _)| changed)
}

/// Returns every state of a channel that the journal records for a pack, oldest first.
async fn history(state: &State, channel: &ChannelName, pack: &PackName) -> Result<Vec<Channel>, RepoError> {
    let journal = journal::read(state).await?;
    let here = journal.iter().filter(|(_, e)| e.pack == *pack && e.channel.as_ref() == Some(channel));
    Ok(here.flat_map(|(_, e)| e.channels()).collect())
}

/// Returns the versions that a channel holds or held.
fn ever_held(held: &Channel, then: &[Channel]) -> BTreeSet<PackVersion> {
    let rules = then.iter().chain([held]).flat_map(|file| &file.rules);
    rules.filter(|rule| !rule.is_nothing()).map(|rule| rule.version.clone()).collect()
}

/// Returns the rules of a channel without its newest version: those after it, or, where it went to all instances and there are
/// none, those of the time when the version to go back to was the newest.
fn before_the_newest(
    held: &Channel,
    then: &[Channel],
    ever: &BTreeSet<PackVersion>,
    is_published: &impl Fn(&PackVersion) -> bool,
    to: Option<&PackVersion>,
    channel: &ChannelName,
) -> Result<Vec<Rule>, RepoError> {
    let newest = &held.newest().version;
    let target = match to {
        Some(to) if to >= newest => {
            let (channel, pack) = (channel.clone(), held.pack.clone());
            return Err(RepoError::Release(ReleaseError::NotBack {
                channel,
                pack,
                versions: Box::new((newest.clone(), to.clone())),
            }));
        }
        Some(to) => to,
        None if held.rules.len() > 1 => return Ok(held.rules[1..].to_vec()),
        None => {
            let fits = |version: &&PackVersion| {
                *version < newest && !held.withdrawn.contains(version) && is_published(version)
            };
            let before = ever.iter().rfind(fits);
            before.ok_or_else(|| {
                RepoError::Release(ReleaseError::NothingBefore { channel: channel.clone(), pack: held.pack.clone() })
            })?
        }
    };
    let rest = held.rules.iter().skip_while(|rule| rule.version != *target).cloned().collect::<Vec<_>>();
    if rest.is_empty() {
        if let Some(then) = then.iter().rfind(|then| then.newest().version == *target) {
            return Ok(then
                .rules
                .iter()
                .filter(|rule| rule.version == *target || !held.withdrawn.contains(&rule.version))
                .cloned()
                .collect());
        }
        // For the instances of the channel.
        let filter = held.rules.last().and_then(|rule| rule.filter.clone());
        return Ok(vec![Rule { filter, ..Rule::new(target.clone()) }]);
    }
    Ok(rest)
}

/// Returns an error for a channel that holds nothing: it has no rollout to change and no version to take.
fn refuse_nothing(held: &Channel, channel: &ChannelName) -> Result<(), RepoError> {
    if held.holds_nothing() {
        return Err(RepoError::Release(ReleaseError::HoldsNothing {
            channel: channel.clone(),
            pack: held.pack.clone(),
        }));
    }
    Ok(())
}

async fn held(state: &State, channel: &ChannelName, pack: &PackName) -> Result<Channel, RepoError> {
    let held = state.channel(channel, pack).await?;
    held.ok_or_else(|| RepoError::Release(ReleaseError::NotHeld { channel: channel.clone(), pack: pack.clone() }))
}

/// Writes the channel file and the journal's line, unless nothing changes.
#[expect(clippy::too_many_arguments, reason = "one place where a channel file is written")]
async fn put(
    state: &mut State,
    ring: &mut KeyRing,
    owner: &Owner,
    channel: &ChannelName,
    before: Option<Channel>,
    rules: Vec<Rule>,
    withdrawn: Vec<PackVersion>,
    entry: Entry,
) -> Result<Changed, RepoError> {
    let pack = entry.pack.clone();
    let name = channel_target(channel, &pack);
    let wrong = |error: packs_schema::delivery::channel::ChannelError| RepoError::Unreadable {
        name: name.clone(),
        problem: error.to_string(),
    };
    let serial = before.as_ref().map_or(0, |before| before.serial).saturating_add(1);
    let after = Channel::new(serial, pack.clone(), rules, withdrawn).map_err(wrong)?;
    if let Some(before) = before.as_ref().filter(|b| b.rules == after.rules && b.withdrawn == after.withdrawn) {
        let (before, after) = (Some(before.clone()), before.clone());
        return Ok(Changed { channel: channel.clone(), pack, before, after, changed: false });
    }
    for rule in after.rules.iter().filter(|rule| !rule.is_nothing()) {
        let version = pack_target(&pack, &rule.version);
        state.restore(owner, |name| name == version)?;
    }
    let bytes = serde_json::to_vec(&after).expect("a channel serialises");
    let mut custom = published_now();
    note_held(&mut custom, &after);
    state.set(owner, &name, bytes, custom)?;
    let mut entry = entry.changed(channel, before.as_ref(), &after);
    entry.by = By::here(state.signers(owner, ring)?);
    journal::append(state, owner, entry).await?;
    Ok(Changed { channel: channel.clone(), pack, before, after, changed: true })
}

/// Returns the time of publication, against which agents check their clocks.
pub(super) fn published_now() -> HashMap<String, serde_json::Value> {
    HashMap::from([("published_at_ms".to_owned(), json!(now_ms()))])
}

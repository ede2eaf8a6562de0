//! `bolt repo status --reached`: the instances that run the version which their channel gives them, by their own answers.

use std::collections::{BTreeMap, BTreeSet};

use packs_schema::agent::rest::{Info, PackList, PackView};
use packs_schema::base::name::{ChannelName, InstanceId, PackName, PackVersion};
use packs_schema::delivery::channel::{Channel, Decision};
use packs_schema::delivery::cohort::cohort_of;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::select::SelectArgs;
use crate::outln;
use crate::repo::Status;
use crate::show;

/// Progress of a channel's pack on its instances.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reached {
    channel: Option<ChannelName>,
    pack: Option<PackName>,
    /// Instances that run the version that applies to them.
    reached: Vec<InstanceId>,
    /// Instances that run another version, or none.
    behind: Vec<Behind>,
    /// Instances that the channel has no version for, or that keep the one they have.
    outside: Vec<InstanceId>,
    /// Active versions that the repository does not have, as after it was restored from an older copy; reported once per channel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unpublished: Vec<Unpublished>,
    /// Instances that did not answer; reported once, with neither channel nor pack.
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Serialize)]
struct Behind {
    instance: InstanceId,
    /// Version that it should run; absent when its version was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<PackVersion>,
    active: Option<PackVersion>,
    /// Error of the agent that kept it from being activated.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

#[derive(Debug, Serialize)]
struct Unpublished {
    instance: InstanceId,
    pack: PackName,
    version: PackVersion,
}

#[derive(Debug, Serialize)]
struct Unreachable {
    instance: InstanceId,
    error: String,
}

impl Reached {
    pub(super) fn is_complete(&self) -> bool {
        self.behind.is_empty() && self.unpublished.is_empty() && self.unreachable.is_empty()
    }
}

/// Asks the instances.
pub(super) async fn ask(status: &Status, context: &Context, select: &SelectArgs) -> Result<Vec<Reached>, Failure> {
    let answers = context.ask(select, async |agent| Ok((agent.info().await?, agent.packs().await?))).await?;
    let mut all: BTreeMap<(ChannelName, PackName), Reached> = BTreeMap::new();
    for held in &status.channels {
        let channel = Channel::new(held.serial, held.pack.clone(), held.rules.clone(), held.withdrawn.clone());
        let channel = channel.map_err(|e| Failure::new(Exit::Storage, e.to_string()))?;
        let key = (held.channel.clone(), held.pack.clone());
        let reached = Reached { channel: Some(key.0.clone()), pack: Some(key.1.clone()), ..Reached::default() };
        let reached = all.entry(key).or_insert(reached);
        for (instance, (info, packs)) in answers.given.iter().filter(|(_, (info, _))| info.channel == held.channel) {
            note(reached, &channel, instance.id(), info, packs);
        }
    }
    let mut all: Vec<Reached> = all.into_values().collect();
    let channels: BTreeSet<&ChannelName> = status.channels.iter().map(|held| &held.channel).collect();
    for channel in channels {
        let here = answers.given.iter().filter(|(_, (info, _))| info.channel == *channel);
        let unpublished: Vec<Unpublished> =
            here.flat_map(|(i, (_, packs))| unpublished(status, i.id(), packs)).collect();
        if !unpublished.is_empty() {
            all.push(Reached { channel: Some(channel.clone()), unpublished, ..Reached::default() });
        }
    }
    if !answers.failed.is_empty() {
        let unreachable = answers
            .failed
            .iter()
            .map(|error| Unreachable { instance: error.instance.clone(), error: error.kind.to_string() });
        all.push(Reached { unreachable: unreachable.collect(), ..Reached::default() });
    }
    Ok(all)
}

/// The signed versions that are active on an instance and that the repository does not have.
fn unpublished(status: &Status, instance: &InstanceId, packs: &PackList) -> Vec<Unpublished> {
    let signed = |view: &PackView| if view.dev.is_some() { view.signed.clone() } else { view.version.clone() };
    let active = packs.items.iter().filter_map(|view| Some((view.name.clone(), signed(view)?)));
    let missing =
        active.filter(|(pack, active)| !status.versions.iter().any(|v| v.pack == *pack && v.version == *active));
    missing.map(|(pack, version)| Unpublished { instance: instance.clone(), pack, version }).collect()
}

fn note(reached: &mut Reached, channel: &Channel, instance: &InstanceId, info: &Info, packs: &PackList) {
    let view = packs.items.iter().find(|view| view.name == channel.pack);
    let active = view.and_then(|view| view.version.clone());
    let place = cohort_of(&info.instance.id, &channel.pack);
    let wanted = match channel.decide(&info.instance, place, active.as_ref()) {
        Decision::Take(wanted) if active.as_ref() == Some(wanted) => return reached.reached.push(instance.clone()),
        Decision::Take(wanted) | Decision::RollBack(wanted) | Decision::KeepHigher(wanted) => Some(wanted.clone()),
        Decision::Withdraw => None,
        Decision::NotApplicable if channel.holds_nothing() => return reached.reached.push(instance.clone()),
        Decision::Keep | Decision::NotApplicable => return reached.outside.push(instance.clone()),
    };
    let failed = view.and_then(|view| view.failed.as_ref()).map(|failed| failed.message.clone());
    reached.behind.push(Behind { instance: instance.clone(), wanted, active, failed });
}

/// Prints the progress for people.
pub(super) fn print(all: &[Reached]) {
    let names = |ids: &[InstanceId]| show::listed(&ids.iter().map(InstanceId::as_str).collect::<Vec<_>>(), 10);
    for reached in all {
        if let (Some(channel), Some(pack)) = (&reached.channel, &reached.pack) {
            let meant = reached.reached.len() + reached.behind.len();
            let outside = match reached.outside.len() {
                0 => String::new(),
                count => format!("; {count} outside: {}", names(&reached.outside)),
            };
            let who = if reached.reached.is_empty() { String::new() } else { format!(": {}", names(&reached.reached)) };
            outln!("reached    {channel}: {pack}  {} of {meant}{who}{outside}", reached.reached.len());
        }
        for behind in &reached.behind {
            let active = behind.active.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            let failed = behind.failed.as_ref().map_or_else(String::new, |said| format!(": {}", show::visible(said)));
            let wanted = behind.wanted.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            outln!("behind     {}: has {active}, not {wanted}{failed}", behind.instance);
        }
        for Unpublished { instance, pack, version } in &reached.unpublished {
            outln!(
                "unknown    {instance}: has {pack} {version}, which the repository does not have; was it restored from an older copy?"
            );
        }
        for one in &reached.unreachable {
            outln!("no answer  {}: {}", one.instance, show::visible(&one.error));
        }
    }
}

//! `bolt packs` and `bolt sync`: lists active packs, and makes agents poll their repository.

use std::collections::BTreeMap;

use clap::Args;
use packs_schema::agent::rest::{FailedVersion, PackList, PackView};
use packs_schema::base::name::{Digest, PackName, PackVersion};
use serde_json::{Value, json};

use super::context::{Answers, Context, say_exit_code};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use crate::inventory::Instance;
use crate::show::{self, visible, when};
use crate::{errln, outln};

const PACKS_EXAMPLES: &str = "\
Examples:
  bolt packs                       which version of which pack is active where
  bolt packs --on i-0abc --json    as JSON, of one instance";

const SYNC_EXAMPLES: &str = "\
Examples:
  bolt sync                                after publishing: agents poll now
  bolt sync --where \"zone == 'us-east-1a'\"
  bolt packs                               what became active";

/// List the packs that are active on instances.
#[derive(Debug, Args)]
#[command(after_help = PACKS_EXAMPLES)]
pub(super) struct PacksCommand {
    #[command(flatten)]
    select: SelectArgs,
}

/// Make agents poll their repository now.
#[derive(Debug, Args)]
#[command(after_help = SYNC_EXAMPLES)]
pub(super) struct SyncCommand {
    #[command(flatten)]
    select: SelectArgs,
}

/// Name, version and digest of an active pack, and true if it was pushed.
type Active = (PackName, Option<PackVersion>, Option<Digest>, bool);

/// Runs `bolt packs`. Exits with 1 if a pack could not be activated somewhere.
pub(super) async fn run(command: PacksCommand, context: Context) -> Result<Exit, Failure> {
    let answers = context.ask(&command.select, async |agent| agent.packs().await).await?;
    let mut exit = answers.report_final()?;
    let failed = answers.failed_json();
    let Answers { given, .. } = answers;
    let has_failed =
        |list: &PackList| list.items.iter().any(|pack| pack.failed.as_ref().is_some_and(|f| !f.is_building()));
    let failing = given.iter().filter(|(_, list)| has_failed(list)).count();
    if failing > 0 {
        let instances = show::counted(given.len(), "instance");
        say_exit_code(Exit::Failed, &format!("a version failed on {failing} of {instances}"));
        exit = Exit::Failed;
    }
    if context.json {
        let instances: Vec<Value> = given
            .iter()
            .map(|(i, list)| json!({ "instance": i.id(), "packs": list.items, "sync": list.sync }))
            .collect();
        outln!("{}", show::json(&context.with_missing(json!({ "instances": instances, "failed": failed }))));
        return Ok(exit);
    }
    let mut active: BTreeMap<Active, Vec<String>> = BTreeMap::new();
    for (instance, list) in &given {
        for pack in &list.items {
            let key = (pack.name.clone(), pack.version.clone(), pack.digest.clone(), pack.dev.is_some());
            active.entry(key).or_default().push(instance.id().to_string());
            pushed(instance.id().as_str(), pack);
        }
    }
    failures(&given);
    empty_channels(&given);
    if active.is_empty() {
        errln!("{}", no_packs(&given));
    }
    let rows: Vec<Vec<String>> = active
        .iter()
        .map(|((name, version, digest, dev), instances)| {
            let version = version.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            let version = if *dev { format!("{version} (dev)") } else { version };
            let digest = digest.as_ref().map_or("-", Digest::short).to_owned();
            vec![name.to_string(), version, digest, show::listed(instances, 6)]
        })
        .collect();
    if !rows.is_empty() {
        context.print_table(&["PACK", "VERSION", "DIGEST", "INSTANCES"], &rows);
    }
    Ok(exit)
}

/// Explains why no pack is active anywhere.
fn no_packs(given: &[(Instance, PackList)]) -> &'static str {
    let has_polled =
        |(_, list): &(Instance, PackList)| list.sync.as_ref().is_some_and(|sync| sync.succeeded_at_ms.is_some());
    if given.iter().any(has_polled) {
        "no active packs, although agents have polled: their channels hold nothing for them, every version was withdrawn there \
         (`bolt repo status` shows it), or you have no grant to see them"
    } else {
        "no packs: the agents have none yet, or you have no grant to see them"
    }
}

fn pushed(instance: &str, pack: &PackView) {
    if let Some(dev) = &pack.dev {
        let over = pack.signed.as_ref().map_or_else(|| "none".to_owned(), |version| format!("the signed {version}"));
        let (by, until) = (visible(dev.by.as_str()), when::at(dev.until_ms));
        errln!(
            "{instance}: {} is a pushed version (dev, not signed), by {by}; {over} is active again after {until}",
            pack.name
        );
    }
}

/// Prints the versions that could not be activated: each failure once, with its instances.
fn failures(given: &[(Instance, PackList)]) {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (instance, list) in given {
        for pack in &list.items {
            let Some(failed) = &pack.failed else { continue };
            let text = failure(pack, failed);
            match groups.iter_mut().find(|(other, _)| *other == text) {
                Some((_, instances)) => instances.push(instance.id().as_str()),
                None => groups.push((text, vec![instance.id().as_str()])),
            }
        }
    }
    for (text, instances) in groups {
        errln!("{}: {text}", show::listed(&instances, 10));
    }
}

/// Prints the channels without packs: each once, with the instances that follow it.
fn empty_channels(given: &[(Instance, PackList)]) {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (instance, list) in given {
        if let Some(empty) = list.sync.as_ref().and_then(|sync| sync.channel_empty.as_ref()) {
            groups.entry(visible(&empty.to_string())).or_default().push(instance.id().as_str());
        }
    }
    for (text, instances) in groups {
        errln!("{}: {text}", show::listed(&instances, 10));
    }
}

fn failure(pack: &PackView, failed: &FailedVersion) -> String {
    let version = failed.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
    let (step, message) = (visible(&failed.step), visible(&failed.message));
    // The active version failed in part, such as by a changed configuration: the message says what remains in effect.
    let is_active = failed.version.is_some() && failed.version == pack.version;
    let what = match (is_active, failed.is_building()) {
        (true, _) => "is active",
        (false, true) => "is not active yet",
        (false, false) => "could not be activated",
    };
    let mut text = format!("{}{version} {what} ({step}): {message}", pack.name);
    for finding in failed.findings.iter().take(10) {
        text.push_str(&format!("\n    {}", visible(&finding.to_string())));
    }
    text
}

/// Runs `bolt sync`.
pub(super) async fn sync(command: SyncCommand, context: Context) -> Result<Exit, Failure> {
    let answers = context.ask(&command.select, async |agent| agent.sync().await).await?;
    let exit = answers.report_final()?;
    let asked: Vec<&str> = answers.given.iter().map(|(instance, ())| instance.id().as_str()).collect();
    if context.json {
        let answer = json!({ "asked": asked, "failed": answers.failed_json() });
        outln!("{}", show::json(&context.with_missing(answer)));
    } else {
        outln!("{} asked to poll: {}", show::counted(asked.len(), "instance"), show::listed(&asked, 10));
        errln!("`bolt packs` shows what becomes active");
    }
    Ok(exit)
}

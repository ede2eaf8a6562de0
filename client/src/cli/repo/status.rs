//! `bolt repo status` and `bolt repo log`.

use clap::Args;
use jiff::Timestamp;
use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::base::quantity::format_bytes;
use serde_json::json;

use super::args::ViewArgs;
use super::channel::rules;
use super::{failure, reached};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::select::SelectArgs;
use crate::repo::{self, Change, ChannelStatus, Entry, Status, View};
use crate::show::visible;
use crate::{errln, outln};

/// Show versions, channels and signatures of a repository.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo status
  bolt repo status --reached --where 'app == \"cassandra\"'")]
pub(crate) struct StatusCommand {
    #[command(flatten)]
    view: ViewArgs,
    /// Ask the instances of the inventory, and list those that run the version which their channel gives them. Exit code 1 when
    /// some do not, or do not answer.
    #[arg(long)]
    reached: bool,
    /// Read the archives that channels hold, and compare their digests. For a directory this is always done; for a bucket only
    /// presence and length are checked without this option.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    select: SelectArgs,
}

/// Print the journal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo log --pack cassandra --channel prod
  bolt repo log --json | jq -r '.entries[] | select(.reason) | .reason'")]
pub(crate) struct LogCommand {
    #[command(flatten)]
    view: ViewArgs,
    /// Changes of this pack only.
    #[arg(long, value_name = "PACK")]
    pack: Option<PackName>,
    /// Changes of this channel only.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<ChannelName>,
}

pub(super) fn run(command: &StatusCommand, context: &Context) -> Result<Exit, Failure> {
    let view = View { read_archives: command.verify, ..command.view.view(context)? };
    let status = repo::status(&view).map_err(|e| failure(&e))?;
    let expired = status.roles.iter().any(|role| role.expired);
    let reached = if command.reached {
        let asked = reached::ask(&status, context, &command.select);
        Some(crate::cli::block_on(asked)?)
    } else {
        None
    };
    if context.json {
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        if let Some(reached) = &reached {
            value["reached"] = json!(reached);
        }
        outln!("{}", context.with_missing(value));
    } else {
        print_status(&status);
        if let Some(reached) = &reached {
            reached::print(reached);
        }
        for role in status.roles.iter().filter(|role| role.expired) {
            let what = if role.role == "root" {
                "`bolt repo rotate-root` signs a new one"
            } else {
                "`bolt repo refresh` renews them"
            };
            errln!("the signatures of {} have expired, so agents take nothing new: {what}", role.role);
        }
        print_archives(&status);
    }
    let all = reached.is_none_or(|reached| reached.iter().all(reached::Reached::is_complete));
    let damaged = status.archives_not_checked.is_some() || status.versions.iter().any(|v| v.problem.is_some());
    Ok(if expired || damaged || !all { Exit::Failed } else { Exit::Success })
}

/// Prints a line for each archive that instances cannot take.
fn print_archives(status: &Status) {
    if let Some(error) = &status.archives_not_checked {
        errln!("the archives could not be listed, so it is not known whether any is missing: {}", visible(error));
    }
    for version in &status.versions {
        let Some(problem) = &version.problem else { continue };
        let (pack, number) = (&version.pack, &version.version);
        let holds =
            |channel: &&ChannelStatus| channel.pack == *pack && channel.rules.iter().any(|r| r.version == *number);
        let channels: Vec<&str> =
            status.channels.iter().filter(holds).map(|channel| channel.channel.as_str()).collect();
        let commit = version.source.as_ref().and_then(|source| source.commit.as_deref());
        let commit = commit.map_or_else(|| "the same files".to_owned(), |commit| format!("commit {}", visible(commit)));
        let publish = format!("publish it again from {commit} (in a bucket, remove a damaged object first)");
        match channels.first() {
            None => errln!("the archive of {pack} {number} is unusable: {problem}; no channel holds it; {publish}"),
            Some(channel) => errln!(
                "the archive of {pack} {number} is unusable: {problem}; instances of {} cannot take it; {publish}, or run \
                 `bolt repo rollback {pack} --channel {channel}`",
                channels.join(", ")
            ),
        }
    }
}

fn print_status(status: &Status) {
    for role in &status.roles {
        let packs: Vec<&str> = role.packs.iter().map(PackName::as_str).collect();
        outln!(
            "{:<10} version {:<5} {} {}  {} of {} keys{}",
            role.role,
            role.version,
            if role.expired { "EXPIRED" } else { "expires" },
            role.expires,
            role.threshold,
            role.keys.len(),
            if packs.is_empty() { String::new() } else { format!("  for {}", packs.join(", ")) }
        );
    }
    for version in &status.versions {
        let digest = version.digest.get(..12).unwrap_or(&version.digest);
        let source = version.source.as_ref().map_or_else(String::new, |source| {
            let remote = source.remote.as_ref().map_or_else(String::new, |remote| format!(" of {}", visible(remote)));
            format!("  from {}{remote}", visible(&source.describe))
        });
        let team = version.team.as_ref().map_or_else(String::new, |team| format!("  team {team}"));
        let (pack, size) = (&version.pack, format_bytes(version.size_bytes));
        outln!("pack       {pack} {}  {digest}  {size}{team}{source}", version.version);
    }
    for channel in &status.channels {
        let withdrawn: Vec<String> = channel.withdrawn.iter().map(PackVersion::to_string).collect();
        let withdrawn =
            if withdrawn.is_empty() { String::new() } else { format!("  withdrawn: {}", withdrawn.join(", ")) };
        let last = channel.last_change.as_ref().map_or_else(String::new, |entry| {
            let reason = entry.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", visible(reason)));
            format!("  ({} {} by {}{reason})", what(entry), at(entry.at_ms), visible(&entry.by.user))
        });
        let filter = channel.filter.as_ref().map_or_else(String::new, |text| format!("  where {text}"));
        let paused = if channel.paused { "  PAUSED" } else { "" };
        let then = match channel.rules.get(1..).filter(|rest| !rest.is_empty()) {
            Some(rest) => format!("  then {}", rules(rest)),
            None => String::new(),
        };
        let (name, pack, version, percent) = (&channel.channel, &channel.pack, &channel.version, channel.percent);
        if channel.holds_nothing {
            outln!("channel    {name}: {pack} nothing, every version was withdrawn{withdrawn}{last}");
        } else {
            outln!("channel    {name}: {pack} {version}  {percent}%{filter}{paused}{then}{withdrawn}{last}");
        }
    }
}

pub(super) fn log(command: &LogCommand, context: &Context) -> Result<Exit, Failure> {
    let LogCommand { view, pack, channel } = command;
    let view = view.view(context)?;
    let entries = repo::log(&view, pack.as_ref(), channel.as_ref()).map_err(|e| failure(&e))?;
    if context.json {
        outln!("{}", json!({ "verified": view.is_verified(), "entries": entries }));
    } else {
        entries.iter().for_each(|entry| outln!("{}", line(entry)));
        if entries.is_empty() {
            errln!("no changes match");
        }
    }
    Ok(Exit::Success)
}

fn line(entry: &Entry) -> String {
    let mut line = format!("{}  {:<10} {}", at(entry.at_ms), what(entry), entry.pack);
    let held = |file: &Option<serde_json::Value>| {
        let read =
            file.clone().and_then(|file| serde_json::from_value::<packs_schema::delivery::channel::Channel>(file).ok());
        read.map_or_else(|| "nothing".to_owned(), |channel| rules(&channel.rules))
    };
    match (&entry.channel, &entry.version, &entry.team) {
        (Some(channel), ..) => line += &format!("  {channel}: {} -> {}", held(&entry.before), held(&entry.after)),
        (None, Some(version), _) => line += &format!("  {version}"),
        (None, None, Some(team)) => line += &format!("  team {team}"),
        (None, None, None) => {}
    }
    let versions: Vec<String> = entry.versions.iter().map(PackVersion::to_string).collect();
    if !versions.is_empty() {
        line += &format!("  {}", versions.join(", "));
    }
    if let Some(last) = &entry.dropped {
        line += &format!("  journal up to line {}", last.get(..12).unwrap_or(last));
    }
    if let Some(from) = &entry.from {
        line += &format!("  from {from}");
    }
    if let Some(source) = &entry.source {
        line += &format!("  built from {}", source.describe);
    }
    let keys: Vec<&str> = entry.by.keys.iter().map(|id| id.get(..12).unwrap_or(id)).collect();
    line += &format!("  by {}", entry.by.user);
    if let Some(git) = &entry.by.git {
        line += &format!(" ({git})");
    }
    line += &format!(", key {}", keys.join(", "));
    if let Some(reason) = &entry.reason {
        line += &format!("  reason: {reason}");
    }
    visible(&line)
}

fn what(entry: &Entry) -> &'static str {
    match entry.change {
        Change::Publish => "publish",
        Change::Promote => "promote",
        Change::Widen => "widen",
        Change::Pause => "pause",
        Change::Resume => "resume",
        Change::Rollback => "rollback",
        Change::Delegate => "delegate",
        Change::Undelegate => "undelegate",
        Change::Prune => "prune",
        Change::Unpublish => "unpublish",
        Change::Unknown => "other",
    }
}

/// Converts to a time of whole seconds.
fn at(ms: u64) -> Timestamp {
    i64::try_from(ms / 1000).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or(Timestamp::MAX)
}

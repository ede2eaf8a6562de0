//! `bolt repo promote`, `widen`, `pause`, `resume` and `rollback`: changes of channels.

use clap::Args;
use packs_schema::base::name::{ChannelName, PackName, PackVersion, TeamName};
use packs_schema::delivery::channel::Rule;
use packs_schema::delivery::filter::Filter;

use super::args::{AccessArgs, ReasonArgs};
use super::{failure, print, warn_about_reason};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::percent;
use crate::outln;
use crate::repo::{self, Access, Changed, Promotion, RepoError};

/// Give a channel a version.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo promote cassandra --from test --to prod --percent 10 --reason 'passed the soak test'
  bolt repo promote cassandra 2.4.1 --to prod --where 'region == \"eu-west-1\"'
  bolt repo promote cassandra --from test --to prod --new-channel      the first promotion to prod")]
pub(crate) struct PromoteCommand {
    /// The pack.
    pack: PackName,
    /// The version [default: the newest that the channel of --from holds].
    #[arg(id = "of", value_name = "VERSION")]
    version: Option<PackVersion>,
    /// Channel that must hold the version now.
    #[arg(long, value_name = "CHANNEL", required_unless_present = "of")]
    from: Option<ChannelName>,
    /// Channel that gets it.
    #[arg(long, value_name = "CHANNEL")]
    to: ChannelName,
    /// Make the channel of --to: no pack of the repository is in it yet.
    #[arg(long)]
    new_channel: bool,
    /// Percentage of the instances that get it, by a stable hash of their ids. The others keep the version before.
    #[arg(long, value_name = "N", default_value = "100", allow_negative_numbers = true, value_parser = percent)]
    percent: u8,
    /// Instances that get it: an expression such as 'app == "cassandra"'. Without it, the expression of a version that the channel
    /// holds already stays.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// Give it to all instances, also where the channel holds the version for some only.
    #[arg(long, conflicts_with = "filter")]
    everywhere: bool,
    /// Allow a version that was withdrawn in the channel.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    team: TeamArgs,
}

/// Give the newest version of a channel more instances.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bolt repo widen cassandra --channel prod --percent 50 --reason 'no errors at 10 %'")]
pub(crate) struct WidenCommand {
    /// The pack.
    pack: PackName,
    /// The channel.
    #[arg(long, value_name = "CHANNEL")]
    channel: ChannelName,
    /// Percentage of the instances that get it from now on.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = percent)]
    percent: u8,
    #[command(flatten)]
    team: TeamArgs,
}

/// Pause or resume a rollout.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo pause cassandra --channel prod --reason 'errors in eu-west-1'
  bolt repo resume cassandra --channel prod")]
pub(crate) struct PauseCommand {
    /// The pack.
    pack: PackName,
    /// The channel.
    #[arg(long, value_name = "CHANNEL")]
    channel: ChannelName,
    #[command(flatten)]
    team: TeamArgs,
}

/// Roll a channel back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo rollback cassandra --channel prod --reason 'clears too much'
  bolt repo rollback cassandra --channel prod --to nothing")]
pub(crate) struct RollbackCommand {
    /// The pack.
    pack: PackName,
    /// The channel.
    #[arg(long, value_name = "CHANNEL")]
    channel: ChannelName,
    /// The version to go back to, or `nothing` to withdraw every version that the channel held, the first one included, so that
    /// instances no longer have the pack [default: what the channel held before].
    #[arg(long, value_name = "VERSION|nothing", value_parser = rollback_to)]
    to: Option<RollbackTo>,
    #[command(flatten)]
    team: TeamArgs,
}

/// Repository, keys, team and reason of a change.
#[derive(Debug, Args)]
pub(super) struct TeamArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Team that must sign. A delegated pack is signed by its team also without this.
    #[arg(long, value_name = "TEAM")]
    team: Option<TeamName>,
    #[command(flatten)]
    reason: ReasonArgs,
}

impl TeamArgs {
    pub(super) fn access(self, context: &Context) -> Result<Access, Failure> {
        self.access.access(self.team, self.reason, context)
    }
}

pub(super) fn promote(command: PromoteCommand, context: &Context) -> Result<Exit, Failure> {
    let PromoteCommand { pack, version, from, to, new_channel, percent, filter, everywhere, again, team } = command;
    let promotion = Promotion { pack, version, from, to, new_channel, percent, filter, everywhere, again };
    done(&team.access(context)?, |access| repo::promote(access, &promotion), context)
}

pub(super) fn widen(command: WidenCommand, context: &Context) -> Result<Exit, Failure> {
    let WidenCommand { pack, channel, percent, team } = command;
    done(&team.access(context)?, |access| repo::widen(access, &pack, &channel, percent), context)
}

pub(super) fn pause(command: PauseCommand, paused: bool, context: &Context) -> Result<Exit, Failure> {
    let PauseCommand { pack, channel, team } = command;
    done(&team.access(context)?, |access| repo::pause(access, &pack, &channel, paused), context)
}

pub(super) fn rollback(command: RollbackCommand, context: &Context) -> Result<Exit, Failure> {
    let RollbackCommand { pack, channel, to, team } = command;
    let change = |access: &Access| match &to {
        None => repo::rollback(access, &pack, &channel, None),
        Some(RollbackTo::Version(version)) => repo::rollback(access, &pack, &channel, Some(version)),
        Some(RollbackTo::Nothing) => repo::withdraw(access, &pack, &channel),
    };
    done(&team.access(context)?, change, context)
}

/// Target of a rollback.
#[derive(Debug, Clone)]
enum RollbackTo {
    /// This version.
    Version(PackVersion),
    /// Nothing: every version is withdrawn.
    Nothing,
}

fn rollback_to(text: &str) -> Result<RollbackTo, String> {
    if text == "nothing" {
        return Ok(RollbackTo::Nothing);
    }
    PackVersion::new(text).map(RollbackTo::Version).map_err(|e| format!("{e}, or `nothing`"))
}

fn done(
    access: &Access,
    change: impl FnOnce(&Access) -> Result<Changed, RepoError>,
    context: &Context,
) -> Result<Exit, Failure> {
    let changed = change(access).map_err(|e| failure(&e))?;
    print(context.json, &changed, |changed: &Changed| outln!("{}", line(changed)));
    if !changed.changed {
        warn_about_reason(access.reason.as_ref());
    }
    Ok(Exit::Success)
}

/// Describes a change.
pub(super) fn line(changed: &Changed) -> String {
    let before = changed.before.as_ref().map_or_else(|| "nothing".to_owned(), |before| rules(&before.rules));
    let (channel, pack, after) = (&changed.channel, &changed.pack, rules(&changed.after.rules));
    if changed.changed {
        format!("{channel}: {pack}  {before} -> {after}")
    } else {
        format!("{channel}: {pack}  {after}  (as before)")
    }
}

/// Describes the content of a channel in one line.
pub(in crate::cli) fn rules(rules: &[Rule]) -> String {
    rules.iter().map(rule).collect::<Vec<_>>().join(", then ")
}

fn rule(rule: &Rule) -> String {
    if rule.is_nothing() {
        return "nothing".to_owned();
    }
    let percent = if rule.percent == 100 { String::new() } else { format!(" {}%", rule.percent) };
    let filter = rule.filter.clone().map_or_else(String::new, |text| format!(" where {}", String::from(text)));
    let paused = if rule.paused { " PAUSED" } else { "" };
    format!("{}{percent}{filter}{paused}", rule.version)
}

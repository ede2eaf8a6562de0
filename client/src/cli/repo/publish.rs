//! `bolt repo publish`.

use std::path::PathBuf;

use clap::Args;
use packs_schema::base::name::{ChannelName, PackName, PackVersion, TeamName};
use packs_schema::base::quantity::format_bytes;
use packs_schema::delivery::filter::Filter;

use super::args::{AccessArgs, ReasonArgs};
use super::channel::{TeamArgs, line};
use super::{failure, print, warn_about_reason};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::percent;
use crate::repo::{self, Access, PublishOptions, Published, Unpublished};
use crate::show::when;
use crate::{errln, outln};

/// Build a pack, sign it, and make channels hold it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo publish ./cassandra --channel dev --reason 'first version'
  bolt repo publish cassandra-2.4.1.tar.gz --channel test --percent 10")]
pub(crate) struct PublishCommand {
    /// The pack's directory, or an archive of `bolt pack build`.
    pack: PathBuf,
    #[command(flatten)]
    access: AccessArgs,
    /// Channel that gets this version; repeatable.
    #[arg(long = "channel", value_name = "NAME", required = true)]
    channels: Vec<ChannelName>,
    /// Percentage of the instances that get it, by a stable hash of their ids [default: all]. The others keep the version before.
    /// A channel that holds the version already is left as it is, unless this or --where is given.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = percent)]
    percent: Option<u8>,
    /// Instances that get it: an expression such as 'app == "cassandra"'.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// Team that must sign. A delegated pack is signed by its team also without this.
    #[arg(long, value_name = "TEAM")]
    team: Option<TeamName>,
    #[command(flatten)]
    reason: ReasonArgs,
}

/// Take a version out of the signed metadata.
#[derive(Debug, Args)]
#[command(after_help = "\
A version that a channel holds stays: give the channel another version first. `bolt repo prune` removes the archive, a day later. A \
version that was published is never published again with other content: raise the version in pack.yaml. Its digest is \
remembered; the same content may be published again.

Example:
  bolt repo unpublish cassandra 2.4.1 --reason 'deletes live snapshots'")]
pub(crate) struct UnpublishCommand {
    /// The pack.
    pack: PackName,
    /// The version.
    #[arg(id = "of", value_name = "VERSION")]
    version: PackVersion,
    #[command(flatten)]
    team: TeamArgs,
}

/// Runs `bolt repo unpublish`.
pub(super) fn unpublish(command: UnpublishCommand, context: &Context) -> Result<Exit, Failure> {
    let UnpublishCommand { pack, version, team } = command;
    let done = repo::unpublish(&team.access(context)?, &pack, &version).map_err(|e| failure(&e))?;
    print(context.json, &done, |done: &Unpublished| {
        outln!("{} {} is no longer published  sha256:{}", done.pack, done.version, done.digest);
        errln!(
            "instances that run it keep it; `bolt repo prune` removes its archive ({}) from {} on, or later if the repository changes \
             before then",
            format_bytes(done.size_bytes),
            when::at(done.prunable_at_ms)
        );
    });
    Ok(Exit::Success)
}

pub(super) fn run(command: PublishCommand, context: &Context) -> Result<Exit, Failure> {
    let PublishCommand { pack, access, channels, percent, filter, team, reason } = command;
    let Access { repository, keys, unlock, state, root, team, expiry, reason } =
        access.access(team, reason, context)?;
    let options =
        PublishOptions { pack, repository, keys, channels, percent, filter, state, root, expiry, unlock, team, reason };
    let published = repo::publish(&options).map_err(|e| failure(&e))?;
    if !published.new && published.changes.is_empty() {
        warn_about_reason(options.reason.as_ref());
    }
    print(context.json, &published, |published: &Published| {
        let channels: Vec<&str> = published.channels.iter().map(ChannelName::as_str).collect();
        outln!(
            "{} {}  sha256:{}  {}  in {}{}{}",
            published.pack,
            published.version,
            published.digest,
            format_bytes(published.size_bytes),
            channels.join(", "),
            published.source.as_ref().map_or_else(String::new, |source| format!("  from {}", source.describe)),
            if published.new { "" } else { "  (published before; signatures renewed)" }
        );
        for change in &published.changes {
            outln!("{}", line(change));
        }
    });
    Ok(Exit::Success)
}

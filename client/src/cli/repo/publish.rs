//! `bolt repo publish`.

use std::path::PathBuf;

use clap::Args;
use packs_schema::base::name::{ChannelName, TeamName};
use packs_schema::base::quantity::format_bytes;
use packs_schema::delivery::filter::Filter;

use super::args::AccessArgs;
use super::channel::line;
use super::{failure, print};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::percent;
use crate::outln;
use crate::repo::{self, Access, PublishOptions, Published};

/// Build a pack, sign it, and make channels hold it.
#[derive(Debug, Args)]
pub(crate) struct PublishCommand {
    /// The pack's directory, or an archive made by `bolt pack build`.
    pack: PathBuf,
    #[command(flatten)]
    access: AccessArgs,
    /// A channel that is to hold this version; may be given several times.
    #[arg(long = "channel", value_name = "NAME", required = true)]
    channels: Vec<ChannelName>,
    /// To how many of the instances, by a stable hash of their ids [default: all]. The others keep what the channel held before.
    /// A channel that holds the version already is left as it is, unless this or --where is given.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = percent)]
    percent: Option<u8>,
    /// To which of them: an expression such as 'app == "cassandra"'.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// The team that signs. A pack that is delegated is signed for by its team also without this.
    #[arg(long, value_name = "TEAM")]
    team: Option<TeamName>,
}

pub(super) fn run(command: PublishCommand, context: &Context) -> Result<Exit, Failure> {
    let PublishCommand { pack, access, channels, percent, filter, team } = command;
    let Access { repository, keys, unlock, state, root, team, expiry } = access.access(team, context)?;
    let options =
        PublishOptions { pack, repository, keys, channels, percent, filter, state, root, expiry, unlock, team };
    let published = repo::publish(&options).map_err(|e| failure(&e))?;
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

//! Errors of publishing versions and changing channels.

use packs_schema::base::name::{ChannelName, PackName, PackVersion};

/// Error about a version or a channel.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The version was withdrawn in this channel.
    #[error(
        "{pack} {version} was taken back from channel {channel}: publish a higher version; if this one is still published, \
         `bolt repo promote {pack} {version} --to {channel} --again` releases it again"
    )]
    TakenBack {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
    },
    /// The version is published with other content.
    #[error(
        "{pack} {version} is published already with different content (digest {published}); raise the version in pack.yaml"
    )]
    VersionTaken {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
        /// Digest of the published archive.
        published: String,
    },
    /// The version was published with other content and removed.
    #[error(
        "{pack} {version} was published before with different content (digest {removed}) and was removed since; a version is never \
         published again with other content: raise the version in pack.yaml"
    )]
    VersionRemoved {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
        /// Digest of the archive that it had.
        removed: String,
    },
    /// No pack of the repository is in the channel.
    #[error(
        "there is no channel {channel} in this repository{}; give --new-channel to make it",
        existing(channels, nearest.as_ref())
    )]
    NoChannelYet {
        /// The given channel.
        channel: ChannelName,
        /// The channels of the repository.
        channels: Vec<ChannelName>,
        /// Channel with the most similar name.
        nearest: Option<ChannelName>,
    },
    /// The archive is missing or damaged, so that instances could not take it.
    #[error(
        "the archive of {pack} {version} in the repository is damaged or missing ({problem}), so instances could not take it; nothing \
         was changed; publish the same pack again from its commit (in a bucket, remove a damaged object first), or restore the file \
         from a copy"
    )]
    BadArchive {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
        /// The problem.
        problem: String,
    },
    /// The channel holds a higher version.
    #[error("channel {channel} holds {pack} {}, which is newer than {}; publish a higher version, or use `bolt repo rollback`", versions.0, versions.1)]
    Lower {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// Version that it holds, and the one to publish.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// No channel was given.
    #[error("no channel is given: use --channel, such as --channel dev")]
    NoChannel,
    /// No version was given.
    #[error("no version of {0} is given: name one, or the channel that it comes from with --from")]
    NoVersion(PackName),
    /// The version is not published.
    #[error("{pack} {version} is not published in this repository; `bolt repo status` lists what is")]
    NotPublished {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
    },
    /// Channels hold the version that is to be unpublished.
    #[error(
        "{pack} {version} is held by {}, so it stays published: give instances another version first, with `bolt repo promote` or \
         `bolt repo rollback`",
        listed(channels)
    )]
    StillHeld {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
        /// Channels that hold it.
        channels: Vec<ChannelName>,
    },
    /// The channel does not have the pack.
    #[error("channel {channel} holds nothing of {pack}; `bolt repo status` lists what each channel holds")]
    NotHeld {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
    },
    /// The channel holds another version than the given one.
    #[error("channel {channel} holds {pack} {}, not {}: promote what it holds, or leave --from out", versions.0, versions.1)]
    HoldsOther {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// Version that it holds, and the given one.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// The percentage is lower than the current one: a rollout does not shrink.
    #[error(
        "{pack} in channel {channel} is at {} % already, and {} % would take it from no instance: use pause or rollback",
        percents.0,
        percents.1
    )]
    Narrower {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// Current and given percentage.
        percents: (u8, u8),
    },
    /// The version of the rollback is not lower than the current one.
    #[error("channel {channel} holds {pack} {}; rolling back goes to a lower version than that, not to {}", versions.0, versions.1)]
    NotBack {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// Version that it holds, and the given one.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// The channel holds nothing: every version was withdrawn.
    #[error(
        "channel {channel} holds nothing of {pack}, since every version was withdrawn: publish a higher version, or promote one again \
         with `bolt repo promote {pack} VERSION --to {channel} --again`"
    )]
    HoldsNothing {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
    },
    /// There are more versions to withdraw than a channel file lists.
    #[error(
        "channel {channel} has held {versions} versions of {pack}, and a channel withdraws at most {}: instances that run one of the \
         oldest would keep it; nothing was changed; publish a higher version without the actions that are to go",
        packs_schema::delivery::channel::MAX_WITHDRAWN
    )]
    TooManyToWithdraw {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// Number of versions that it has held.
        versions: usize,
    },
    /// The version is reserved.
    #[error("{pack} has the version {version}, which means \"nothing\" in channels; give it another one in pack.yaml")]
    Reserved {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
    },
    /// There is no version to go back to.
    #[error(
        "channel {channel} held nothing of {pack} before, so there is nothing to go back to: publish a higher version in its \
         place, name a lower one that is published with --to, or withdraw it from all instances with --to nothing; `bolt repo pause` \
         keeps it from further instances meanwhile"
    )]
    NothingBefore {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
    },
    /// The number is not a percentage.
    #[error("{0} is not a percentage: use 0 to 100")]
    Percent(u8),
}

/// Maximum number of channels that an error lists.
const MAX_CHANNELS: usize = 10;

/// Names the channels of a repository and the one that was probably meant: `, which has channels prod and test (did you mean prod?)`.
fn existing(channels: &[ChannelName], nearest: Option<&ChannelName>) -> String {
    let meant = nearest.map_or_else(String::new, |nearest| format!(" (did you mean {nearest}?)"));
    match channels {
        [] => String::new(),
        [..] if channels.len() > MAX_CHANNELS => {
            let shown = listed(&channels[..MAX_CHANNELS]);
            format!(", which has {shown} and {} more{meant}", channels.len() - MAX_CHANNELS)
        }
        [..] => format!(", which has {}{meant}", listed(channels)),
    }
}

/// Names channels: `channel prod`, `channels prod and test`.
fn listed(channels: &[ChannelName]) -> String {
    let names: Vec<&str> = channels.iter().map(ChannelName::as_str).collect();
    match names.split_last() {
        Some((last, [])) => format!("channel {last}"),
        Some((last, others)) => format!("channels {} and {last}", others.join(", ")),
        None => "no channel".to_owned(),
    }
}

//! `bolt repo`: sign packs and say which version applies where.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use packs_schema::filter::Filter;
use packs_schema::name::ChannelName;
use packs_schema::quantity::{parse_duration, show_bytes};

use super::bucket_args::BucketArgs;
use super::failure::{Exit, Failure};
use crate::pack::PackError;
use crate::repo::{self, Expiry, InitOptions, PublishOptions, RepoError, Status};

/// Publish packs in a TUF repository.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Make a repository and its keys.
    ///
    /// The keys are plain files that only their owner can read: keep the root key offline, and the others where packs
    /// are published. They are not protected by a passphrase.
    Init {
        /// The repository's directory or s3://bucket/prefix: absent or empty.
        dir: PathBuf,
        #[command(flatten)]
        bucket: BucketArgs,
        /// Where to write the keys.
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// How many root keys to make …
        #[arg(long, value_name = "N", default_value_t = 1)]
        root_keys: u8,
        /// … of which so many must sign a new root.
        #[arg(long, value_name = "N", default_value_t = 1)]
        root_threshold: u8,
        /// How long the root is good for.
        #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
        root_expires: Duration,
        #[command(flatten)]
        expiry: ExpiryArgs,
    },
    /// Build a pack, sign it, and make channels hold it. Publishing the same again renews the signatures.
    Publish {
        /// The pack's directory, or an archive made by `bolt pack build`.
        pack: PathBuf,
        /// The repository: a directory, file:///path or s3://bucket/prefix.
        #[arg(long, value_name = "DIR|URL")]
        repo: PathBuf,
        #[command(flatten)]
        bucket: BucketArgs,
        /// The keys' directory.
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// A channel that is to hold this version; may be given several times.
        #[arg(long = "channel", value_name = "NAME", required = true)]
        channels: Vec<ChannelName>,
        /// To how many of the instances, by a stable hash of their ids.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        /// To which of them: an expression such as 'app == "cassandra"'.
        #[arg(long = "where", value_name = "EXPRESSION")]
        filter: Option<Filter>,
        /// The trusted root [default: metadata/1.root.json of the repository].
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        #[command(flatten)]
        expiry: ExpiryArgs,
    },
    /// Say what a repository holds, and when its signatures end. Exit code 1 when some have.
    Status {
        /// The repository: a directory, file:///path or s3://bucket/prefix.
        #[arg(long, value_name = "DIR|URL")]
        repo: PathBuf,
        #[command(flatten)]
        bucket: BucketArgs,
        /// The trusted root [default: metadata/1.root.json of the repository].
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
}

/// How long signatures are good for.
#[derive(Debug, Args)]
pub struct ExpiryArgs {
    /// How long the list of packs and channels is good for.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
    targets_expires: Duration,
    /// How long the snapshot is good for.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    snapshot_expires: Duration,
    /// How long the timestamp is good for: agents take nothing new after it.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    timestamp_expires: Duration,
}

impl ExpiryArgs {
    fn with_root(&self, root: Duration) -> Expiry {
        let ExpiryArgs { targets_expires, snapshot_expires, timestamp_expires } = *self;
        Expiry { root, targets: targets_expires, snapshot: snapshot_expires, timestamp: timestamp_expires }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

/// Does what was asked.
pub fn run(command: RepoCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        RepoCommand::Init { dir, bucket, keys, root_keys, root_threshold, root_expires, expiry } => {
            let (expiry, repository) = (expiry.with_root(root_expires), bucket.location(dir)?);
            init(&InitOptions { repository, keys, root_keys, root_threshold, expiry }, json)
        }
        RepoCommand::Publish { pack, repo, bucket, keys, channels, percent, filter, root, expiry } => {
            let expiry = expiry.with_root(Expiry::default().root);
            let repository = bucket.location(repo)?;
            publish(&PublishOptions { pack, repository, keys, channels, percent, filter, root, expiry }, json)
        }
        RepoCommand::Status { repo, bucket, root } => status(&bucket.location(repo)?, root.as_deref(), json),
    }
}

fn init(options: &InitOptions, json: bool) -> Result<Exit, Failure> {
    let made = repo::init(options).map_err(|e| failure(&e))?;
    if json {
        println!("{}", serde_json::to_value(&made).unwrap_or_default());
        return Ok(Exit::Success);
    }
    println!("{}", made.root.display());
    for key in &made.keys {
        println!("{}", key.display());
    }
    eprintln!(
        "Give {} to every agent as repository.root. Keep root*.pem offline: it is needed only to replace keys.",
        made.root.display()
    );
    Ok(Exit::Success)
}

fn publish(options: &PublishOptions, json: bool) -> Result<Exit, Failure> {
    let published = repo::publish(options).map_err(|e| failure(&e))?;
    if json {
        println!("{}", serde_json::to_value(&published).unwrap_or_default());
        return Ok(Exit::Success);
    }
    let channels: Vec<&str> = published.channels.iter().map(ChannelName::as_str).collect();
    println!(
        "{} {}  sha256:{}  {}  in {}{}",
        published.pack,
        published.version,
        published.digest,
        show_bytes(published.size_bytes),
        channels.join(", "),
        if published.new { "" } else { "  (published before; signatures renewed)" }
    );
    Ok(Exit::Success)
}

fn status(repo: &Path, root: Option<&Path>, json: bool) -> Result<Exit, Failure> {
    let status = repo::status(repo, root).map_err(|e| failure(&e))?;
    let expired = status.roles.iter().any(|role| role.expired);
    if json {
        println!("{}", serde_json::to_value(&status).unwrap_or_default());
    } else {
        print_status(&status);
        for role in status.roles.iter().filter(|role| role.expired) {
            let what = if role.role == "root" {
                "sign a new root with the root keys"
            } else {
                "publish a pack again, which renews them"
            };
            eprintln!("the signatures of {} have ended, so agents take nothing new: {what}", role.role);
        }
    }
    Ok(if expired { Exit::Failed } else { Exit::Success })
}

fn print_status(status: &Status) {
    for role in &status.roles {
        println!(
            "{:<10} version {:<5} {} {}  {} of {} keys",
            role.role,
            role.version,
            if role.expired { "EXPIRED" } else { "expires" },
            role.expires,
            role.threshold,
            role.keys.len()
        );
    }
    for version in &status.versions {
        let digest = version.digest.get(..12).unwrap_or(&version.digest);
        println!("pack       {} {}  {digest}  {}", version.pack, version.version, show_bytes(version.size_bytes));
    }
    for channel in &status.channels {
        let filter = channel.filter.as_ref().map_or_else(String::new, |text| format!("  where {text}"));
        println!("channel    {}: {} {}  {}%{filter}", channel.channel, channel.pack, channel.version, channel.percent);
    }
}

fn failure(error: &RepoError) -> Failure {
    let exit = match error {
        RepoError::Location(_)
        | RepoError::Address { .. }
        | RepoError::NoRepository(_)
        | RepoError::Exists(_)
        | RepoError::Threshold { .. }
        | RepoError::NoChannel
        | RepoError::Percent(_)
        | RepoError::OtherKeys(_)
        | RepoError::VersionTaken { .. }
        | RepoError::Lower { .. } => Exit::Usage,
        RepoError::Pack(PackError::File { .. }) => Exit::Storage,
        RepoError::Pack(_) => Exit::Failed,
        RepoError::File { .. }
        | RepoError::Bucket(_)
        | RepoError::Raced(_)
        | RepoError::Key(_)
        | RepoError::NotAKey(_)
        | RepoError::Generate(_)
        | RepoError::Busy(_)
        | RepoError::RootExpired(_)
        | RepoError::Tuf { .. }
        | RepoError::Channel { .. }
        | RepoError::Runtime(_) => Exit::Storage,
    };
    Failure::from_error(exit, error)
}

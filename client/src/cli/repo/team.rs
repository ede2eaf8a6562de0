//! `bolt repo team-key`, `delegate` and `undelegate`.

use std::path::PathBuf;

use clap::Args;
use packs_schema::base::name::{PackName, TeamName};

use super::args::{AccessArgs, PassphraseArgs, ReasonArgs};
use super::{failure, print};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::repo::{self, Delegated, TeamKeys};
use crate::{errln, outln};

/// Make a team's key.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bolt repo team-key dba --keys ./dba-keys")]
pub(crate) struct TeamKeyCommand {
    /// The team.
    team: TeamName,
    /// Directory for the key and the file with its public half.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Do not encrypt the key.
    #[arg(long)]
    plain_keys: bool,
}

/// Delegate a pack to a team.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo delegate dba cassandra --public-key team-dba.pub
  bolt repo delegate dba cassandra --team-keys ./dba-keys      when versions are published already")]
pub(crate) struct DelegateCommand {
    /// The team.
    team: TeamName,
    /// The pack, with its channels.
    pack: PackName,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    reason: ReasonArgs,
    /// The team's public key, as `bolt repo team-key` wrote it; repeatable. Only for a pack that has no published version yet:
    /// published versions move to the team, which signs for them (--team-keys).
    #[arg(long = "public-key", value_name = "FILE", conflicts_with_all = ["new_key", "team_keys"])]
    public: Vec<PathBuf>,
    /// Make a key for the team in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "team_keys")]
    new_key: Option<PathBuf>,
    /// The directory with the team's private keys, which sign the published versions of the pack.
    #[arg(long, value_name = "DIR")]
    team_keys: Option<PathBuf>,
    /// Do not encrypt a new key.
    #[arg(long)]
    plain_keys: bool,
    /// Number of the team's keys that must sign.
    #[arg(long, value_name = "N")]
    threshold: Option<u8>,
}

/// Take a pack away from a team.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bolt repo undelegate dba cassandra")]
pub(crate) struct UndelegateCommand {
    /// The team.
    team: TeamName,
    /// The pack [default: all of the team's]. For one of several, the team's keys must be in the directory of --keys.
    pack: Option<PackName>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    reason: ReasonArgs,
    /// Drop the team's published versions instead of signing them with the targets key. Agents keep what they have.
    #[arg(long = "drop")]
    drop_targets: bool,
}

pub(super) fn key(command: TeamKeyCommand, context: &Context) -> Result<Exit, Failure> {
    let TeamKeyCommand { team, keys, passphrase, plain_keys } = command;
    let passphrase = passphrase.for_new_keys(plain_keys, context)?;
    let [private, public] = repo::team_key(&team, &keys, passphrase.as_ref()).map_err(|e| failure(&e))?;
    print(context.json, &serde_json::json!({ "private": private, "public": public }), |_| {
        outln!("{}\n{}", private.display(), public.display());
        errln!("Give {} to the publisher who runs `bolt repo delegate {team} <pack> --public-key`.", public.display());
    });
    Ok(Exit::Success)
}

pub(super) fn delegate(command: DelegateCommand, context: &Context) -> Result<Exit, Failure> {
    let DelegateCommand { team, pack, access, reason, public, new_key, team_keys, plain_keys, threshold } = command;
    let keys = match (new_key, team_keys) {
        (Some(directory), _) => TeamKeys::New(directory, access.passphrase_for_new_keys(plain_keys, context)?),
        (None, Some(directory)) => TeamKeys::Private(directory),
        (None, None) if public.is_empty() => TeamKeys::AsBefore,
        (None, None) => TeamKeys::Public(public),
    };
    let done = repo::delegate(&access.access(None, reason, context)?, &team, &pack, &keys, threshold);
    print(context.json, &done.map_err(|e| failure(&e))?, |done: &Delegated| {
        outln!("{}", line(done));
        if let Some(private) = &done.private {
            outln!("{}", private.display());
            errln!("Give {} to the team, with snapshot.pem and timestamp.pem, and keep no copy.", private.display());
        }
    });
    Ok(Exit::Success)
}

pub(super) fn undelegate(command: UndelegateCommand, context: &Context) -> Result<Exit, Failure> {
    let UndelegateCommand { team, pack, access, reason, drop_targets } = command;
    let done = repo::undelegate(&access.access(None, reason, context)?, &team, pack.as_ref(), drop_targets);
    print(context.json, &done.map_err(|e| failure(&e))?, |done: &Delegated| outln!("{}", line(done)));
    Ok(Exit::Success)
}

fn line(done: &Delegated) -> String {
    let packs: Vec<&str> = done.packs.iter().map(PackName::as_str).collect();
    let packs = if packs.is_empty() { "nothing".to_owned() } else { packs.join(", ") };
    let keys = done.keys.len();
    format!("team {} has {packs}; {} of {keys} keys must sign; {} targets moved", done.team, done.threshold, done.moved)
}

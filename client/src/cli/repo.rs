//! `bolt repo`: sign packs and say which version applies where.

mod args;
mod channel;
mod keys;
mod prune;
mod publish;
mod reached;
mod status;
mod team;
mod trust;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::outln;
use crate::pack::PackError;
use crate::repo::RepoError;

/// Publish packs in a TUF repository.
#[derive(Debug, Subcommand)]
pub(super) enum RepoCommand {
    /// Make a repository and its keys.
    ///
    /// The keys are files that only their owner can read, encrypted with a passphrase. Keep the root keys offline, and the
    /// others where packs are published.
    Init(keys::InitCommand),
    /// Pin the root of a repository that somebody else made, or show the pinned one and its fingerprint.
    Trust(trust::TrustCommand),
    /// Build a pack, sign it, and make channels hold it. Publishing the same again renews the signatures.
    Publish(publish::PublishCommand),
    /// Give a channel a version, to all its instances or to some.
    Promote(channel::PromoteCommand),
    /// Give the newest version of a channel more instances.
    Widen(channel::WidenCommand),
    /// Stop the rollout of a channel's newest version where it is.
    Pause(channel::PauseCommand),
    /// Have a rollout that was paused go on.
    Resume(channel::PauseCommand),
    /// Take a channel's newest version back: instances that run it go to the version before.
    ///
    /// Every version that the channel held above the one that it goes back to is withdrawn. A channel's first version has none
    /// before it: with `--to nothing` it is withdrawn as well, and instances no longer have the pack. A higher version that is
    /// published later reaches them as usual.
    Rollback(channel::RollbackCommand),
    /// Say what a repository holds, and when its signatures end. Exit code 1 when some have, or when an archive is missing,
    /// damaged, or cannot be checked.
    Status(status::StatusCommand),
    /// Print who changed what, when and from where.
    Log(status::LogCommand),
    /// Renew signatures before they end. Exit code 1 when some end soon whose keys are not here.
    Refresh(keys::RefreshCommand),
    /// Remove old versions, old metadata and orphaned files, and nothing that a channel, a rollback or an agent needs.
    Prune(prune::PruneCommand),
    /// Sign the next root: other keys, another threshold, a later end.
    RotateRoot(keys::RotateCommand),
    /// Have a key in AWS KMS sign for a role: its file takes the place of one with a private key, also for `init`.
    #[cfg(feature = "kms")]
    KmsKey(keys::KmsKeyCommand),
    /// Make a team's key, and the file to give to who delegates.
    TeamKey(team::TeamKeyCommand),
    /// Give a team a pack, for which its own key signs from then on.
    Delegate(team::DelegateCommand),
    /// Take a pack, or all its packs, away from a team.
    Undelegate(team::UndelegateCommand),
}

/// Runs a command of `bolt repo`.
pub(super) fn run(command: RepoCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        RepoCommand::Init(command) => keys::init(command, context),
        RepoCommand::Trust(command) => trust::run(command, context),
        RepoCommand::Publish(command) => publish::run(command, context),
        RepoCommand::Promote(command) => channel::promote(command, context),
        RepoCommand::Widen(command) => channel::widen(command, context),
        RepoCommand::Pause(command) => channel::pause(command, true, context),
        RepoCommand::Resume(command) => channel::pause(command, false, context),
        RepoCommand::Rollback(command) => channel::rollback(command, context),
        RepoCommand::Status(command) => status::run(&command, context),
        RepoCommand::Log(command) => status::log(&command, context),
        RepoCommand::Refresh(command) => keys::refresh(command, context),
        RepoCommand::Prune(command) => prune::run(command, context),
        RepoCommand::RotateRoot(command) => keys::rotate(command, context),
        #[cfg(feature = "kms")]
        RepoCommand::KmsKey(command) => keys::kms(command, context),
        RepoCommand::TeamKey(command) => team::key(command, context),
        RepoCommand::Delegate(command) => team::delegate(command, context),
        RepoCommand::Undelegate(command) => team::undelegate(command, context),
    }
}

/// Prints `value` for programs, or has `people` print it.
fn print<T: serde::Serialize>(json: bool, value: &T, people: impl FnOnce(&T)) {
    if json {
        outln!("{}", serde_json::to_value(value).unwrap_or_default());
    } else {
        people(value);
    }
}

fn failure(error: &RepoError) -> Failure {
    let exit = match error {
        RepoError::Location(_)
        | RepoError::Address { .. }
        | RepoError::NoRepository(_)
        | RepoError::Exists(_)
        | RepoError::Threshold { .. }
        | RepoError::NotPinned { .. }
        | RepoError::PinnedAlready { .. }
        | RepoError::OtherFingerprint { .. }
        | RepoError::NoChannel
        | RepoError::Environment(_)
        | RepoError::PassphraseText
        | RepoError::Percent(_)
        | RepoError::OtherKeys { .. }
        | RepoError::TooFewKeys { .. }
        | RepoError::NoSuchKey(_)
        | RepoError::NoNewKeys
        | RepoError::NotAnArn(_)
        | RepoError::NoKeyService(_)
        | RepoError::Locked(_)
        | RepoError::WrongPassphrase(_)
        | RepoError::WeakPassphrase(_)
        | RepoError::NotDelegated { .. }
        | RepoError::Taken { .. }
        | RepoError::NoTeam(_)
        | RepoError::NoTeamKey(_)
        | RepoError::NotAPublicKey { .. }
        | RepoError::TeamUsed(_)
        | RepoError::NeedsTeamKey { .. }
        | RepoError::TooManyPacks { .. }
        | RepoError::NoVersion(_)
        | RepoError::NotPublished { .. }
        | RepoError::NotHeld { .. }
        | RepoError::HoldsOther { .. }
        | RepoError::Narrower { .. }
        | RepoError::NotBack { .. }
        | RepoError::NothingBefore { .. }
        | RepoError::HoldsNothing { .. }
        | RepoError::TooManyToWithdraw { .. }
        | RepoError::Reserved { .. }
        | RepoError::TakenBack { .. }
        | RepoError::VersionTaken { .. }
        | RepoError::Lower { .. } => Exit::Usage,
        RepoError::Pack(PackError::File { .. }) => Exit::Storage,
        RepoError::Pack(PackError::NotADirectory(_)) => Exit::Usage,
        RepoError::Pack(_) => Exit::Failed,
        RepoError::File { .. }
        | RepoError::Bucket(_)
        | RepoError::Older { .. }
        | RepoError::BadTrustFile { .. }
        | RepoError::LaxTrustFile { .. }
        | RepoError::ForeignTrustFile { .. }
        | RepoError::NoState { .. }
        | RepoError::NotKept { .. }
        | RepoError::Raced(_)
        | RepoError::HalfRotated { .. }
        | RepoError::Key(_)
        | RepoError::NotAKey(_)
        | RepoError::NotAServiceKey(_)
        | RepoError::Kms { .. }
        | RepoError::Encrypt(_)
        | RepoError::Generate(_)
        | RepoError::Busy(_)
        | RepoError::Hidden(_)
        | RepoError::RootExpired(_)
        | RepoError::Tuf { .. }
        | RepoError::Unreadable { .. }
        | RepoError::BadArchive { .. }
        | RepoError::PrunedInUse(_)
        | RepoError::Runtime(_) => Exit::Storage,
    };
    let failure = Failure::from_error(exit, error);
    match error {
        RepoError::Tuf { .. } => failure.hint(
            "nothing was changed, and instances keep what they have; if the bucket holds what its keys did not sign, somebody replaced \
             it; a file that is missing or damaged comes back from a copy, or from the bucket's earlier versions; the trusted root \
             must be one of this repository",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;

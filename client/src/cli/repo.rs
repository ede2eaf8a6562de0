//! `bolt repo`: sign packs, and give versions to channels.

pub(in crate::cli) mod args;
mod channel;
mod keys;
mod prune;
mod publish;
mod reached;
mod rotated;
mod status;
mod team;
mod trust;

use clap::Subcommand;

pub(in crate::cli) use channel::rules;

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::pack::PackError;
use crate::repo::RepoError;
use crate::repo::{ChangeReason, KeyError, PinError, ReleaseError, TeamError};
use crate::{errln, outln};

/// Publish packs in a TUF repository.
#[derive(Debug, Subcommand)]
pub(super) enum RepoCommand {
    /// Make a repository and its keys.
    ///
    /// The keys are files that only their owner can read, encrypted with a passphrase. Keep the root keys offline, and the
    /// others on the host that publishes.
    Init(keys::InitCommand),
    /// Pin the root of a repository that another publisher made, or show the pinned one and its fingerprint.
    Trust(trust::TrustCommand),
    /// Build a pack, sign it, and give it to channels. Publishing the same again renews the signatures.
    Publish(publish::PublishCommand),
    /// Take a version that no channel holds out of the signed metadata, so that it cannot be promoted.
    Unpublish(publish::UnpublishCommand),
    /// Give a channel a version, to all its instances or to some.
    Promote(channel::PromoteCommand),
    /// Give the newest version of a channel more instances.
    Widen(channel::WidenCommand),
    /// Pause the rollout of a channel's newest version.
    Pause(channel::PauseCommand),
    /// Resume a paused rollout.
    Resume(channel::PauseCommand),
    /// Roll a channel back: instances that run its newest version go to the version before.
    ///
    /// Every version that the channel held above the one that it goes back to is withdrawn. A channel's first version has none
    /// before it: with `--to nothing` it is withdrawn as well, and instances no longer have the pack. A higher version that is
    /// published later reaches them as usual.
    Rollback(channel::RollbackCommand),
    /// Show versions, channels, and the expiry of signatures. Exit code 1 when some have expired, or when an archive is missing,
    /// damaged, or cannot be checked.
    Status(status::StatusCommand),
    /// Print the journal: every change with its time, author, source and reason.
    Log(status::LogCommand),
    /// Renew signatures before they expire. Exit code 1 when some expire soon whose keys are not here.
    Refresh(keys::RefreshCommand),
    /// Remove old versions, old metadata and orphaned files, and nothing that a channel, a rollback or an agent needs.
    Prune(prune::PruneCommand),
    /// Sign the next root: other keys, another threshold, a later expiry.
    RotateRoot(keys::RotateCommand),
    /// Use a key in AWS KMS for a role: its file replaces one with a private key, also for `init`.
    #[cfg(feature = "kms")]
    KmsKey(keys::KmsKeyCommand),
    /// Encrypt key files with another passphrase, such as copies for a team or for a job.
    KeyPassphrase(keys::KeyPassphraseCommand),
    /// Make a team's key, and the file for the publisher who delegates.
    TeamKey(team::TeamKeyCommand),
    /// Delegate a pack to a team, whose own key signs for it from then on.
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
        RepoCommand::Unpublish(command) => publish::unpublish(command, context),
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
        RepoCommand::KeyPassphrase(command) => keys::passphrase(command, context),
        RepoCommand::TeamKey(command) => team::key(command, context),
        RepoCommand::Delegate(command) => team::delegate(command, context),
        RepoCommand::Undelegate(command) => team::undelegate(command, context),
    }
}

/// Warns about a reason that no line of the journal keeps, because nothing changed.
fn warn_about_reason(reason: Option<&ChangeReason>) {
    if reason.is_some() {
        errln!("the reason was not recorded: nothing changed, so the journal has no line for it");
    }
}

/// Prints `value` as JSON, or as text with `people`.
fn print<T: serde::Serialize>(json: bool, value: &T, people: impl FnOnce(&T)) {
    if json {
        outln!("{}", serde_json::to_value(value).unwrap_or_default());
    } else {
        people(value);
    }
}

pub(in crate::cli) fn failure(error: &RepoError) -> Failure {
    let exit = match error {
        RepoError::Location(_)
        | RepoError::Address { .. }
        | RepoError::NoRepository(_)
        | RepoError::Exists(_)
        | RepoError::Keys(KeyError::Threshold { .. })
        | RepoError::Trust(PinError::NotPinned { .. })
        | RepoError::Trust(PinError::PinnedAlready { .. })
        | RepoError::Trust(PinError::OtherFingerprint { .. })
        | RepoError::Release(ReleaseError::NoChannel)
        | RepoError::Environment(_)
        | RepoError::Keys(KeyError::PassphraseText)
        | RepoError::Release(ReleaseError::Percent(_))
        | RepoError::Keys(KeyError::OtherKeys { .. })
        | RepoError::Keys(KeyError::TooFewKeys { .. })
        | RepoError::Keys(KeyError::NoSuchKey(_))
        | RepoError::Keys(KeyError::NoNewKeys)
        | RepoError::Keys(KeyError::NotAnArn(_))
        | RepoError::Keys(KeyError::NoKeyService(_))
        | RepoError::Keys(KeyError::Locked(_))
        | RepoError::Keys(KeyError::WrongPassphrase(_))
        | RepoError::Keys(KeyError::WeakPassphrase(_))
        | RepoError::Team(TeamError::NotDelegated { .. })
        | RepoError::Team(TeamError::Taken { .. })
        | RepoError::Team(TeamError::NoTeam(_))
        | RepoError::Team(TeamError::NoTeamKey(_))
        | RepoError::Team(TeamError::NotAPublicKey { .. })
        | RepoError::Team(TeamError::TeamUsed(_))
        | RepoError::Team(TeamError::NeedsTeamKey { .. })
        | RepoError::Team(TeamError::TooManyPacks { .. })
        | RepoError::Release(ReleaseError::NoVersion(_))
        | RepoError::Release(ReleaseError::NotPublished { .. })
        | RepoError::Release(ReleaseError::NotHeld { .. })
        | RepoError::Release(ReleaseError::StillHeld { .. })
        | RepoError::Release(ReleaseError::HoldsOther { .. })
        | RepoError::Release(ReleaseError::Narrower { .. })
        | RepoError::Release(ReleaseError::NotBack { .. })
        | RepoError::Release(ReleaseError::NothingBefore { .. })
        | RepoError::Release(ReleaseError::HoldsNothing { .. })
        | RepoError::Release(ReleaseError::TooManyToWithdraw { .. })
        | RepoError::Release(ReleaseError::Reserved { .. })
        | RepoError::Release(ReleaseError::TakenBack { .. })
        | RepoError::Release(ReleaseError::VersionTaken { .. })
        | RepoError::Release(ReleaseError::VersionRemoved { .. })
        | RepoError::Release(ReleaseError::NoChannelYet { .. })
        | RepoError::Release(ReleaseError::Lower { .. }) => Exit::Usage,
        RepoError::Pack(PackError::File { .. }) => Exit::Storage,
        RepoError::Pack(PackError::NotADirectory(_)) => Exit::Usage,
        RepoError::Pack(_) => Exit::Failed,
        RepoError::File { .. }
        | RepoError::Bucket(_)
        | RepoError::Trust(PinError::Older { .. })
        | RepoError::Trust(PinError::BadTrustFile { .. })
        | RepoError::Trust(PinError::LaxTrustFile { .. })
        | RepoError::Trust(PinError::ForeignTrustFile { .. })
        | RepoError::Trust(PinError::NoState { .. })
        | RepoError::Trust(PinError::NotKept { .. })
        | RepoError::Raced(_)
        | RepoError::HalfRotated { .. }
        | RepoError::Key(_)
        | RepoError::NotAKey(_)
        | RepoError::Keys(KeyError::NotAServiceKey(_))
        | RepoError::Keys(KeyError::Kms { .. })
        | RepoError::Keys(KeyError::Encrypt(_))
        | RepoError::Keys(KeyError::Generate(_))
        | RepoError::Busy(_)
        | RepoError::Hidden(_)
        | RepoError::RootExpired(_)
        | RepoError::Tuf { .. }
        | RepoError::Unreadable { .. }
        | RepoError::Release(ReleaseError::BadArchive { .. })
        | RepoError::PrunedInUse(_)
        | RepoError::Runtime(_) => Exit::Storage,
    };
    let failure = Failure::from_error(exit, error);
    match error {
        RepoError::Tuf { .. } => failure.hint(
            "nothing was changed, and instances keep what they have; if the bucket holds what its keys did not sign, its content was replaced \
             by others; a file that is missing or damaged comes back from a copy, or from the bucket's earlier versions; the trusted root \
             must be one of this repository",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;

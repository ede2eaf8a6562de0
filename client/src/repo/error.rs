//! Why a repository could not be made, read or changed.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use packs_schema::base::name::{ChannelName, PackName, PackVersion, TeamName};
use packs_schema::base::pem::PemError;
use packs_schema::delivery::marks::MarksError;

use crate::files::FileError;
use crate::pack::PackError;

/// Why a repository could not be made, read or changed. Nothing was changed, unless the message says so.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Not an address of a repository.
    #[error(
        "{0:?} is not a repository that can be written: give a directory, file:///absolute/path or s3://bucket/prefix"
    )]
    Location(String),
    /// An address of a bucket that is none.
    #[error("{location:?} names no bucket: {problem}")]
    Address {
        /// What was given.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable of the environment that reaches the bucket or the key service.
    #[error(transparent)]
    Environment(#[from] bolt_aws::EnvironmentError),
    /// The passphrase in the environment.
    #[error("environment variable BOLT_KEY_PASSPHRASE is invalid: it is not UTF-8")]
    PassphraseText,
    /// The bucket refuses, or does not answer.
    #[error("the repository cannot be reached")]
    Bucket(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Others were first, each time.
    #[error("others change the repository at {} all the time; nothing was changed, try again", crate::show::path(.0))]
    Raced(PathBuf),
    /// New keys are in a root beside the old ones, which still count.
    #[error(
        "root version {version} has the new keys beside the old ones, which still count, since not everything could be signed with \
         the new: do it again, with another directory for --new-keys"
    )]
    HalfRotated {
        /// The version of that root.
        version: u64,
        /// What stopped it.
        source: Box<RepoError>,
    },
    /// A version that was taken back.
    #[error(
        "{pack} {version} was taken back from channel {channel}: publish a higher version, or give it out all the same with \
         `bolt repo promote {pack} {version} --to {channel} --again`"
    )]
    TakenBack {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
    },
    /// There is none.
    #[error("{} is no repository (it has no metadata); make one with `bolt repo init`", crate::show::path(.0))]
    NoRepository(PathBuf),
    /// A publisher without a root to trust.
    #[error(
        "no trusted root is pinned in {}: get root.json from whoever ran `bolt repo init`, or the file of repository.root from an \
         agent's configuration, and never from the repository itself; pin it with `bolt repo trust --root FILE`, with the same --repo, \
         --keys and --state, and compare its fingerprint",
        crate::show::path(directory)
    )]
    NotPinned {
        /// Where it would be.
        directory: PathBuf,
    },
    /// Another root is pinned.
    #[error(
        "{} pins another root: leave --root out to keep it, or remove the file first if this repository was made again",
        crate::show::path(path)
    )]
    PinnedAlready {
        /// The pinned root.
        path: PathBuf,
    },
    /// Not the root that was meant.
    #[error("{} has the fingerprint {found}, not {wanted}: it is not the root that was meant", crate::show::path(path))]
    OtherFingerprint {
        /// The file.
        path: PathBuf,
        /// Its fingerprint.
        found: String,
        /// The one that was given.
        wanted: String,
    },
    /// A state of the repository that is older than one seen before.
    #[error(
        "{} is at an older state than one that was seen before (see {}/marks.json): it was restored from an old copy, or somebody \
         replays it, so nothing is signed; restore the newest copy, give a repository that is another one its own --state directory, or \
         go on from this state with `bolt repo trust --accept-older`",
        crate::show::path(place),
        crate::show::path(directory)
    )]
    Older {
        /// The repository.
        place: PathBuf,
        /// Where the versions that were seen are kept.
        directory: PathBuf,
        /// Which role.
        #[source]
        source: MarksError,
    },
    /// A file of pin or marks that is damaged.
    #[error("{} cannot be used: {problem}; restore it from a copy", crate::show::path(path))]
    BadTrustFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of pin or marks that others can change.
    #[error(
        "{} can be changed by others (mode {mode:04o}), and it says whom to trust: run `chmod go-w {}`",
        crate::show::path(path),
        crate::show::path(path)
    )]
    LaxTrustFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file of pin or marks, or a directory or link on the way to it, of another user.
    #[error(
        "{} belongs to user {owner}, who could change whom this publisher trusts: run `chown` with your own user on it, or move \
         the files to a directory of yours",
        crate::show::path(path)
    )]
    ForeignTrustFile {
        /// The file, directory or link.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Nowhere to keep what was seen.
    #[error(
        "cannot keep the trusted root and the versions seen in {}: give a directory that can be written, and that stays between runs, \
         with --state",
        crate::show::path(directory)
    )]
    NoState {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The change was made, and could not be noted.
    #[error("the change was made, but the versions that were written could not be noted for the next one")]
    NotKept {
        /// Why not.
        #[source]
        source: Box<RepoError>,
    },
    /// There is one.
    #[error("{} holds something already; choose another directory", crate::show::path(.0))]
    Exists(PathBuf),
    /// A file or directory of the repository.
    #[error("cannot {what} {}", crate::show::path(path))]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A key.
    #[error("cannot use the repository's keys")]
    Key(#[from] FileError),
    /// A key file without a key.
    #[error(transparent)]
    NotAKey(#[from] PemError),
    /// A file of a key in a key service that is none.
    #[error("{} names no key in KMS; write it with `bolt repo kms-key`", crate::show::path(.0))]
    NotAServiceKey(PathBuf),
    /// A key in a key service, and a program that cannot use it.
    #[error("{} names a key in AWS KMS, and this `bolt` was built without it (cargo build --features kms)", crate::show::path(.0))]
    NoKeyService(PathBuf),
    /// Not the name of a key in KMS.
    #[error(
        "{0:?} is no ARN of a key in KMS, such as arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    )]
    NotAnArn(String),
    /// A key in KMS that cannot be used.
    #[error("key {key} in KMS cannot be used: {problem}")]
    Kms {
        /// Its ARN.
        key: String,
        /// Why not.
        problem: String,
    },
    /// An encrypted key, and nothing to open it with.
    #[error(
        "{} is encrypted: give --passphrase-file, set BOLT_KEY_PASSPHRASE, or run this on a terminal to be asked",
        crate::show::path(.0)
    )]
    Locked(PathBuf),
    /// An encrypted key, and another one's passphrase.
    #[error("the passphrase does not open {}", crate::show::path(.0))]
    WrongPassphrase(PathBuf),
    /// A key that could not be encrypted.
    #[error("cannot encrypt the key for {}", crate::show::path(.0))]
    Encrypt(PathBuf),
    /// A passphrase that keeps nobody out.
    #[error("a passphrase for keys has at least {0} characters")]
    WeakPassphrase(usize),
    /// A key could not be made.
    #[error("cannot make a key")]
    Generate(#[source] rcgen::Error),
    /// Bounds of a role's keys.
    #[error("{threshold} of {keys} keys must sign: use 1 to 16 keys, and a threshold of 1 up to their number")]
    Threshold {
        /// The keys.
        keys: u8,
        /// How many must sign.
        threshold: u8,
    },
    /// Another one is at work.
    #[error("another publisher is at work in {}; try again when it is done", crate::show::path(.0))]
    Busy(PathBuf),
    /// The metadata do not verify, or could not be signed.
    #[error("cannot {what}: {error}")]
    Tuf {
        /// What was tried.
        what: &'static str,
        /// Why not, and what lies behind that.
        error: String,
    },
    /// The keys of another repository.
    #[error(
        "the keys for {role} in {} may not sign for this repository: give the directory that `bolt repo init` made with it, \
         and where keys were replaced since, move the new ones into it, over the old ones of the same names",
        crate::show::path(directory)
    )]
    OtherKeys {
        /// The role.
        role: String,
        /// The directory.
        directory: PathBuf,
    },
    /// Too few of them.
    #[error(
        "{threshold} of its keys must sign for {role}, and {} holds {good} of them: the directory of --keys must hold all keys that \
         sign, new ones beside those that stayed",
        crate::show::path(directory)
    )]
    TooFewKeys {
        /// The role.
        role: String,
        /// How many are here.
        good: u64,
        /// How many must sign.
        threshold: u64,
        /// The directory.
        directory: PathBuf,
    },
    /// No root key has this id.
    #[error(
        "{0:?} is not the beginning (of at least 8 digits) of one root key's id: `bolt repo status --json` lists them"
    )]
    NoSuchKey(String),
    /// Keys are to be made, and nobody said where.
    #[error("say where the new keys are to be written: --new-keys DIR")]
    NoNewKeys,
    /// A role of which nothing is there.
    #[error("the repository's metadata say nothing of role {0}, which they name: somebody may be hiding what it holds")]
    Hidden(String),
    /// A team that signs for something else.
    #[error("pack {pack} is not delegated to team {team}: {owner} signs for it")]
    NotDelegated {
        /// The pack.
        pack: PackName,
        /// The team.
        team: TeamName,
        /// Who signs for it.
        owner: String,
    },
    /// A pack that another team has.
    #[error("pack {pack} is delegated to team {team} already; `bolt repo undelegate {team} {pack}` takes it back")]
    Taken {
        /// The pack.
        pack: PackName,
        /// The team.
        team: TeamName,
    },
    /// No such team.
    #[error("there is no team {0} in this repository")]
    NoTeam(TeamName),
    /// A team without a key.
    #[error(
        "{0} has no key yet: give --new-key DIR, --team-keys DIR, or --public-key FILE with what `bolt repo team-key` wrote"
    )]
    NoTeamKey(String),
    /// A file that is not a team's public key.
    #[error("{} is not the public key of {role} that `bolt repo team-key` writes", crate::show::path(path))]
    NotAPublicKey {
        /// The file.
        path: PathBuf,
        /// The role that it should be of.
        role: String,
    },
    /// A team's name that was used before.
    #[error(
        "{0} is there already, or was: give no key where its keys stay, its private key with --team-keys DIR, or choose another name for the team"
    )]
    TeamUsed(String),
    /// A pack that moves along, which only the team can sign for.
    #[error(
        "{pack} is published already, so what is published moves to team {team}, which has to sign for it: give the team's \
         private key with --team-keys DIR, or make one with --new-key DIR"
    )]
    NeedsTeamKey {
        /// The team.
        team: TeamName,
        /// The pack.
        pack: PackName,
    },
    /// Too many packs of one team.
    #[error("{role} would have more than {most} packs")]
    TooManyPacks {
        /// The team's role.
        role: String,
        /// The limit.
        most: usize,
    },
    /// Nobody would take what is published.
    #[error(
        "the repository's root metadata have expired at {0}: agents take nothing new until a new root is signed with the root \
         keys, so nothing is published"
    )]
    RootExpired(Timestamp),
    /// The pack.
    #[error("cannot publish the pack")]
    Pack(#[from] PackError),
    /// A version's contents never change.
    #[error(
        "{pack} {version} is published already with another content (digest {published}); raise the version in pack.yaml"
    )]
    VersionTaken {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
        /// The digest that it has.
        published: String,
    },
    /// An archive that instances could not take.
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
        /// What is wrong.
        problem: String,
    },
    /// Channels only go forward.
    #[error("channel {channel} holds {pack} {}, which is newer than {}; publish a higher version, or use `bolt repo rollback`", versions.0, versions.1)]
    Lower {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// The version that it holds, and the one that was to be published.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// No channel was named.
    #[error("name the channel that the pack is for: --channel dev")]
    NoChannel,
    /// No version was named.
    #[error("say which version of {0} is meant, or --from which channel it comes")]
    NoVersion(PackName),
    /// A version that is not there.
    #[error("{pack} {version} is not published in this repository; `bolt repo status` lists what is")]
    NotPublished {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
    },
    /// A channel that knows nothing of a pack.
    #[error("channel {channel} holds nothing of {pack}")]
    NotHeld {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
    },
    /// A channel that holds another version than it was said to.
    #[error("channel {channel} holds {pack} {}, not {}: promote what it holds, or leave --from out", versions.0, versions.1)]
    HoldsOther {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// The version that it holds, and the one that it was said to hold.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// A rollout does not shrink.
    #[error(
        "{pack} in channel {channel} goes to {} % already; {} % would take it from nobody: use pause, or rollback",
        percents.0,
        percents.1
    )]
    Narrower {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// Now, and as asked.
        percents: (u8, u8),
    },
    /// A rollback that goes forward.
    #[error("channel {channel} holds {pack} {}; rolling back goes to a lower version than that, not to {}", versions.0, versions.1)]
    NotBack {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// The version that it holds, and the one that was asked for.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// Every version was withdrawn.
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
    /// More versions than a channel file lists.
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
        /// How many it has held.
        versions: usize,
    },
    /// A version that stands for something else.
    #[error(
        "{pack} has the version {version}, which stands for \"nothing\" in channels; give it another one in pack.yaml"
    )]
    Reserved {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
    },
    /// Nothing to go back to.
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
    /// Not a percentage.
    #[error("{0} is not a percentage: use 0 to 100")]
    Percent(u8),
    /// A target that is not what it should be.
    #[error("{name} in the repository cannot be read: {problem}")]
    Unreadable {
        /// The target's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another publisher needs what was just pruned.
    #[error("{0} was removed while another publisher began to use it: publish the same again, which writes it again")]
    PrunedInUse(String),
    /// The threads or timers of the runtime.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl RepoError {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RepoError {
        let path = path.into();
        move |source| RepoError::File { what, path, source }
    }

    pub(super) fn tuf<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> RepoError {
        move |error| RepoError::Tuf { what, error: error.to_string() }
    }
}

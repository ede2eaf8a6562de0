//! What the commands that sign have in common: which repository, which keys, how they are opened, for how long they sign.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use packs_schema::base::name::TeamName;
use packs_schema::base::quantity::parse_duration;

use super::failure;
use crate::cli::bucket_args::BucketArgs;
use crate::cli::failure::{Exit, Failure};
use crate::errln;
use crate::repo::{Access, Expiry, Passphrase, Unlock, View};

/// Which repository.
#[derive(Debug, Clone, Args)]
pub(super) struct RepoArgs {
    /// The repository: a directory, file:///path or s3://bucket/prefix.
    #[arg(long, value_name = "DIR|URL")]
    repo: PathBuf,
    #[command(flatten)]
    bucket: BucketArgs,
}

impl RepoArgs {
    /// Its address, with what was said of its bucket.
    pub(super) fn location(&self) -> Result<PathBuf, Failure> {
        self.bucket.location(self.repo.clone())
    }
}

/// Which repository is changed, with which keys.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The keys' directory.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    expiry: ExpiryArgs,
}

impl AccessArgs {
    pub(super) fn keys(&self) -> &Path {
        &self.keys
    }

    pub(super) fn passphrase(&self) -> &PassphraseArgs {
        &self.passphrase
    }

    pub(super) fn access(self, team: Option<TeamName>) -> Result<Access, Failure> {
        let AccessArgs { repo, keys, trust: TrustArgs { state, root }, passphrase, expiry } = self;
        let expiry = expiry.with_root(Expiry::default().root);
        Ok(Access { repository: repo.location()?, keys, unlock: passphrase.unlock()?, state, root, team, expiry })
    }
}

/// Which root is trusted, and where what was seen of the repository is kept.
#[derive(Debug, Clone, Args)]
pub(super) struct TrustArgs {
    /// The directory with the pinned root (root.json) and the versions seen (marks.json), which must stay between runs
    /// [default: the keys' directory]. For keys in a directory that cannot be written.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A trusted root to use instead of the pinned one, from elsewhere than the repository.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

/// Which repository is looked at, and what it is verified against.
#[derive(Debug, Clone, Args)]
pub(super) struct ViewArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The keys' directory, in which the trusted root is pinned. Without it, --state and --root nothing is verified: the
    /// repository vouches for itself.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl ViewArgs {
    /// The view; says on standard error when it verifies nothing.
    pub(super) fn view(&self) -> Result<View, Failure> {
        let ViewArgs { repo, keys, trust: TrustArgs { state, root } } = self.clone();
        let view = View { repository: repo.location()?, keys, state, root, read_archives: false };
        if !view.is_verified() {
            errln!(
                "NOT VERIFIED: without --keys, --state or --root the repository vouches for itself, and whoever owns its storage can \
                 make it say anything"
            );
        }
        Ok(view)
    }
}

/// Where the passphrase of encrypted keys comes from.
#[derive(Debug, Args)]
pub(super) struct PassphraseArgs {
    /// A file, readable by its owner only, with the passphrase of encrypted keys in its first line. Without it the
    /// environment variable BOLT_KEY_PASSPHRASE counts; without that the terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// How keys are opened.
    pub(super) fn unlock(&self) -> Result<Unlock, Failure> {
        let ask: Option<fn(&Path) -> io::Result<Passphrase>> = io::stdin().is_terminal().then_some(ask);
        Unlock::find(self.passphrase_file.as_deref(), ask).map_err(|e| failure(&e))
    }

    /// What new keys are encrypted with; `plain` says that they are not.
    pub(super) fn for_new_keys(&self, plain: bool) -> Result<Option<Passphrase>, Failure> {
        if plain {
            return Ok(None);
        }
        let ask: Option<fn(&Path) -> io::Result<Passphrase>> = io::stdin().is_terminal().then_some(ask_twice);
        let unlock = Unlock::find(self.passphrase_file.as_deref(), ask).map_err(|e| failure(&e))?;
        let passphrase = match unlock {
            Unlock::With(passphrase) => passphrase,
            Unlock::Ask(ask) => {
                ask(Path::new("the new keys")).map_err(|e| Failure::new(Exit::Usage, format!("no passphrase: {e}")))?
            }
            Unlock::Never => {
                let message = "new keys are encrypted, and there is no passphrase to do it with";
                let hint = "give --passphrase-file, set BOLT_KEY_PASSPHRASE, or say --plain-keys";
                return Err(Failure::new(Exit::Usage, message).hint(hint));
            }
        };
        passphrase.checked().map(Some).map_err(|e| failure(&e))
    }
}

fn ask(path: &Path) -> io::Result<Passphrase> {
    rpassword::prompt_password(format!("Passphrase of {}: ", path.display())).map(Passphrase::new)
}

fn ask_twice(path: &Path) -> io::Result<Passphrase> {
    let first = rpassword::prompt_password(format!("Passphrase for {}: ", path.display())).map(Passphrase::new)?;
    let again = rpassword::prompt_password("The same again: ").map(Passphrase::new)?;
    if first.is(&again) { Ok(first) } else { Err(io::Error::other("the two are not the same")) }
}

/// How long signatures are good for.
#[derive(Debug, Args)]
pub(super) struct ExpiryArgs {
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
    pub(super) fn with_root(&self, root: Duration) -> Expiry {
        let ExpiryArgs { targets_expires, snapshot_expires, timestamp_expires } = *self;
        Expiry { root, targets: targets_expires, snapshot: snapshot_expires, timestamp: timestamp_expires }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than 0s: write it like 30d".to_owned()),
        given => given.map_err(|e| e.to_string()),
    }
}

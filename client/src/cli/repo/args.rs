//! Arguments that the commands of `bolt repo` share: the repository, its keys and passphrase, trust, and lifetimes of signatures.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use packs_schema::base::name::TeamName;
use packs_schema::base::quantity::parse_duration;

use super::failure;
use crate::cli::bucket_args::BucketArgs;
use crate::cli::context::{Context, from_config};
use crate::cli::failure::{Exit, Failure};
use crate::config::{Config, Origin, Setting};
use crate::errln;
use crate::repo::{Access, ChangeReason, Expiry, Passphrase, Unlock, VARIABLE, View};

/// Repository to use.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RepoArgs {
    /// The repository: a directory, file:///path or s3://bucket/prefix [env: BOLT_REPO] [config: repository.url].
    #[arg(long, value_name = "DIR|URL")]
    repo: Option<PathBuf>,
    #[command(flatten)]
    bucket: BucketArgs,
}

impl RepoArgs {
    /// Returns the configuration with the flag applied.
    fn apply(&self, context: &Context) -> Config {
        context.config().clone().with_flags(&[(Setting::Repository, self.repo.clone())])
    }

    /// Returns the address of the repository, with the options of its bucket.
    fn location(&self, config: &Config) -> Result<PathBuf, Failure> {
        let repository = config.require(Setting::Repository).map_err(|e| from_config(&e))?;
        self.bucket.location(repository.to_owned())
    }
}

/// Repository to change, and the keys to sign with.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The keys' directory [env: BOLT_REPO_KEYS] [config: repository.keys].
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    expiry: ExpiryArgs,
}

impl AccessArgs {
    fn config(&self, context: &Context) -> Config {
        self.repo.apply(context).with_flags(&[
            (Setting::RepositoryKeys, self.keys.clone()),
            (Setting::RepositoryState, self.trust.state.clone()),
            (Setting::PassphraseFile, self.passphrase.passphrase_file.clone()),
        ])
    }

    /// Returns what new keys are encrypted with; see [`PassphraseArgs::for_new_keys`].
    pub(super) fn passphrase_for_new_keys(
        &self,
        plain: bool,
        context: &Context,
    ) -> Result<Option<Passphrase>, Failure> {
        for_new_keys(&self.config(context), plain)
    }

    pub(super) fn access(
        self,
        team: Option<TeamName>,
        reason: ReasonArgs,
        context: &Context,
    ) -> Result<Access, Failure> {
        let config = self.config(context);
        let AccessArgs { repo, trust: TrustArgs { root, .. }, expiry, .. } = self;
        let repository = repo.location(&config)?;
        let keys = config.require(Setting::RepositoryKeys).map_err(|e| from_config(&e))?.to_owned();
        let state = config.value(Setting::RepositoryState).map(Path::to_owned);
        let expiry = expiry.with_root(Expiry::default().root);
        // A configured root is for readers: a publisher's pinned root advances with each rotation.
        let reason = reason.reason;
        Ok(Access { repository, keys, unlock: unlock(&config)?, state, root, team, expiry, reason })
    }
}

/// Reason of a change.
#[derive(Debug, Default, Args)]
pub(super) struct ReasonArgs {
    /// Reason of the change, kept in the signed journal and shown by `bolt repo log`.
    #[arg(long, value_name = "TEXT")]
    reason: Option<ChangeReason>,
}

/// Trusted root, and the directory that keeps the versions seen.
#[derive(Debug, Clone, Args)]
pub(super) struct TrustArgs {
    /// The directory with the pinned root (root.json) and the versions seen (marks.json), which must stay between runs
    /// [default: the keys' directory] [env: BOLT_REPO_STATE] [config: repository.state]. For keys in a read-only directory.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A trusted root to use instead of the pinned one. Take it from whoever made the repository, never from the repository.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

/// Repository to read, and the root to verify it against.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ViewArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The keys' directory, in which the trusted root is pinned [env: BOLT_REPO_KEYS] [config: repository.keys]. Without keys,
    /// state and root nothing is verified: the repository vouches for itself.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl ViewArgs {
    fn config(&self, context: &Context) -> Config {
        self.repo.apply(context).with_flags(&[
            (Setting::RepositoryKeys, self.keys.clone()),
            (Setting::RepositoryState, self.trust.state.clone()),
        ])
    }

    /// Returns the view; warns on standard error when it verifies nothing.
    pub(super) fn view(&self, context: &Context) -> Result<View, Failure> {
        let view = self.quiet_view(context)?;
        if !view.is_verified() {
            errln!(
                "NOT VERIFIED: without --keys, --state or --root (or [repository] in client.toml) the repository vouches for itself, \
                 and whoever owns its storage can make it say anything"
            );
        }
        Ok(view)
    }

    /// Returns the view; refuses one that verifies nothing.
    pub(in crate::cli) fn verified_view(&self, context: &Context) -> Result<View, Failure> {
        let view = self.quiet_view(context)?;
        if view.is_verified() {
            return Ok(view);
        }
        let problem = "there is no trusted root to verify the repository against";
        Err(Failure::new(Exit::Usage, problem)
            .hint("give --keys, --state or --root, or set them under [repository] in client.toml"))
    }

    fn quiet_view(&self, context: &Context) -> Result<View, Failure> {
        let config = self.config(context);
        let path = |setting| config.value(setting).map(Path::to_owned);
        let (keys, state) = (path(Setting::RepositoryKeys), path(Setting::RepositoryState));
        let configured = || path(Setting::RepositoryRoot).filter(|_| keys.is_none() && state.is_none());
        let root = self.trust.root.clone().or_else(configured);
        Ok(View { repository: self.repo.location(&config)?, keys, state, root, read_archives: false })
    }
}

/// Arguments of `bolt repo trust`, which pins a root.
#[derive(Debug, Args)]
pub(super) struct PinArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The keys' directory [env: BOLT_REPO_KEYS] [config: repository.keys].
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The directory to keep the pinned root and the versions seen in, which must stay between runs [default: the keys'
    /// directory] [env: BOLT_REPO_STATE] [config: repository.state].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl PinArgs {
    /// Returns the repository, the keys' directory and the state directory.
    pub(super) fn places(&self, context: &Context) -> Result<(PathBuf, PathBuf, Option<PathBuf>), Failure> {
        let config = self.repo.apply(context).with_flags(&[
            (Setting::RepositoryKeys, self.keys.clone()),
            (Setting::RepositoryState, self.state.clone()),
        ]);
        let keys = config.require(Setting::RepositoryKeys).map_err(|e| from_config(&e))?.to_owned();
        Ok((self.repo.location(&config)?, keys, config.value(Setting::RepositoryState).map(Path::to_owned)))
    }
}

/// Returns how the keys of the configured repository are opened.
fn unlock(config: &Config) -> Result<Unlock, Failure> {
    let ask: Option<fn(&Path) -> io::Result<Passphrase>> = io::stdin().is_terminal().then_some(ask);
    find(config, ask)
}

/// Returns what new keys are encrypted with; `None` when `plain` is set.
fn for_new_keys(config: &Config, plain: bool) -> Result<Option<Passphrase>, Failure> {
    if plain {
        return Ok(None);
    }
    let ask: Option<fn(&Path) -> io::Result<Passphrase>> = io::stdin().is_terminal().then_some(ask_twice);
    let passphrase = match find(config, ask)? {
        Unlock::With(passphrase) => passphrase,
        Unlock::Ask(ask) => {
            ask(Path::new("the new keys")).map_err(|e| Failure::new(Exit::Usage, format!("no passphrase: {e}")))?
        }
        Unlock::Never => {
            let message = "new keys are encrypted, and there is no passphrase to do it with";
            let hint = "give --passphrase-file, set BOLT_KEY_PASSPHRASE, or use --plain-keys";
            return Err(Failure::new(Exit::Usage, message).hint(hint));
        }
    };
    passphrase.checked().map(Some).map_err(|e| failure(&e))
}

/// Finds the passphrase: a flag, then variables, then the configuration file, then `ask`.
fn find(config: &Config, ask: Option<fn(&Path) -> io::Result<Passphrase>>) -> Result<Unlock, Failure> {
    let file = config.get(Setting::PassphraseFile).filter(|sourced| {
        let is_configured = matches!(sourced.origin, Origin::File { .. });
        !is_configured || std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty())
    });
    Unlock::find(file.map(|sourced| sourced.value.as_path()), ask).map_err(|e| failure(&e))
}

/// Source of the passphrase of encrypted keys.
#[derive(Debug, Args)]
pub(super) struct PassphraseArgs {
    /// A file, readable by its owner only, with the passphrase of encrypted keys in its first line
    /// [env: BOLT_KEY_PASSPHRASE_FILE] [config: repository.passphrase_file]. Without it, BOLT_KEY_PASSPHRASE is used, and without
    /// that the terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Returns how existing keys are opened.
    pub(super) fn unlock(&self, context: &Context) -> Result<Unlock, Failure> {
        let flags = [(Setting::PassphraseFile, self.passphrase_file.clone())];
        unlock(&context.config().clone().with_flags(&flags))
    }

    /// Returns what new keys are encrypted with; `None` when `plain` is set.
    pub(super) fn for_new_keys(&self, plain: bool, context: &Context) -> Result<Option<Passphrase>, Failure> {
        let flags = [(Setting::PassphraseFile, self.passphrase_file.clone())];
        for_new_keys(&context.config().clone().with_flags(&flags), plain)
    }
}

/// Returns the new passphrase of existing keys: from a file, or else from the terminal.
pub(super) fn new_passphrase(file: Option<&Path>) -> Result<Passphrase, Failure> {
    let passphrase = match file {
        Some(file) => Passphrase::read(file).map_err(|e| failure(&e))?,
        None if io::stdin().is_terminal() => ask_twice(Path::new("the keys from now on"))
            .map_err(|e| Failure::new(Exit::Usage, format!("no passphrase: {e}")))?,
        None => {
            let message = "there is no new passphrase, and no terminal to ask for it";
            return Err(Failure::new(Exit::Usage, message).hint("give --new-passphrase-file"));
        }
    };
    passphrase.checked().map_err(|e| failure(&e))
}

fn ask(path: &Path) -> io::Result<Passphrase> {
    rpassword::prompt_password(format!("Passphrase of {}: ", path.display())).map(Passphrase::new)
}

fn ask_twice(path: &Path) -> io::Result<Passphrase> {
    let first = rpassword::prompt_password(format!("Passphrase for {}: ", path.display())).map(Passphrase::new)?;
    let again = rpassword::prompt_password("The same again: ").map(Passphrase::new)?;
    if first.is(&again) { Ok(first) } else { Err(io::Error::other("the two are not the same")) }
}

/// Lifetimes of signatures.
#[derive(Debug, Args)]
pub(super) struct ExpiryArgs {
    /// Lifetime of the list of packs and channels.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
    targets_expires: Duration,
    /// Lifetime of the snapshot.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    snapshot_expires: Duration,
    /// Lifetime of the timestamp: agents take nothing new after it.
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

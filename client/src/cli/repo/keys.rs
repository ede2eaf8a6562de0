//! `bolt repo init`, `refresh` and `rotate-root`: keys and lifetimes of signatures.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{AccessArgs, ExpiryArgs, PassphraseArgs, ReasonArgs, duration, new_passphrase};
use super::{failure, print, rotated};
use crate::cli::bucket_args::BucketArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::whole;
use crate::repo::{self, InitOptions, Initialized, Refreshed, RoleType, Rotated, Rotation};
use crate::show;
use crate::{errln, outln};

/// Time before expiry in which `refresh` renews signatures.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// Make a repository and its keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo init ./repo --keys ./keys
  bolt repo init s3://packs/prod --bucket-region eu-west-1 --keys ./keys \\
    --root-keys 3 --root-threshold 2")]
pub(crate) struct InitCommand {
    /// The repository's directory or s3://bucket/prefix: absent or empty.
    dir: PathBuf,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Directory for the keys.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Number of root keys to make.
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true, value_parser = whole::<u8>(1..=16))]
    root_keys: u8,
    /// Number of root keys that must sign a new root.
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true, value_parser = whole::<u8>(1..=16))]
    root_threshold: u8,
    /// Lifetime of the root.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
    root_expires: Duration,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Do not encrypt the keys.
    #[arg(long)]
    plain_keys: bool,
    #[command(flatten)]
    expiry: ExpiryArgs,
}

/// Renew signatures.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bolt repo refresh --if-within 7d        from cron, every day")]
pub(crate) struct RefreshCommand {
    #[command(flatten)]
    access: AccessArgs,
    /// Do nothing while nothing expires within this time: for a job that runs often.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    if_within: Option<Duration>,
}

/// Sign the next root.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo rotate-root --root-expires 365d
  bolt repo rotate-root --replace targets --new-keys ./new-keys")]
pub(crate) struct RotateCommand {
    #[command(flatten)]
    access: AccessArgs,
    /// Give this role new keys, as many as it has; repeatable.
    #[arg(long, value_name = "ROLE", requires = "new_keys")]
    replace: Vec<RoleName>,
    /// Directory for new keys.
    #[arg(long, value_name = "DIR", requires = "replace")]
    new_keys: Option<PathBuf>,
    /// Do not encrypt new keys.
    #[arg(long)]
    plain_keys: bool,
    /// A file with a private key that becomes a root key as well; repeatable.
    #[arg(long = "add-key", value_name = "FILE")]
    add: Vec<PathBuf>,
    /// The id, or its beginning, of a root key to remove; repeatable.
    #[arg(long = "remove-key", value_name = "ID")]
    remove: Vec<String>,
    /// Number of root keys that must sign from now on [default: unchanged].
    #[arg(long, value_name = "N")]
    root_threshold: Option<u8>,
    /// Lifetime of the new root.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
    root_expires: Duration,
}

/// Encrypt key files with another passphrase.
#[derive(Debug, Args)]
#[command(after_help = "\
The files are replaced. A copy of the keys of snapshot and timestamp that a team or a job signs with gets a passphrase of its \
own, so that the publisher's is given to no one, and one passphrase opens all keys of a directory.

Example:
  bolt repo key-passphrase dba/snapshot.pem dba/timestamp.pem \\
    --passphrase-file ours.txt --new-passphrase-file theirs.txt")]
pub(crate) struct KeyPassphraseCommand {
    /// The key files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// A file, readable by its owner only, with the new passphrase in its first line [default: the terminal is asked].
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// Use a key in AWS KMS for a role.
#[cfg(feature = "kms")]
#[derive(Debug, Args)]
#[command(after_help = "\
Example, before `bolt repo init`:
  bolt repo kms-key targets --keys keys \\
    arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")]
pub(crate) struct KmsKeyCommand {
    /// The role: root, targets, snapshot, timestamp, or team-<team>.
    #[arg(value_parser = role)]
    role: String,
    /// The key's ARN. It must be an ECC_NIST_P256 key for SIGN_VERIFY; publishers need kms:Sign on it, and this command
    /// kms:GetPublicKey.
    arn: String,
    /// The keys' directory.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

#[cfg(feature = "kms")]
fn role(text: &str) -> Result<String, String> {
    let team = text.strip_prefix("team-").is_some_and(|team| packs_schema::base::name::TeamName::new(team).is_ok());
    if team || ["root", "targets", "snapshot", "timestamp"].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("a role is root, targets, snapshot, timestamp, or team-<team>".to_owned())
}

#[cfg(feature = "kms")]
pub(super) fn kms(command: KmsKeyCommand, context: &Context) -> Result<Exit, Failure> {
    let KmsKeyCommand { role, arn, keys } = command;
    let path = repo::kms_key(&role, &arn, &keys).map_err(|e| failure(&e))?;
    print(context.json, &serde_json::json!({ "file": path }), |_| outln!("{}", path.display()));
    Ok(Exit::Success)
}

/// A role that a root has keys for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    Root,
    Targets,
    Snapshot,
    Timestamp,
}

pub(super) fn init(command: InitCommand, context: &Context) -> Result<Exit, Failure> {
    let InitCommand { dir, bucket, keys, root_keys, root_threshold, root_expires, passphrase, plain_keys, expiry } =
        command;
    let dir = bucket.location(dir)?;
    let (expiry, passphrase) = (expiry.with_root(root_expires), passphrase.for_new_keys(plain_keys, context)?);
    let plain = passphrase.is_none();
    let options = InitOptions { repository: dir, keys, root_keys, root_threshold, expiry, passphrase };
    let made = repo::init(&options).map_err(|e| failure(&e))?;
    print(context.json, &made, |made: &Initialized| {
        outln!("{}", made.root.display());
        for key in &made.keys {
            outln!("{}", key.display());
        }
        errln!("fingerprint of the root: {}", made.fingerprint);
        errln!(
            "Give {} to every agent as repository.root, and to every other publisher for `bolt repo trust`. Keep root*.pem offline: \
             it is needed only to replace keys.",
            made.root.display()
        );
        if plain {
            errln!("The keys are not encrypted: whoever reads the files can sign.");
        }
    });
    Ok(Exit::Success)
}

pub(super) fn refresh(command: RefreshCommand, context: &Context) -> Result<Exit, Failure> {
    let RefreshCommand { access, if_within } = command;
    let done = repo::refresh(
        &access.access(None, ReasonArgs::default(), context)?,
        if_within.unwrap_or(SOON),
        if_within.is_some(),
    );
    let done = done.map_err(|e| failure(&e))?;
    print(context.json, &done, |done: &Refreshed| {
        if !done.renewed.is_empty() {
            outln!("renewed: {}", done.renewed.join(", "));
        }
        for ending in &done.pending {
            let why = match ending.role.as_str() {
                "root" => "`bolt repo rotate-root` signs the next one",
                _ => "its keys are not here",
            };
            errln!("the signatures of {} expire at {}: {why}", ending.role, ending.expires);
        }
    });
    Ok(if done.pending.is_empty() { Exit::Success } else { Exit::Failed })
}

pub(super) fn passphrase(command: KeyPassphraseCommand, context: &Context) -> Result<Exit, Failure> {
    let KeyPassphraseCommand { files, passphrase, new_passphrase_file } = command;
    let unlock = passphrase.unlock(context)?;
    let new = new_passphrase(new_passphrase_file.as_deref())?;
    repo::key_passphrase(&files, &unlock, &new).map_err(|e| failure(&e))?;
    print(context.json, &serde_json::json!({ "files": files }), |_| {
        files.iter().for_each(|file| outln!("{}", show::path(file)));
    });
    Ok(Exit::Success)
}

pub(super) fn rotate(command: RotateCommand, context: &Context) -> Result<Exit, Failure> {
    let RotateCommand { access, replace, new_keys, plain_keys, add, remove, root_threshold, root_expires } = command;
    let passphrase = match replace.is_empty() {
        true => None,
        false => access.passphrase_for_new_keys(plain_keys, context)?,
    };
    let role = |name: RoleName| match name {
        RoleName::Root => RoleType::Root,
        RoleName::Targets => RoleType::Targets,
        RoleName::Snapshot => RoleType::Snapshot,
        RoleName::Timestamp => RoleType::Timestamp,
    };
    let replace = replace.into_iter().map(role).collect();
    let (threshold, expires) = (root_threshold, root_expires);
    let rotation = Rotation { replace, new_keys, passphrase, add, remove, threshold, expires };
    let access = access.access(None, ReasonArgs::default(), context)?;
    let keys = access.keys.clone();
    let done = repo::rotate_root(&access, &rotation).map_err(|e| failure(&e))?;
    print(context.json, &done, |done: &Rotated| {
        outln!(
            "root version {}; the next root needs {} of {} keys",
            done.version,
            done.threshold,
            done.root_keys.len()
        );
        for id in &done.root_keys {
            outln!("root key {id}");
        }
        if !done.replaced.is_empty() {
            outln!("keys changed: {}", done.replaced.join(", "));
        }
        for path in &done.made {
            outln!("{}", path.display());
        }
        rotated::next_steps(done, &keys).iter().for_each(|line| errln!("{line}"));
    });
    Ok(Exit::Success)
}

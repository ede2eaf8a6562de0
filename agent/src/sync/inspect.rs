//! Inspection for `bolt-agent check-config`: of a repository in a directory, which is verified as a poll does, without the records
//! of previous polls, and of the files from which virtual environments are built.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use packs_schema::agent::config::{PythonConfig, RepositoryConfig};
use packs_schema::agent::rest::EmptyChannel;
use tough::{ExpirationEnforcement, Limits, RepositoryLoader};

use super::choose::{empty_channel, packs};
use super::directory::{DirectoryTransport, addresses, directory_url, examine};
use super::lookup::Lookup;
use super::{SyncError, metadata, root, venv};

/// Maximum time of building one environment, whatever `python.timeout` is.
pub(crate) const LONGEST_BUILD: Duration = venv::builder::LONGEST_BUILD;

/// Findings about a repository that is there and whose signatures are valid.
pub(crate) struct Inspection {
    /// Role whose metadata have expired.
    pub(crate) expired: Option<String>,
    /// State of the configured channel.
    pub(crate) channel: ChannelState,
}

/// State of a channel in a repository.
pub(crate) enum ChannelState {
    /// The channel has packs.
    HasPacks,
    /// The channel has none, and other channels have.
    Empty(EmptyChannel),
    /// No channel has any.
    NoChannels,
}

/// Verifies the repository of `config`, which must be in a directory.
pub(crate) fn inspect(config: &RepositoryConfig) -> Result<Inspection, SyncError> {
    let url = directory_url(&config.url)?;
    examine(&url)?;
    let root = root::read_text(&config.root)?;
    let (metadata_url, targets_url) = addresses(&url)?;
    let datastore = Datastore::make()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SyncError::Runtime)?;
    let loading = RepositoryLoader::new(&root, metadata_url, targets_url)
        .transport(DirectoryTransport)
        .datastore(&datastore.0)
        .limits(Limits { max_root_updates: metadata::MAX_ROOT_UPDATES, ..Limits::default() })
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load();
    let repository = runtime.block_on(loading).map_err(metadata::from_tough)?;
    let lookup = Lookup::new(&repository);
    let wanted = packs(&lookup, &config.channel);
    let channel = match empty_channel(&lookup, &config.channel, &wanted) {
        Some(empty) => ChannelState::Empty(empty),
        None if wanted.is_empty() => ChannelState::NoChannels,
        None => ChannelState::HasPacks,
    };
    let expired = metadata::expired(&repository, Timestamp::now()).map(|role| role.to_string());
    Ok(Inspection { expired, channel })
}

/// Returns what keeps this account from building virtual environments, without running anything.
pub(crate) fn python(config: &PythonConfig) -> Vec<String> {
    venv::problems(config)
}

/// Private directory for the records of one verification, removed when this is dropped.
struct Datastore(PathBuf);

impl Datastore {
    /// Makes it where this account can: the directory that `TMPDIR` names may be closed to it.
    fn make() -> Result<Datastore, SyncError> {
        let name = format!("bolt-check-config-{}", std::process::id());
        let parents = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
        let mut failed = None;
        for path in parents.map(|parent| parent.join(&name)) {
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Datastore(path)),
                Err(error) => failed = Some(SyncError::file("create", path)(error)),
            }
        }
        Err(failed.expect("there are parents"))
    }
}

impl Drop for Datastore {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

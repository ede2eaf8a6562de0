//! Store of activated packs on an instance, written by the sync and read by api and launcher.
//!
//! ```text
//! <packs>/
//!     <pack>/<version>-<digest12>/          the pack's files, and
//!         .bolt/pack.json                   StoredPack
//!         .bolt/manifest.json               Manifest: digest and mode of every file
//!         .bolt/actions/<action>.json       Action: the checked definition
//!         .bolt/venv.json                   VenvLink: its virtual environment, if it needs one
//!         .bolt/config.json                 site configuration without secrets (an object)
//!         .bolt/config.secret.json          secrets of the site configuration (an object), mode 0600
//!         .bolt.withdrawn/                  .bolt of a withdrawn version
//!     <pack>/current -> <version>-<digest12>
//!     <pack>/config.json                    copies of the active version's two files, for launchers of earlier
//!     <pack>/config.secret.json             versions; a version without files of its own uses them
//!     .venvs/<digest>/                      a virtual environment, shared by all versions with equal needs, and
//!         .bolt/venv.json                   StoredVenv: written last; without it the environment is incomplete
//!         .bolt/manifest.json               Manifest: digest and mode of every file
//!     <pack>/.dev.json                      Shadow, while a pushed version replaces the signed one
//!     .inbox/ .pushes/                      pushed packs (see `push`)
//!     .staging/ .tuf/                       private to the sync
//!     .status.json                          rest::SyncStatus
//!     .facts.json                           facts::StoredFacts, of this boot
//! ```

use serde::{Deserialize, Serialize};

use crate::agent::python::Interpreter;
use crate::base::name::{Digest, PackVersion};
use crate::delivery::pushed::PushInfo;
use crate::pack::Pack;

/// Format of the records that this code writes.
pub const FORMAT: u32 = 1;
/// Directory of Bolt's own files within an activated pack.
pub const META: &str = ".bolt";
/// Name of [`META`] of a withdrawn version: nothing can be started without [`META`].
pub const WITHDRAWN: &str = ".bolt.withdrawn";
/// File of a [`StoredPack`], in [`META`].
pub const PACK: &str = "pack.json";
/// File of a [`Manifest`], in [`META`].
pub const MANIFEST: &str = "manifest.json";
/// Directory of checked definitions, in [`META`].
pub const ACTIONS: &str = "actions";
/// Symbolic link to the active version, in the pack's directory.
pub const CURRENT: &str = "current";
/// Site configuration without its secrets, in [`META`] of a version.
pub const CONFIG: &str = "config.json";
/// Secrets of the site configuration, in [`META`] of a version.
pub const CONFIG_SECRETS: &str = "config.secret.json";
/// File of a [`PushOverlay`], in the pack's directory.
pub const PUSH_OVERLAY: &str = ".dev.json";
/// Status of the sync, in the store.
pub const STATUS: &str = ".status.json";
/// File of [`StoredFacts`](crate::delivery::facts::StoredFacts), in the store.
pub const FACTS: &str = ".facts.json";

/// Directory of virtual environments, in the store.
pub const VENVS: &str = ".venvs";
/// File of a [`VenvLink`] in [`META`] of a pack's version, and of a [`StoredVenv`] in that of an environment.
pub const VENV: &str = "venv.json";

/// Exit of the last sync process, a [`SyncEnd`](crate::agent::rest::SyncEnd), in the run-time directory.
pub const SYNC_END: &str = "sync.json";
/// State of the api process, an [`ApiProcess`](crate::agent::rest::ApiProcess), in the run-time directory.
pub const API_STATE: &str = "api.json";

/// The name of a version's directory.
pub fn version_directory(version: &PackVersion, digest: &Digest) -> String {
    format!("{version}-{}", digest.short())
}

/// The version in the name of a version's directory: `1.4.2-0123456789ab`.
pub fn version_of(directory: &str) -> Option<PackVersion> {
    let (version, digest) = directory.rsplit_once('-')?;
    let hex = digest.len() == 12 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    hex.then(|| PackVersion::new(version).ok()).flatten()
}

/// `.bolt/pack.json`: description and digest of an activated pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPack {
    /// [`FORMAT`].
    pub format: u32,
    /// Digest of the archive.
    pub digest: Digest,
    /// Description of the pack.
    pub pack: Pack,
    /// Present if the archive was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
}

/// `.dev.json` of a pack: the pushed version that replaces the signed one, with its expiry, and expired pushed versions
/// whose files may still be in use.
///
/// Valid while `current` points to `active`: it is written before the link is changed, and removed after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOverlay {
    /// [`FORMAT`].
    pub format: u32,
    /// Pushed version.
    #[serde(default)]
    pub active: Option<PushedVersion>,
    /// Directory of the signed version that becomes active again afterwards.
    #[serde(default, rename = "beneath")]
    pub signed: Option<String>,
    /// Expired pushed versions. They have no [`META`], so nothing can be started in them.
    #[serde(default)]
    pub ended: Vec<EndedVersion>,
}

/// Active pushed version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedVersion {
    /// Directory.
    pub directory: String,
    /// Digest of its archive.
    pub digest: Digest,
    /// Size of its files, in bytes.
    pub size_bytes: u64,
    /// Expiry in milliseconds since 1970, by the wall clock at the time of the push; for people.
    pub until_ms: u64,
    /// Expiry in milliseconds since the start of the boot. A reboot also ends it.
    pub until_boot_ms: u64,
    /// `/proc/sys/kernel/random/boot_id` at the time of the push.
    pub boot: String,
}

/// Expired pushed version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedVersion {
    /// Directory.
    pub directory: String,
    /// Digest of its archive.
    pub digest: Digest,
    /// Size of its files, in bytes.
    pub size_bytes: u64,
    /// Time until which an execution of it may run, in milliseconds since the start of the boot …
    pub in_use_until_boot_ms: u64,
    /// … with this id.
    pub boot: String,
}

/// `.bolt/manifest.json`: all files of the pack, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Files.
    pub files: Vec<ManifestFile>,
}

/// File of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Path within the pack, with `/`.
    pub path: String,
    /// Digest of its content.
    pub sha256: Digest,
    /// Size in bytes.
    pub size_bytes: u64,
    /// True if it is executable.
    pub executable: bool,
}

/// `.bolt/venv.json` of a pack's version: the environment of its Python actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenvLink {
    /// [`FORMAT`].
    pub format: u32,
    /// Name in [`VENVS`].
    pub venv: Digest,
}

/// `.bolt/venv.json` of a virtual environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVenv {
    /// [`FORMAT`].
    pub format: u32,
    /// Name.
    pub venv: Digest,
    /// Interpreter that created it.
    pub interpreter: Interpreter,
    /// Requirements that were installed.
    pub requirements: String,
    /// Size of all its files, in bytes.
    pub size_bytes: u64,
}

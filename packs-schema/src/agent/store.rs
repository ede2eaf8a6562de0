//! The store of activated packs on an instance: written by the sync, read by api and launcher.
//!
//! ```text
//! <packs>/
//!     <pack>/<version>-<digest12>/          the pack's files, and
//!         .bolt/pack.json                   StoredPack
//!         .bolt/manifest.json               Manifest: what every file must be
//!         .bolt/actions/<action>.json       Action: the checked definition
//!         .bolt/venv.json                   VenvLink: the virtual environment that it runs in, when it needs one
//!         .bolt/config.json                 per-site configuration, checked (an object), without secrets
//!         .bolt/config.secret.json          its secrets (an object), readable by the sync and root only
//!         .bolt.withdrawn/                  .bolt of a version that its channel took back
//!     <pack>/current -> <version>-<digest12>
//!     <pack>/config.json                    the same two files of the active version, for launchers that look for them
//!     <pack>/config.secret.json             here; a version without files of its own is given these
//!     .venvs/<digest>/                      a virtual environment, shared by all versions that need the same, and
//!         .bolt/venv.json                   StoredVenv: written last, so what has none is not finished
//!         .bolt/manifest.json               Manifest: what every file of it must be
//!     <pack>/.dev.json                      Shadow, while a pushed version stands in the place of the signed one
//!     .inbox/ .pushes/                      packs that were pushed (see `push`)
//!     .staging/ .tuf/                       the sync's own
//!     .status.json                          rest::SyncStatus
//!     .facts.json                           facts::StoredFacts, of this boot
//! ```

use serde::{Deserialize, Serialize};

use crate::agent::python::Interpreter;
use crate::base::name::{Digest, PackVersion};
use crate::delivery::pushed::PushInfo;
use crate::pack::Pack;

/// The version of the stored records that this code writes.
pub const FORMAT: u32 = 1;
/// The directory of Bolt's own files within an activated pack.
pub const META: &str = ".bolt";
/// What [`META`] of a version is called once the version was withdrawn: nothing can be started without it.
pub const WITHDRAWN: &str = ".bolt.withdrawn";
/// The file of a [`StoredPack`], below [`META`].
pub const PACK: &str = "pack.json";
/// The file of a [`Manifest`], below [`META`].
pub const MANIFEST: &str = "manifest.json";
/// The directory of checked definitions, below [`META`].
pub const ACTIONS: &str = "actions";
/// The link to the active version, in the pack's directory.
pub const CURRENT: &str = "current";
/// The per-site configuration without its secrets, below [`META`] of a version.
pub const CONFIG: &str = "config.json";
/// The secrets of the per-site configuration, below [`META`] of a version.
pub const CONFIG_SECRETS: &str = "config.secret.json";
/// The file of a [`PushOverlay`], in the pack's directory.
pub const PUSH_OVERLAY: &str = ".dev.json";
/// The sync's report, in the store.
pub const STATUS: &str = ".status.json";
/// The file of [`StoredFacts`](crate::delivery::facts::StoredFacts), in the store.
pub const FACTS: &str = ".facts.json";

/// The directory of virtual environments, in the store.
pub const VENVS: &str = ".venvs";
/// The file of a [`VenvLink`] below [`META`] of a pack's version, and of a [`StoredVenv`] below that of an environment.
pub const VENV: &str = "venv.json";

/// The launcher's report of how the last sync process ended, a [`SyncEnd`](crate::agent::rest::SyncEnd), in the runtime directory.
pub const SYNC_END: &str = "sync.json";
/// In the runtime directory: how the api's process fares (JSON, `rest::ApiProcess`).
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

/// `.bolt/pack.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPack {
    /// [`FORMAT`].
    pub format: u32,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// The pack's description.
    pub pack: Pack,
    /// Set when the archive was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
}

/// `.dev.json` of a pack: which pushed version stands in the place of the signed one, and until when; and the pushed versions
/// whose time is over and whose files may still be in use.
///
/// It counts while `current` points to `active`: it is written before the link is, and taken back after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOverlay {
    /// [`FORMAT`].
    pub format: u32,
    /// The pushed version.
    #[serde(default)]
    pub active: Option<PushedVersion>,
    /// The directory of the signed version that is active again afterwards.
    #[serde(default, rename = "beneath")]
    pub signed: Option<String>,
    /// Pushed versions that are over. They have no [`META`], so that nothing can be started in them.
    #[serde(default)]
    pub ended: Vec<EndedVersion>,
}

/// A pushed version that is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedVersion {
    /// Its directory.
    pub directory: String,
    /// SHA-256 of its archive.
    pub digest: Digest,
    /// Its files, in bytes.
    pub size_bytes: u64,
    /// When it is over by the wall clock of the moment when it was pushed, in milliseconds since 1970; for people.
    pub until_ms: u64,
    /// When it is over, in milliseconds since the start of this boot. Another boot ends it as well.
    pub until_boot_ms: u64,
    /// `/proc/sys/kernel/random/boot_id` when it was pushed.
    pub boot: String,
}

/// A pushed version that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedVersion {
    /// Its directory.
    pub directory: String,
    /// SHA-256 of its archive.
    pub digest: Digest,
    /// Its files, in bytes.
    pub size_bytes: u64,
    /// Until when an execution of it may run, in milliseconds since the start of the boot …
    pub in_use_until_boot_ms: u64,
    /// … with this id.
    pub boot: String,
}

/// `.bolt/manifest.json`: every file of the pack, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The files.
    pub files: Vec<ManifestFile>,
}

/// One file of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Path within the pack, with `/`.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// Its run bit.
    pub executable: bool,
}

/// `.bolt/venv.json` of a pack's version: in which environment its Python actions run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenvLink {
    /// [`FORMAT`].
    pub format: u32,
    /// Its name below [`VENVS`].
    pub venv: Digest,
}

/// `.bolt/venv.json` of a virtual environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVenv {
    /// [`FORMAT`].
    pub format: u32,
    /// Its name.
    pub venv: Digest,
    /// What it was made with.
    pub interpreter: Interpreter,
    /// The requirements that it was made from.
    pub requirements: String,
    /// All its files.
    pub size_bytes: u64,
}

//! Site configuration of a pack: `<pack_config>/<pack>.yaml`, checked against a version's `config.schema.yaml`, with its
//! defaults.
//!
//! ```text
//!  Checked ─▶ configure ─▶ Configured          staged version, before it may be activated
//!  active version ─▶ refresh                   at every poll: the site's file may have changed
//! ```
//!
//! Each version has its own configuration in its `.bolt` directory, so that the one rename of `current` changes both together:
//! a sync that ends at any point leaves each version with the configuration that was checked against its schema. There are two
//! files: `config.json`, which the launcher puts into the environment (`BOLT_CONFIG`, `BOLT_CONFIG_<NAME>`), and
//! `config.secret.json` (mode 0600, for the launcher as root), with every value that the schema marks `secret: true` or that
//! contains one; secrets reach an action on standard input only. A copy in the pack's directory serves launchers of earlier
//! versions. A changed file that is invalid leaves the previous configuration in effect; `bolt packs` and health report it.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use packs_schema::agent::config::Config;
use packs_schema::agent::store::{self, META};
use packs_schema::base::document::yaml;
use packs_schema::base::name::PackName;
use packs_schema::pack::contents::{CONFIG_SCHEMA_FILE, MAX_YAML, Requirement};
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value};

use super::check::Checked;
use super::choose::Chosen;
use super::error::{PackFailure, Step};
use super::store::Store;
use super::{check, disk};

/// Maximum size of each file, in bytes: the launcher's limit.
const MAX_CONFIG: usize = 64 << 10;

/// Staged pack whose site configuration is valid and written beside its definitions.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) chosen: Chosen,
    pub(super) directory: PathBuf,
    pub(super) requirements: Vec<Requirement>,
}

/// Configures a staged version. An invalid configuration prevents its activation.
pub(super) fn configure(config: &Config, checked: Checked) -> Result<Configured, PackFailure> {
    let Checked { chosen, directory, requirements } = checked;
    let files = Files::prepare(config, &chosen.pack, &directory)?;
    files.write(&directory.join(META), ConfigLocation::Version)?;
    Ok(Configured { chosen, directory, requirements })
}

/// Brings the configuration of the active version in `directory` up to date with the site's file. If the file is invalid, the
/// previous configuration remains in effect, and the error says so.
pub(super) fn refresh(store: &Store, config: &Config, pack: &PackName, directory: &Path) -> Result<(), PackFailure> {
    let (version, home) = (directory.join(META), store.pack(pack));
    let files = Files::prepare(config, pack, directory).map_err(|failure| {
        let configured = [&version, &home].iter().any(|place| place.join(store::CONFIG).exists());
        let now =
            if configured { "the previous configuration remains in effect" } else { "no configuration is in effect" };
        PackFailure { message: format!("{}; {now}", failure.message), ..failure }
    })?;
    files.write(&version, ConfigLocation::Version)?;
    files.write(&home, ConfigLocation::Pack)
}

/// Checks the site's file of `pack` as the next poll will: against the schema of the active version, or only as YAML where none
/// is active. Nothing is written; the error names keys and types, never values.
pub(crate) fn inspect(config: &Config, pack: &PackName) -> Result<(), String> {
    let (path, active) = (path(config, pack), config.paths.packs.join(pack.as_str()).join(store::CURRENT));
    let prefix = format!("{}: ", path.display());
    if active.exists() {
        let checked = Files::prepare(config, pack, &active);
        return checked.map(drop).map_err(|failure| failure.message.replacen(&prefix, "", 1));
    }
    let Some(given) = given(&path).map_err(|error| error.to_string())? else { return Ok(()) };
    let text = std::str::from_utf8(&given.bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    yaml::parse::<Value>(text).map(drop).map_err(|error| error.without_values())
}

/// Returns the time of the last possible change of the site's configuration of `pack`, in milliseconds since 1970.
pub(super) fn changed_at_ms(config: &Config, pack: &PackName) -> Option<u64> {
    let ms = |seconds: i64, nanoseconds: i64| {
        u64::try_from(seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)).ok()
    };
    let file = path(config, pack).metadata().ok().and_then(|meta| ms(meta.ctime(), meta.ctime_nsec()));
    // The removal of a file changes the directory's time.
    let directory = config.paths.pack_config.metadata().ok().and_then(|meta| ms(meta.ctime(), meta.ctime_nsec()));
    file.max(directory)
}

fn path(config: &Config, pack: &PackName) -> PathBuf {
    config.paths.pack_config.join(format!("{pack}.yaml"))
}

/// Location of configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfigLocation {
    /// Below `.bolt` of a version.
    Version,
    /// In the pack's directory, for launchers of earlier versions.
    Pack,
}

/// Content of both files; `None` if there is nothing to write.
struct Files {
    open: Option<Vec<u8>>,
    secret: Option<Vec<u8>>,
}

impl Files {
    /// Checks the site's file against the schema of the version in `directory`.
    fn prepare(config: &Config, pack: &PackName, directory: &Path) -> Result<Files, PackFailure> {
        let fail = |message: String| PackFailure::new(Step::Configure, message);
        let schema = check::config_schema(directory).map_err(|e| fail(format!("{CONFIG_SCHEMA_FILE}: {e}")))?;
        let path = path(config, pack);
        let given = given(&path).map_err(PackFailure::file(Step::Configure, "use", &path))?;
        let site = match &given {
            None if schema.is_empty() => None,
            _ => {
                let text = given.as_ref().map_or(&[][..], |given| &given.bytes);
                Some(SiteConfig::read(&schema, text).map_err(|e| fail(format!("{}: {e}", path.display())))?)
            }
        };
        let public = site.as_ref().map(SiteConfig::public);
        let secret = site.as_ref().map(SiteConfig::secrets).filter(|secrets| !secrets.is_empty());
        if given.is_some_and(|given| given.is_world_readable)
            && secret.is_some_and(|secret| !secret.values().all(Value::is_null))
        {
            let message = format!(
                "{} contains secrets by config.schema.yaml, and all users can read it: give it the sync's group and mode 0640",
                path.display()
            );
            return Err(fail(message));
        }
        let bytes = |part: Option<&Map<String, Value>>| match part.map(serde_json::to_vec).transpose() {
            Ok(Some(bytes)) if bytes.len() > MAX_CONFIG => {
                let length = bytes.len();
                Err(fail(format!("{} has {length} bytes as JSON; at most {MAX_CONFIG} are allowed", path.display())))
            }
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(fail(error.to_string())),
        };
        Ok(Files { open: bytes(public)?, secret: bytes(secret)? })
    }

    /// Writes files that differ. The file without secrets is first, so that a value that has become secret is removed from it
    /// before anything else happens.
    fn write(&self, directory: &Path, location: ConfigLocation) -> Result<(), PackFailure> {
        let open = match (&self.open, location) {
            // The presence of the file marks a version with its own configuration, here an empty one.
            (None, ConfigLocation::Version) => Some(&b"{}"[..]),
            (open, _) => open.as_deref(),
        };
        for (name, bytes, mode) in
            [(store::CONFIG, open, 0o644), (store::CONFIG_SECRETS, self.secret.as_deref(), 0o600)]
        {
            let target = directory.join(name);
            match bytes {
                None => {
                    disk::remove_if_there(&target).map_err(PackFailure::file(Step::Configure, "remove", &target))?
                }
                Some(bytes) => write_if_changed(&target, bytes, mode).map_err(PackFailure::file(
                    Step::Configure,
                    "write",
                    &target,
                ))?,
            }
        }
        Ok(())
    }
}

/// Content of the site's file.
struct SiteFile {
    bytes: Vec<u8>,
    is_world_readable: bool,
}

/// Reads the site's file. It decides what actions do, perhaps as root, so only root and this account may be able to change it.
fn given(path: &Path) -> io::Result<Option<SiteFile>> {
    // Opening a FIFO must not block.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if (owner != 0 && owner != geteuid().as_raw()) || mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "it must belong to root and not be writable by group or others; it has owner {owner}, mode {mode:o}"
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_YAML + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_YAML {
        return Err(io::Error::other(format!("it is larger than {MAX_YAML} bytes")));
    }
    Ok(Some(SiteFile { bytes, is_world_readable: mode & 0o004 != 0 }))
}

fn write_if_changed(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let same_mode = path.metadata().is_ok_and(|meta| meta.mode() & 0o777 == mode);
    if same_mode && std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    disk::replace(path, bytes, mode)
}

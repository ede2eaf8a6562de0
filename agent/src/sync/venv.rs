//! Virtual environment of a pack with a `requirements.txt`: `<packs>/.venvs/<digest>/`, built before the version is activated,
//! in which the pack's `python-script` actions run. The digest is that of interpreter, ABI, platform and the bytes of the
//! requirements, so that versions and packs with the same needs share one. The version's `.bolt/venv.json` refers to it; the
//! environment has its own manifest (`.bolt/manifest.json`, in the form of a pack's) and a record that is written last.
//!
//! ```text
//!  requirements.txt ─┐
//!  interpreter ──────┴─▶ digest ─▶ there? ── yes ──────────────────────────────▶ venv.json of the version
//!                                    └────── no ──▶ venv, pip, manifest, record ──┘
//! ```
//!
//! - **Process.** A poll does not wait for an environment: it requests one (`.venvs/.requests`) from the [`builder`], another
//!   process of `bolt-sync` with the same account and limits, which builds three at a time, polls after each, and ends with the
//!   launcher. Polls neither repeat nor cancel a build. Only a push waits.
//! - **Location.** An environment is built in its final directory, because scripts that pip writes name their interpreter by its
//!   full path. No version refers to it before it is complete; without its record it is pruned by a poll while no build runs.
//!   `bin/python` is a single link to the interpreter, which the launcher checks at each start: the interpreter and every
//!   directory above it must belong to root.
//! - **pip** runs from the wheel that ensurepip contains and is not installed; as the sync's account, in a process group of its
//!   own, with an environment of its own (no user or global configuration but `python.pip_config`), and with limits that it sets
//!   on itself (time, 1 GiB of memory, 1 GiB per file), so that they hold after the sync has ended. Wheels only, unless the site
//!   allows source.
//! - **Sources.** The pack determines what is installed, the site from where: `requirements.txt` may contain names, versions,
//!   markers and hashes; options, addresses, paths and other files are errors of the pack.
//! - **Repair.** If an interpreter is removed (by an upgrade of the system), the next poll rebuilds the environments of active
//!   versions with the new one.
//! - **Pruning.** An unused environment is kept for 49 hours or until a reboot, as versions are; an unfinished one is removed at
//!   once.

mod build;
pub(super) mod builder;
mod process;
mod requests;
mod site;
mod unused;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::python::Interpreter;
use packs_schema::agent::store::{self, META, StoredVenv, VENV, VenvLink};
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::{MAX_YAML, REQUIREMENTS_FILE, Requirement, requirements};
use sha2::{Digest as _, Sha256};

use super::choose::Chosen;
use super::disk;
use super::error::{PackFailure, Step};
use super::site_config::Configured;
use super::store::Store;

pub(super) use site::problems;
pub(super) use unused::prune;

/// Maximum size of an environment's record, which contains the requirements, in bytes.
const MAX_RECORD: u64 = 2 * MAX_YAML;
/// Minimum remaining time for beginning a build.
const LEAST: Duration = Duration::from_secs(10);

/// Staged pack whose virtual environment exists, if it needs one.
#[derive(Debug)]
pub(super) struct Equipped {
    pub(super) chosen: Chosen,
    pub(super) directory: PathBuf,
}

/// Process that builds environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builds {
    /// This process, which waits for them; none is begun shortly before the deadline.
    Here(Instant),
    /// The builder: this process requests them, and a later poll continues.
    Apart,
}

/// Reason why an environment does not exist yet.
#[derive(Debug)]
struct Missing(Step, String);

impl From<String> for Missing {
    fn from(message: String) -> Missing {
        Missing(Step::Environment, message)
    }
}

impl From<Missing> for PackFailure {
    fn from(Missing(step, message): Missing) -> PackFailure {
        PackFailure::new(step, message)
    }
}

/// Finds the pack's environment, or builds or requests it.
pub(super) fn equip(
    store: &Store,
    config: &PythonConfig,
    builds: Builds,
    configured: Configured,
) -> Result<Equipped, PackFailure> {
    let Configured { chosen, directory, requirements } = configured;
    if !requirements.is_empty() {
        let venv = provide(store, config, builds, &directory, &requirements)?;
        link(&directory, venv).map_err(PackFailure::file(
            Step::Environment,
            "write",
            directory.join(META).join(VENV),
        ))?;
    }
    Ok(Equipped { chosen, directory })
}

/// Rebuilds the environment of an active version that can no longer be used: its interpreter was removed, as by an upgrade of
/// the system, or the environment was.
pub(super) fn repair(store: &Store, config: &PythonConfig, builds: Builds, version: &Path) -> Result<(), PackFailure> {
    let fail = |message: String| PackFailure::new(Step::Environment, message);
    let Some(linked) = linked(version).map_err(|e| fail(e.to_string()))? else { return Ok(()) };
    if let Ok(Some(there)) = record(&store.venv(&linked))
        && there.interpreter.executable.exists()
    {
        return Ok(());
    }
    let text = disk::read_text(&version.join(REQUIREMENTS_FILE), MAX_YAML);
    let text = text.map_err(PackFailure::file(Step::Environment, "read", version.join(REQUIREMENTS_FILE)))?;
    let needed = requirements(&text).map_err(|_| fail(format!("{REQUIREMENTS_FILE} was changed after its check")))?;
    let venv = provide(store, config, builds, version, &needed)?;
    tracing::info!(version = %version.display(), %venv, "virtual environment replaced");
    link(version, venv).map_err(PackFailure::file(Step::Environment, "write", version.join(META).join(VENV)))
}

/// Returns the environment for the requirements in `directory`.
fn provide(
    store: &Store,
    config: &PythonConfig,
    builds: Builds,
    directory: &Path,
    needed: &[Requirement],
) -> Result<Digest, Missing> {
    let bare = needed.iter().filter(|requirement| !requirement.hashed);
    if let (true, Some(first)) = (config.require_hashes, bare.clone().next()) {
        return Err(format!(
            "{REQUIREMENTS_FILE}: {} of its requirements carry no hash ({} on line {}), and python.require_hashes is on: \
             make them with pip-compile --generate-hashes",
            bare.count(),
            first.name,
            first.line
        )
        .into());
    }
    let text = disk::read_text(&directory.join(REQUIREMENTS_FILE), MAX_YAML)
        .map_err(|e| format!("cannot read {REQUIREMENTS_FILE}: {e}"))?;
    let interpreter = site::interpreter(config)?;
    let venv = digest(&interpreter, &text)?;
    let home = store.venv(&venv);
    match record(&home) {
        Ok(Some(_)) => return Ok(venv),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(path = %home.display(), %error, "virtual environment is damaged; building it again")
        }
    }
    site::sources(config)?;
    let until = match builds {
        Builds::Here(until) => until,
        Builds::Apart => return Err(ask(store, &venv, &text)),
    };
    if requests::Requests::open(store).and_then(|requests| requests.is_being_built(&venv)).unwrap_or(false) {
        return Err("its virtual environment is being built for another version: try again when that is done"
            .to_owned()
            .into());
    }
    let left = until.saturating_duration_since(Instant::now());
    if left < LEAST {
        let message = "this poll has no time left for another virtual environment; the next one goes on";
        return Err(message.to_owned().into());
    }
    let order = build::Order {
        config,
        interpreter: &interpreter,
        venv: &venv,
        requirements: &text,
        hashed: needed.iter().any(|requirement| requirement.hashed),
        within: config.timeout.0.min(left),
    };
    let began = Instant::now();
    build::build(&store.venvs(), &order).inspect_err(|_| build::discard(&store.venvs(), &venv))?;
    tracing::info!(%venv, requirements = needed.len(), seconds = began.elapsed().as_secs(), "virtual environment built");
    Ok(venv)
}

/// Requests an environment from the builder; returns its progress.
fn ask(store: &Store, venv: &Digest, requirements: &str) -> Missing {
    let asked = requests::Requests::open(store).and_then(|requests| requests.ask(venv, requirements));
    match asked {
        Ok(requests::Progress::Pending) => Missing(
            Step::Building,
            "its virtual environment is being built; the version becomes active when it is done".to_owned(),
        ),
        Ok(requests::Progress::Failed(reason)) => reason.into(),
        Err(error) => format!("cannot request a virtual environment in {}: {error}", store.venvs().display()).into(),
    }
}

/// True while a builder runs.
pub(super) fn is_building(store: &Store) -> bool {
    requests::Requests::open(store).and_then(|requests| requests.lock()).is_ok_and(|lock| lock.is_none())
}

fn digest(interpreter: &Interpreter, requirements: &str) -> Result<Digest, String> {
    let hash = Sha256::digest(interpreter.venv_key(requirements.as_bytes()));
    Digest::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).map_err(|e| e.to_string())
}

/// Reads the record of a complete environment; `None` if there is none.
fn record(home: &Path) -> io::Result<Option<StoredVenv>> {
    let Some(bytes) = disk::read_if_there(&home.join(META).join(VENV), MAX_RECORD)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Returns the environment that a version refers to.
fn linked(version: &Path) -> io::Result<Option<Digest>> {
    let Some(bytes) = disk::read_if_there(&version.join(META).join(VENV), MAX_RECORD)? else { return Ok(None) };
    let link: VenvLink = serde_json::from_slice(&bytes)?;
    Ok(Some(link.venv))
}

fn link(version: &Path, venv: Digest) -> io::Result<()> {
    let link = VenvLink { format: store::FORMAT, venv };
    disk::replace(&version.join(META).join(VENV), &serde_json::to_vec(&link)?, 0o644)
}

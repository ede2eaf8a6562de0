//! The virtual environment of a pack that has a `requirements.txt`: `<packs>/.venvs/<digest>/`, made before the version is
//! activated, shared by every version of every pack that needs the same, and named in the version's `.bolt/venv.json`.
//!
//! ```text
//!  requirements.txt ─┐
//!  interpreter ──────┴─▶ digest ─▶ there? ── yes ──────────────────────────────▶ venv.json of the version
//!                                    └────── no ──▶ venv, pip, manifest, record ──┘
//! ```
//!
//! A poll does not wait for it: it asks the [`builder`], a process of its own, and a poll after the build goes on. Only what is
//! pushed waits.
//!
//! It is made where it stays: scripts that pip writes name their interpreter by its full path. Nobody looks at it before
//! a version refers to it, and its record, written last, says that it is whole; without one it is swept by a poll while nothing is
//! being built.
//! Everything runs as the sync's account and never as root, within bounds and without anything of the sync's environment.

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

pub(super) use unused::prune;

/// The largest record of an environment, in bytes: with the requirements in it.
const MAX_RECORD: u64 = 2 * MAX_YAML;
/// Less time than this is not worth beginning with.
const LEAST: Duration = Duration::from_secs(10);

/// A pack in staging that has all it needs.
#[derive(Debug)]
pub(super) struct Equipped {
    pub(super) chosen: Chosen,
    pub(super) directory: PathBuf,
}

/// Where environments are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builds {
    /// In this process, which waits for them; none is begun shortly before the time is up.
    Here(Instant),
    /// By the builder: this process asks, and a later poll goes on.
    Apart,
}

/// Why there is no environment yet.
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

/// Makes the pack's environment, or finds it.
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

/// Makes the environment of an active version anew when it can no longer be used: its interpreter has left the host, as
/// after an upgrade of the system, or somebody has removed it.
pub(super) fn keep_up(store: &Store, config: &PythonConfig, builds: Builds, version: &Path) -> Result<(), PackFailure> {
    let fail = |message: String| PackFailure::new(Step::Environment, message);
    let Some(linked) = linked(version).map_err(|e| fail(e.to_string()))? else { return Ok(()) };
    if let Ok(Some(there)) = record(&store.venv(&linked))
        && there.interpreter.executable.exists()
    {
        return Ok(());
    }
    let text = disk::read_text(&version.join(REQUIREMENTS_FILE), MAX_YAML);
    let text = text.map_err(PackFailure::file(Step::Environment, "read", version.join(REQUIREMENTS_FILE)))?;
    let needed = requirements(&text).map_err(|_| fail(format!("{REQUIREMENTS_FILE} is not what it was")))?;
    let venv = provide(store, config, builds, version, &needed)?;
    tracing::info!(version = %version.display(), %venv, "virtual environment replaced");
    link(version, venv).map_err(PackFailure::file(Step::Environment, "write", version.join(META).join(VENV)))
}

/// The environment for the requirements in `directory`.
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
        Err(error) => tracing::warn!(path = %home.display(), %error, "virtual environment is damaged and built again"),
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
    tracing::info!(%venv, requirements = needed.len(), seconds = began.elapsed().as_secs(), "virtual environment made");
    Ok(venv)
}

/// Asks the builder for an environment, and says how far it is.
fn ask(store: &Store, venv: &Digest, requirements: &str) -> Missing {
    let asked = requests::Requests::open(store).and_then(|requests| requests.ask(venv, requirements));
    match asked {
        Ok(requests::Progress::Pending) => Missing(
            Step::Building,
            "its virtual environment is being built; the version becomes active when it is done".to_owned(),
        ),
        Ok(requests::Progress::Failed(reason)) => reason.into(),
        Err(error) => format!("cannot ask for a virtual environment in {}: {error}", store.venvs().display()).into(),
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

/// What a finished environment says of itself; `None` when there is none, or not a finished one.
fn record(home: &Path) -> io::Result<Option<StoredVenv>> {
    let Some(bytes) = disk::read_if_there(&home.join(META).join(VENV), MAX_RECORD)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// The environment that a version refers to.
fn linked(version: &Path) -> io::Result<Option<Digest>> {
    let Some(bytes) = disk::read_if_there(&version.join(META).join(VENV), MAX_RECORD)? else { return Ok(None) };
    let link: VenvLink = serde_json::from_slice(&bytes)?;
    Ok(Some(link.venv))
}

fn link(version: &Path, venv: Digest) -> io::Result<()> {
    let link = VenvLink { format: store::FORMAT, venv };
    disk::replace(&version.join(META).join(VENV), &serde_json::to_vec(&link)?, 0o644)
}

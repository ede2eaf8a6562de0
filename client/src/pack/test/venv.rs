//! The virtual environment of the pack under test: the one that an agent would make, in the temporary store.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::python::{self, Interpreter};
use packs_schema::agent::store::{self, META, StoredVenv, VENV, VENVS, VenvLink};
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::{REQUIREMENTS_FILE, Requirement, without_comments};
use sha2::{Digest as _, Sha256};

/// Makes the environment in the store `packs`, and names it in the version's directory. The error is for the author.
pub(super) fn provide(
    packs: &Path,
    version: &Path,
    config: &PythonConfig,
    needed: &[Requirement],
) -> Result<(), String> {
    let file = |e: io::Error| format!("cannot lay out a virtual environment: {e}");
    let requirements = fs::read_to_string(version.join(REQUIREMENTS_FILE));
    let requirements = requirements.map_err(|e| format!("cannot read {REQUIREMENTS_FILE}: {e}"))?;
    let interpreter = probe(config)?;
    let hash = Sha256::digest(interpreter.venv_key(requirements.as_bytes()));
    let venv =
        Digest::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).map_err(|e| e.to_string())?;
    let home = packs.join(VENVS).join(venv.as_str());
    let scratch = tempfile::tempdir().map_err(file)?;
    let list = scratch.path().join(REQUIREMENTS_FILE);
    fs::write(&list, without_comments(&requirements)).map_err(file)?;
    fs::create_dir(packs.join(VENVS)).map_err(file)?;
    open(&packs.join(VENVS)).map_err(file)?;

    let mut make = command(config, &interpreter.executable, scratch.path());
    make.args(["-c", python::CREATE_VENV]).args(python::venv_arguments(&home));
    succeeded(make, "no virtual environment can be made")?;
    let link = home.join(python::VENV_PYTHON);
    fs::remove_file(&link).and_then(|()| symlink(&interpreter.executable, &link)).map_err(file)?;
    let pip = interpreter.pip.as_deref().unwrap_or(Path::new(""));
    let hashed = needed.iter().any(|requirement| requirement.hashed);
    let mut install = command(config, &link, scratch.path());
    install.args(["-c", python::RUN_PIP]);
    install.args(python::install_arguments(config, pip, &list, config.timeout.0.as_secs(), hashed));
    succeeded(install, "pip cannot install what requirements.txt asks for")?;

    let size_bytes = 0;
    let record = StoredVenv { format: store::FORMAT, venv: venv.clone(), interpreter, requirements, size_bytes };
    fs::create_dir(home.join(META)).map_err(file)?;
    open(&home.join(META)).map_err(file)?;
    write(&home.join(META).join(VENV), &record).map_err(file)?;
    write(&version.join(META).join(VENV), &VenvLink { format: store::FORMAT, venv }).map_err(file)
}

fn probe(config: &PythonConfig) -> Result<Interpreter, String> {
    let scratch = std::env::temp_dir();
    let mut probe = command(config, &config.interpreter, &scratch);
    probe.args(["-c", python::PROBE]);
    let output = succeeded(probe, &format!("the interpreter {} cannot be used", config.interpreter.display()))?;
    let found: Interpreter = serde_json::from_slice(&output.stdout).map_err(|e| format!("the interpreter: {e}"))?;
    found.why_unusable().map_or(Ok(found), Err)
}

fn command(config: &PythonConfig, program: &Path, scratch: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-I").env_clear().envs(python::install_environment(config, scratch)).current_dir(scratch);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

fn succeeded(mut command: Command, what: &str) -> Result<Output, String> {
    let output = command.output().map_err(|e| format!("{what}: {e}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = python::summarize_pip_output(&[&output.stdout[..], &output.stderr[..]].concat());
    Err(format!("{what}: {}", if said.is_empty() { output.status.to_string() } else { said }))
}

/// No umask of the author's may make it other than an agent's.
fn open(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

fn write(path: &Path, record: &impl serde::Serialize) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(record)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

//! Inputs of builds that the site provides: the interpreter, a directory of wheels, pip's configuration. An account that could change
//! one of them could run code in actions, so each must belong to root or to this account.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;
use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::python::{self, Interpreter};

use super::process::run;
use crate::sync::disk;

/// Time limit for probing the interpreter.
const PROBE: Duration = Duration::from_secs(30);
/// Maximum number of wheels in the site's directory.
const MAX_WHEELS: usize = 10_000;
/// Maximum size of pip's configuration, in bytes.
const MAX_PIP_CONFIG: u64 = 64 << 10;

/// Returns what keeps this account from building environments, as far as files tell it; nothing is run. A missing interpreter
/// counts only if it is not the default: hosts without packs in Python need none.
pub(in crate::sync) fn problems(config: &PythonConfig) -> Vec<String> {
    let is_needed = config.interpreter != PythonConfig::default().interpreter || config.interpreter.exists();
    let interpreter = is_needed.then(|| program(config).err()).flatten();
    interpreter.into_iter().chain(sources(config).err()).collect()
}

/// Checks the file of the interpreter.
fn program(config: &PythonConfig) -> Result<(), String> {
    let named = format!("python.interpreter {}", config.interpreter.display());
    let real = fs::canonicalize(&config.interpreter)
        .map_err(|e| format!("{named} cannot be used: {e}; install it, or name another interpreter"))?;
    ours(&real, &fs::metadata(&real).map_err(|e| format!("{named}: {e}"))?)
}

/// Probes the interpreter: its version, ABI and platform.
pub(super) fn interpreter(config: &PythonConfig) -> Result<Interpreter, String> {
    program(config)?;
    let path = &config.interpreter;
    let named = format!("python.interpreter {}", path.display());
    let mut command = Command::new(path);
    command.args(["-I", "-c", python::PROBE]).env_clear().env("LANG", "C.UTF-8").current_dir("/");
    let ended = run(command, PROBE).map_err(|e| format!("cannot run {named}: {e}"))?;
    if !ended.succeeded() {
        return Err(format!("{named}: {}: {}", ended.reason(PROBE), python::summarize_pip_output(&ended.output)));
    }
    // Warnings may precede the answer.
    let start = ended.output.iter().position(|byte| *byte == b'{').unwrap_or_default();
    let found: Interpreter = serde_json::from_slice(&ended.output[start..])
        .map_err(|e| format!("{named} does not report its version: {e}"))?;
    match found.why_unusable() {
        Some(why) => Err(why),
        None => Ok(found),
    }
}

/// Checks the sources of packages.
pub(super) fn sources(config: &PythonConfig) -> Result<(), String> {
    if let Some(wheels) = &config.wheels {
        let at = |e: std::io::Error| format!("python.wheels {}: {e}", wheels.display());
        let meta = fs::metadata(wheels).map_err(at)?;
        if !meta.is_dir() {
            return Err(format!("python.wheels {} is not a directory", wheels.display()));
        }
        ours(wheels, &meta)?;
        for (count, entry) in fs::read_dir(wheels).map_err(at)?.enumerate() {
            let path = entry.map_err(at)?.path();
            if count >= MAX_WHEELS {
                return Err(format!("python.wheels {} has more than {MAX_WHEELS} files", wheels.display()));
            }
            ours(&path, &fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?)?;
        }
    }
    if let Some(path) = &config.pip_config {
        let meta = fs::metadata(path).map_err(|e| format!("python.pip_config {}: {e}", path.display()))?;
        ours(path, &meta)?;
        let text =
            disk::read_text(path, MAX_PIP_CONFIG).map_err(|e| format!("python.pip_config {}: {e}", path.display()))?;
        let secret = text.lines().any(|line| line.split_once("://").is_some_and(|(_, rest)| rest.contains('@')));
        if secret && meta.mode() & 0o007 != 0 {
            return Err(format!(
                "python.pip_config {} contains a password and can be read by all users: give it the sync's group and mode 0640",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Refuses a file that accounts other than root and this one may change.
fn ours(path: &Path, meta: &Metadata) -> Result<(), String> {
    let owned = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    if owned && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(format!(
        "{} must belong to root and not be writable by group or others; it has owner {}, mode {:o}",
        path.display(),
        meta.uid(),
        meta.mode() & 0o7777
    ))
}

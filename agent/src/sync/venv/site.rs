//! What the site gives to make environments of: the interpreter, a directory of wheels, pip's configuration. What others
//! could change would be code of theirs in actions, so each must belong to root or to this account.

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

/// How long the interpreter may take to say what it is.
const PROBE: Duration = Duration::from_secs(30);
/// The most wheels of the site's directory.
const MAX_WHEELS: usize = 10_000;
/// The largest configuration of pip's, in bytes.
const MAX_PIP_CONFIG: u64 = 64 << 10;

/// Asks the interpreter what it is.
pub(super) fn interpreter(config: &PythonConfig) -> Result<Interpreter, String> {
    let path = &config.interpreter;
    let named = format!("python.interpreter {}", path.display());
    let real =
        fs::canonicalize(path).map_err(|e| format!("{named} cannot be used: {e}; install it or name another"))?;
    ours(&real, &fs::metadata(&real).map_err(|e| format!("{named}: {e}"))?)?;
    let mut command = Command::new(path);
    command.args(["-I", "-c", python::PROBE]).env_clear().env("LANG", "C.UTF-8").current_dir("/");
    let ended = run(command, PROBE).map_err(|e| format!("{named} cannot be run: {e}"))?;
    if !ended.succeeded() {
        return Err(format!("{named}: {}: {}", ended.reason(PROBE), python::summarize_pip_output(&ended.output)));
    }
    // It may have warned of something before.
    let start = ended.output.iter().position(|byte| *byte == b'{').unwrap_or_default();
    let found: Interpreter =
        serde_json::from_slice(&ended.output[start..]).map_err(|e| format!("{named} does not say what it is: {e}"))?;
    match found.why_unusable() {
        Some(why) => Err(why),
        None => Ok(found),
    }
}

/// Judges what packages come from.
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
                "python.pip_config {} holds a password and can be read by everybody: give it to the sync's group, mode 640",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Refuses what others than root and this account may change.
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

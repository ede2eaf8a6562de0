//! Build of one environment, from an empty directory to its record.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::python::{self, Interpreter};
use packs_schema::agent::store::{self, MANIFEST, META, Manifest, ManifestFile, StoredVenv, VENV};
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::without_comments;
use sha2::{Digest as _, Sha256};

use super::process::{Ended, run, run_unless};
use crate::sync::disk;

/// Maximum size of an environment, in bytes.
const MAX_BYTES: u64 = 2 << 30;
/// Maximum number of files and directories of an environment.
const MAX_ENTRIES: usize = 100_000;
/// Number of bytes read from the end of pip's log file.
const MAX_LOG: u64 = 1 << 20;
/// Prefix of the name of a build's working directory, before the digest.
const SCRATCH: &str = ".scratch-";
/// Maximum depth of directories.
const MAX_DEPTH: usize = 64;

/// Environment to build.
pub(super) struct Order<'a> {
    pub(super) config: &'a PythonConfig,
    pub(super) interpreter: &'a Interpreter,
    pub(super) venv: &'a Digest,
    pub(super) requirements: &'a str,
    pub(super) hashed: bool,
    pub(super) within: Duration,
}

/// Builds an environment. [`discard`] removes the leftovers of a failure.
pub(super) fn build(venvs: &Path, order: &Order<'_>) -> Result<(), String> {
    let until = Instant::now() + order.within;
    let home = venvs.join(order.venv.as_str());
    let scratch = scratch(venvs, order.venv);
    let prepared = || -> io::Result<()> {
        disk::remove_directory_if_there(&home)?;
        disk::remove_directory_if_there(&scratch)?;
        disk::make_directory(venvs, 0o755)?;
        disk::make_directory(&scratch, 0o700)?;
        disk::write_new(&scratch.join("requirements.txt"), without_comments(order.requirements).as_bytes(), 0o600)
    };
    prepared().map_err(|e| format!("cannot prepare a virtual environment: {e}"))?;
    let python = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("-I").env_clear().envs(python::install_environment(order.config, &scratch)).current_dir(&scratch);
        command.envs(proxies());
        command
    };
    let failed = |what: &str, ended: &Ended| {
        // Paths in the working directory are shortened to the names that the author knows.
        let said = python::summarize_pip_output(&ended.output).replace(&format!("{}/", scratch.display()), "");
        let reason = ended.reason(order.within);
        // pip's messages have more information than its exit status.
        let reason = if said.is_empty() || ended.status.and_then(|s| s.code()).is_none() {
            format!("{reason}; ")
        } else {
            String::new()
        };
        format!("{what}: {reason}{said}").trim_end_matches([';', ' ']).to_owned()
    };
    let mut make = python(&order.interpreter.executable);
    make.args(["-c", python::CREATE_VENV]).args(python::venv_arguments(&home));
    let made = run(make, order.within).map_err(|e| format!("cannot run the interpreter: {e}"))?;
    if !made.succeeded() {
        return Err(failed("no virtual environment can be made", &made));
    }
    own_python(&home, &order.interpreter.executable).map_err(|e| format!("cannot write {}: {e}", home.display()))?;

    let left = until.saturating_duration_since(Instant::now());
    let pip = order.interpreter.pip.as_deref().unwrap_or(Path::new(""));
    let list = scratch.join("requirements.txt");
    let mut install = python(&home.join(python::VENV_PYTHON));
    install.args(["-c", python::RUN_PIP]);
    // Standard error does not distinguish a misspelt name, a refused login and a version without a wheel; the log file does.
    let log = scratch.join("pip.log");
    // Slightly longer than our own time limit, so that ours reports the reason.
    let alarm = left.as_secs().saturating_add(5);
    install.args(python::install_arguments(order.config, pip, &list, alarm, order.hashed));
    install.arg("--log").arg(&log);
    let installed = run_unless(install, left, || excess(&home).or_else(|| excess(&scratch)))
        .map_err(|e| format!("cannot run pip: {e}"))?;
    if !installed.succeeded() {
        let said = failed("pip cannot install what requirements.txt asks for", &installed);
        let cause = said.contains("No matching distribution").then(|| refusal(&log, order.config)).flatten();
        return Err(cause.map_or(said.clone(), |cause| format!("{said}: {cause}")));
    }
    disk::remove_directory_if_there(&scratch).map_err(|e| format!("cannot remove {}: {e}", scratch.display()))?;
    finish(&home, order).map_err(|e| format!("cannot finish the virtual environment: {e}"))
}

/// Returns why pip must not go on: what it has unpacked, or downloaded, exceeds the limits of an environment already. Wheels may
/// unpack to more than the disk holds before anything else looks at them.
fn excess(directory: &Path) -> Option<String> {
    let (mut bytes, mut entries, mut left) = (0_u64, 0_usize, vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        // Files come and go meanwhile.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            entries += 1;
            bytes = bytes.saturating_add(if meta.is_file() { meta.len() } else { 0 });
            if entries > MAX_ENTRIES {
                return Some(format!("it has more than {MAX_ENTRIES} files"));
            }
            if bytes > MAX_BYTES {
                return Some(format!("it has more than {MAX_BYTES} bytes"));
            }
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    None
}

/// Explains, from the end of pip's log file, why it found no matching distribution.
fn refusal(log: &Path, config: &PythonConfig) -> Option<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG)))?;
        let mut end = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut end)?;
        Ok(end)
    };
    python::explain_refusal(&read().ok()?, !config.allow_source)
}

/// Removes the leftovers of a failed build.
pub(super) fn discard(venvs: &Path, venv: &Digest) {
    for path in [scratch(venvs, venv), venvs.join(venv.as_str())] {
        if let Err(error) = disk::remove_directory_if_there(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished virtual environment");
        }
    }
}

/// Removes the working directories of builds that were killed.
pub(super) fn sweep(venvs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(venvs)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            disk::remove_directory_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Returns the working directory of a build, beside the environments, because every poll clears staging.
fn scratch(venvs: &Path, venv: &Digest) -> PathBuf {
    venvs.join(format!("{SCRATCH}{}", venv.short()))
}

/// Makes `bin/python` a single link to the interpreter, which the launcher checks before it runs it.
fn own_python(home: &Path, executable: &Path) -> io::Result<()> {
    let link = home.join(python::VENV_PYTHON);
    disk::remove_if_there(&link)?;
    symlink(executable, link)
}

/// Passes on proxies, which the site sets in the environment of the agent.
fn proxies() -> impl Iterator<Item = (String, String)> {
    const NAMES: [&str; 6] = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"];
    NAMES.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
}

/// Writes the manifest, makes everything durable, and writes the record last.
fn finish(home: &Path, order: &Order<'_>) -> io::Result<()> {
    let mut tree = Tree { top: home, files: Vec::new(), entries: 0, bytes: 0 };
    tree.walk(home, 0)?;
    let Tree { mut files, bytes, .. } = tree;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let meta = home.join(META);
    disk::make_directory(&meta, 0o755)?;
    let manifest = Manifest { format: store::FORMAT, files };
    disk::write_new(&meta.join(MANIFEST), &serde_json::to_vec(&manifest)?, 0o644)?;
    disk::sync_tree(home)?;
    let record = StoredVenv {
        format: store::FORMAT,
        venv: order.venv.clone(),
        interpreter: order.interpreter.clone(),
        requirements: order.requirements.to_owned(),
        size_bytes: bytes,
    };
    disk::replace(&meta.join(VENV), &serde_json::to_vec(&record)?, 0o644)?;
    disk::sync_directory(home.parent().unwrap_or(home))
}

struct Tree<'a> {
    top: &'a Path,
    files: Vec<ManifestFile>,
    entries: usize,
    bytes: u64,
}

impl Tree<'_> {
    /// Records every regular file. Links, of which `venv` creates a few, are not followed.
    fn walk(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            self.entries += 1;
            if self.entries > MAX_ENTRIES || depth > MAX_DEPTH {
                return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} files, or is too deep")));
            }
            if kind.is_dir() {
                self.walk(&path, depth + 1)?;
            } else if kind.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let (mut file, mut hash, mut size, mut buffer) = (File::open(path)?, Sha256::new(), 0_u64, vec![0; 64 << 10]);
        let mode = file.metadata()?.permissions().mode();
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    hash.update(&buffer[..count]);
                    size += count as u64;
                }
            }
        }
        self.bytes += size;
        if self.bytes > MAX_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.files.push(ManifestFile {
            path: path.strip_prefix(self.top).unwrap_or(path).display().to_string(),
            sha256: Digest::new(sha256).map_err(io::Error::other)?,
            size_bytes: size,
            executable: mode & 0o100 != 0,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_an_environment_may_be_is_noticed_while_it_grows() {
        let temp = tempfile::tempdir().unwrap();
        let inner = temp.path().join("lib/site-packages");
        fs::create_dir_all(&inner).unwrap();
        let grow = |name: &str, bytes| File::create(inner.join(name)).unwrap().set_len(bytes).unwrap();
        grow("half", MAX_BYTES / 2);
        // Links are not followed.
        symlink(temp.path(), inner.join("again")).unwrap();
        assert_eq!(excess(temp.path()), None);
        grow("other", MAX_BYTES / 2 + 1);
        assert_eq!(excess(temp.path()), Some(format!("it has more than {MAX_BYTES} bytes")));
        assert_eq!(excess(&temp.path().join("none")), None);
    }
}

//! Requests for environments: one file for each, in `.venvs/.requests`, named after the environment's digest.
//!
//! ```text
//!            ask                 begin                    finish
//!  (nothing) ───▶ <digest>.wanted ───▶ <digest>.building ───▶ (nothing): the environment exists
//!                                            │      │
//!                  the builder was killed ◀──┘      └──▶ <digest>.failed: the reason, for the next poll to take
//! ```
//!
//! Polls make requests and take failures; only the builder, which holds the lock, begins and finishes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use packs_schema::base::name::Digest;
use packs_schema::pack::contents::MAX_YAML;

use crate::sync::disk;
use crate::sync::store::Store;

const WANTED: &str = "wanted";
const BUILDING: &str = "building";
const FAILED: &str = "failed";
/// Maximum size of a reason, in bytes.
const MAX_REASON: u64 = 64 << 10;

/// Progress of an environment that does not exist yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Waits for the builder, or is being built.
    Pending,
    /// The build failed, for this reason. The next request builds it again.
    Failed(String),
}

/// Directory of requests.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    directory: PathBuf,
}

impl Requests {
    /// Opens the directory, and creates it if it does not exist.
    pub(super) fn open(store: &Store) -> io::Result<Requests> {
        disk::make_directory(&store.venvs(), 0o755)?;
        Requests::below(store.venvs())
    }

    /// Opens the directory if it exists.
    pub(super) fn there(store: &Store) -> Option<Requests> {
        let directory = directory(store.venvs());
        directory.is_dir().then_some(Requests { directory })
    }

    /// As [`open`](Self::open), in the directory of environments.
    pub(super) fn below(venvs: PathBuf) -> io::Result<Requests> {
        let directory = directory(venvs);
        disk::make_directory(&directory, 0o700)?;
        Ok(Requests { directory })
    }

    /// Requests an environment with these requirements, unless it is requested already, and returns its progress.
    pub(super) fn ask(&self, venv: &Digest, requirements: &str) -> io::Result<Progress> {
        let failed = self.path(venv, FAILED);
        if let Some(reason) = disk::read_if_there(&failed, MAX_REASON)? {
            disk::remove_if_there(&failed)?;
            return Ok(Progress::Failed(String::from_utf8_lossy(&reason).into_owned()));
        }
        if self.path(venv, BUILDING).exists() {
            // Held during the check: a builder that begins meanwhile would look like one that was killed.
            let Some(_lock) = self.lock()? else { return Ok(Progress::Pending) };
            disk::remove_if_there(&self.path(venv, BUILDING))?;
            let reason = "its build was ended before it was done: the agent was stopped, or memory or time ran out";
            return Ok(Progress::Failed(reason.to_owned()));
        }
        let wanted = self.path(venv, WANTED);
        if !wanted.exists() {
            disk::replace(&wanted, requirements.as_bytes(), 0o600)?;
        }
        Ok(Progress::Pending)
    }

    /// True if a builder is running.
    pub(super) fn is_being_built(&self, venv: &Digest) -> io::Result<bool> {
        Ok(self.path(venv, BUILDING).exists() && self.lock()?.is_none())
    }

    /// Returns the requested environments and their requirements.
    pub(super) fn wanted(&self) -> io::Result<Vec<(Digest, String)>> {
        let mut wanted = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let Some(venv) = name.strip_suffix(".wanted").and_then(|name| Digest::new(name).ok()) else { continue };
            wanted.push((venv.clone(), disk::read_text(&self.path(&venv, WANTED), MAX_YAML)?));
        }
        wanted.sort();
        Ok(wanted)
    }

    /// Records that the environment is being built.
    pub(super) fn begin(&self, venv: &Digest) -> io::Result<()> {
        fs::rename(self.path(venv, WANTED), self.path(venv, BUILDING))
    }

    /// Records the result of the build.
    pub(super) fn finish(&self, venv: &Digest, outcome: &Result<(), String>) -> io::Result<()> {
        if let Err(reason) = outcome {
            disk::replace(&self.path(venv, FAILED), reason.as_bytes(), 0o600)?;
        }
        disk::remove_if_there(&self.path(venv, BUILDING))
    }

    /// Takes the builder's lock; `None` while another process holds it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let path = self.directory.join(".lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self, venv: &Digest, state: &str) -> PathBuf {
        self.directory.join(format!("{venv}.{state}"))
    }
}

fn directory(venvs: PathBuf) -> PathBuf {
    venvs.join(".requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn venv(n: u8) -> Digest {
        Digest::new(format!("{n:02x}").repeat(32)).unwrap()
    }

    #[test]
    fn a_request_goes_from_wanted_to_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let requests = Requests::below(temp.path().to_owned()).unwrap();
        assert_eq!(requests.ask(&venv(1), "greet==1\n").unwrap(), Progress::Pending);
        assert_eq!(requests.ask(&venv(1), "greet==1\n").unwrap(), Progress::Pending);
        assert_eq!(requests.wanted().unwrap(), [(venv(1), "greet==1\n".to_owned())]);
        let builder = requests.lock().unwrap().unwrap();
        requests.begin(&venv(1)).unwrap();
        assert_eq!((requests.wanted().unwrap(), requests.lock().unwrap().is_none()), (Vec::new(), true));
        assert_eq!(requests.ask(&venv(1), "greet==1\n").unwrap(), Progress::Pending, "not asked for twice");
        assert_eq!(requests.wanted().unwrap(), []);
        assert!(requests.is_being_built(&venv(1)).unwrap());
        requests.finish(&venv(1), &Err("no route".to_owned())).unwrap();
        assert_eq!(requests.ask(&venv(1), "greet==1\n").unwrap(), Progress::Failed("no route".to_owned()));
        // A builder that is ended in the middle leaves a reason as well, once, and then it can be asked for again.
        requests.ask(&venv(1), "greet==1\n").unwrap();
        requests.begin(&venv(1)).unwrap();
        drop(builder);
        assert!(matches!(requests.ask(&venv(1), "").unwrap(), Progress::Failed(said) if said.contains("was ended")));
        assert_eq!(requests.ask(&venv(1), "greet==1\n").unwrap(), Progress::Pending);
    }
}

//! Runs in a directory of the user, one directory for each:
//!
//! ```text
//!  runs/<run id>/   head.json, plan.json   written once, before the first start
//!                   progress.ndjson        entries, appended and synced in groups
//!                   lock                   locked by the client that carries out the run
//! ```
//!
//! A run's directory is made under a temporary name and renamed, so that a half-written plan never looks like a run. The last
//! line of the progress may be cut short by a crash: it is ignored and overwritten.

mod part;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use packs_schema::base::name::RunId;

use self::part::{check_owner, error_chain, open_to_write, sync, unreadable, unwritable};
use super::read::check_run;
use super::record::{Entry, Head, Plan};
use super::{Lease, Listing, RunStore, Status, StoreError, StoredRun, Tally};
use crate::files;
use crate::show;

const HEAD: &str = "head.json";
const PLAN: &str = "plan.json";
const PROGRESS: &str = "progress.ndjson";
const LOCK: &str = "lock";

/// Maximum size of a head in bytes.
const MAX_HEAD: u64 = 64 << 10;
/// Maximum size of a plan or of the progress in bytes: 100,000 instances.
const MAX_PART: u64 = 1 << 30;

/// Age from which a run is removed, in milliseconds: 90 days.
const KEPT_MS: u64 = 90 * 24 * 3600 * 1000;
/// Number of newest runs that are kept whatever their age: a wrong clock must not remove all.
const ALWAYS_KEPT: usize = 200;
/// Number of runs from one search for old ones to the next, which reads the heads of all.
const SEARCH_EVERY: usize = 32;

/// Directory of runs. Reads and writes are short and block the calling task.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// Open lock file; the lock ends when it is closed.
struct Held {
    _file: File,
    progress: PathBuf,
    /// Open progress; `None` before the first entries, and after a failed write.
    open: Option<part::Appender>,
}

#[async_trait]
impl Lease for Held {
    async fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).expect("entries are JSON");
            lines.push(b'\n');
        }
        let mut appender = match self.open.take() {
            Some(appender) => appender,
            None => part::Appender::new(open_to_write(&self.progress)?),
        };
        appender.append(&lines).map_err(|error| unwritable(&self.progress, error))?;
        self.open = Some(appender);
        Ok(())
    }

    async fn lost(&self) -> StoreError {
        // The kernel holds the lock.
        std::future::pending().await
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Directory {
    /// Returns the store in `path`, which is made when it is needed.
    pub fn new(path: PathBuf) -> Directory {
        Directory { path }
    }

    /// Returns `$XDG_STATE_HOME/bolt/runs`, else `~/.local/state/bolt/runs`; `None` without a home directory.
    pub fn default_path() -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
        Some(state.join("bolt/runs"))
    }

    fn of(&self, run: &RunId) -> PathBuf {
        self.path.join(run.as_str())
    }

    fn lock(&self, run: &RunId, directory: &Path) -> Result<Box<dyn Lease>, StoreError> {
        let path = directory.join(LOCK);
        let mut file = open_to_write(&path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => {
                // For the message of the client that comes second; the lock itself needs no content.
                let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
                return Ok(Box::new(Held { _file: file, progress: self.of(run).join(PROGRESS), open: None }));
            }
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(errno) => return Err(unwritable(&path, errno.into())),
        }
        let by = holder(&mut file);
        let by = if by.is_empty() { by } else { format!(" ({by})") };
        Err(StoreError::Busy { run: run.clone(), by })
    }

    /// Removes old runs that no client carries out, at every [`SEARCH_EVERY`]th run. Best effort: a later one tries again.
    async fn remove_old(&self, now_ms: u64) {
        let Ok(runs) = fs::read_dir(&self.path).map(Iterator::count) else { return };
        if runs <= ALWAYS_KEPT || !runs.is_multiple_of(SEARCH_EVERY) {
            return;
        }
        let Ok(Listing { heads, .. }) = self.list(usize::MAX).await else { return };
        for head in heads.into_iter().skip(ALWAYS_KEPT) {
            if now_ms.saturating_sub(head.created_at_ms) < KEPT_MS {
                continue;
            }
            // Held until the files are gone, so that no client takes it over meanwhile.
            let Ok(_lease) = self.acquire(&head.run).await else { continue };
            let away = self.path.join(format!(".old-{}", head.run));
            if fs::rename(self.of(&head.run), &away).is_ok() {
                let _ = fs::remove_dir_all(&away);
            }
        }
    }

    fn head(&self, run: &RunId) -> Result<Head, StoreError> {
        let directory = self.existing(run)?;
        let path = directory.join(HEAD);
        let head: Head = part::read(&path, MAX_HEAD)?;
        check_run(&show::path(&path), run, &head.run)?;
        Ok(head)
    }

    fn existing(&self, run: &RunId) -> Result<PathBuf, StoreError> {
        let directory = self.of(run);
        match directory.join(HEAD).symlink_metadata() {
            Ok(_) => {
                let metadata = directory.symlink_metadata().map_err(|error| unreadable(&directory, error))?;
                check_owner(&directory, &metadata)?;
                Ok(directory)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Unknown { run: run.clone(), place: self.place() })
            }
            Err(error) => Err(unreadable(&directory, error)),
        }
    }
}

#[async_trait]
impl RunStore for Directory {
    fn place(&self) -> String {
        show::path(&self.path)
    }

    async fn create(&self, head: &Head, plan: &Plan) -> Result<Box<dyn Lease>, StoreError> {
        files::create_dir(&self.path).map_err(|error| StoreError::Io {
            verb: "write",
            what: self.place(),
            problem: show::visible(&error_chain(&error)),
        })?;
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.path);
        let made = made.map_err(|error| unwritable(&self.path, error))?;
        part::write(&made.path().join(HEAD), head)?;
        part::write(&made.path().join(PLAN), plan)?;
        sync(made.path())?;
        let lease = self.lock(&head.run, made.path())?;
        let directory = self.of(&head.run);
        // `rename` would replace an empty directory only; one that holds a run makes it fail.
        fs::rename(made.path(), &directory).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOTEMPTY | Errno::EEXIST) => StoreError::Exists(head.run.clone()),
            _ => unwritable(&directory, error),
        })?;
        // Renamed: nothing is left to remove.
        drop(made.keep());
        sync(&self.path)?;
        self.remove_old(head.created_at_ms).await;
        Ok(lease)
    }

    async fn acquire(&self, run: &RunId) -> Result<Box<dyn Lease>, StoreError> {
        let directory = self.existing(run)?;
        self.lock(run, &directory)
    }

    async fn load(&self, run: &RunId) -> Result<StoredRun, StoreError> {
        let directory = self.existing(run)?;
        let head = self.head(run)?;
        let plan = part::read(&directory.join(PLAN), MAX_PART)?;
        Ok(StoredRun { head, plan, entries: part::progress(&directory.join(PROGRESS), MAX_PART)? })
    }

    async fn list(&self, limit: usize) -> Result<Listing, StoreError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            Err(error) => return Err(unreadable(&self.path, error)),
        };
        let mut listing = Listing::default();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&self.path, error))?;
            let Some(run) = entry.file_name().to_str().and_then(|name| RunId::new(name).ok()) else { continue };
            match self.head(&run) {
                Ok(head) => listing.heads.push(head),
                Err(problem) => listing.problems.push(problem),
            }
        }
        listing.heads.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| b.run.cmp(&a.run)));
        listing.more = listing.heads.len().saturating_sub(limit);
        listing.heads.truncate(limit);
        Ok(listing)
    }

    async fn status(&self, run: &RunId) -> Result<Status, StoreError> {
        let directory = self.existing(run)?;
        let path = directory.join(LOCK);
        let mut file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        // Asked without taking it: a client that begins to carry out the run at this moment must not find it taken.
        let mut lock = whole(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(|errno| unreadable(&path, errno.into()))?;
        let is_busy = i32::from(lock.l_type) != libc::F_UNLCK;
        let mut tally = Tally::default();
        tally.extend(&part::progress(&directory.join(PROGRESS), MAX_PART)?);
        Ok(Status { holder: is_busy.then(|| holder(&mut file)), lease: None, summary: tally.summary() })
    }
}

/// Returns the description of the client that holds the lock of this file, which it has written there.
fn holder(file: &mut File) -> String {
    let mut by = String::new();
    let _ = file.take(100).read_to_string(&mut by);
    show::visible(&by)
}

/// Returns a lock of a whole file by an open file description (`fcntl(2)`): it ends with the process.
fn whole(kind: i32) -> libc::flock {
    let short = |value: i32| i16::try_from(value).expect("the constants are small");
    libc::flock { l_type: short(kind), l_whence: short(libc::SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}

/// Reads the progress of a run for the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz_progress(bytes: &[u8]) -> Result<Vec<Entry>, StoreError> {
    part::entries(Path::new("progress"), bytes)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;

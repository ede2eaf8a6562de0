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

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use packs_schema::base::name::RunId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::record::{Entry, FORMAT, Head, Plan};
use super::{Lease, RunStore, StoreError, StoredRun};
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

/// Directory of runs. Reads and writes are short and block the calling task.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// Open lock file; the lock ends when it is closed.
struct Held {
    _file: File,
}

impl Lease for Held {}

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
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = open.map_err(|error| unwritable(&path, error))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => {
                // For the message of the client that comes second; the lock itself needs no content.
                let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
                return Ok(Box::new(Held { _file: file }));
            }
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(errno) => return Err(unwritable(&path, errno.into())),
        }
        let mut by = String::new();
        let _ = (&mut file).take(100).read_to_string(&mut by);
        let by = if by.is_empty() { by } else { format!(" ({})", show::visible(&by)) };
        Err(StoreError::Busy { run: run.clone(), by })
    }

    /// Removes old runs that no client carries out. Best effort: the next run tries again.
    async fn remove_old(&self, now_ms: u64) {
        if fs::read_dir(&self.path).is_ok_and(|runs| runs.count() <= ALWAYS_KEPT) {
            return;
        }
        let Ok((heads, _)) = self.list().await else { return };
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

    fn existing(&self, run: &RunId) -> Result<PathBuf, StoreError> {
        let directory = self.of(run);
        match directory.join(HEAD).symlink_metadata() {
            Ok(_) => Ok(directory),
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
        write(&made.path().join(HEAD), head)?;
        write(&made.path().join(PLAN), plan)?;
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

    async fn append(&self, run: &RunId, entries: &[Entry]) -> Result<(), StoreError> {
        let path = self.of(run).join(PROGRESS);
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).expect("entries are JSON");
            lines.push(b'\n');
        }
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = open.map_err(|error| unwritable(&path, error))?;
        append(&mut file, &lines).map_err(|error| unwritable(&path, error))
    }

    async fn load(&self, run: &RunId) -> Result<StoredRun, StoreError> {
        let directory = self.existing(run)?;
        let head = read(&directory.join(HEAD), MAX_HEAD)?;
        let plan = read(&directory.join(PLAN), MAX_PART)?;
        Ok(StoredRun { head, plan, entries: progress(&directory.join(PROGRESS))? })
    }

    async fn list(&self) -> Result<(Vec<Head>, Vec<StoreError>), StoreError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(unreadable(&self.path, error)),
        };
        let (mut heads, mut problems) = (Vec::new(), Vec::new());
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&self.path, error))?;
            if entry.file_name().to_str().is_none_or(|name| RunId::new(name).is_err()) {
                continue;
            }
            match read::<Head>(&entry.path().join(HEAD), MAX_HEAD) {
                Ok(head) => heads.push(head),
                Err(problem) => problems.push(problem),
            }
        }
        heads.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| b.run.cmp(&a.run)));
        Ok((heads, problems))
    }

    async fn is_busy(&self, run: &RunId) -> Result<bool, StoreError> {
        let path = self.existing(run)?.join(LOCK);
        let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        // Asked without taking it: a client that begins to carry out the run at this moment must not find it taken.
        let mut lock = whole(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(|errno| unreadable(&path, errno.into()))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

/// Returns a lock of a whole file by an open file description (`fcntl(2)`): it ends with the process.
fn whole(kind: i32) -> libc::flock {
    let short = |value: i32| i16::try_from(value).expect("the constants are small");
    libc::flock { l_type: short(kind), l_whence: short(libc::SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}

/// Appends whole lines, over a last one that a crash has cut short.
fn append(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let length = file.seek(io::SeekFrom::End(0))?;
    let mut end = length;
    let mut block = [0; 4096];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - from).expect("at most a block")];
        file.seek(io::SeekFrom::Start(from))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            end = from + at as u64 + 1;
            break;
        }
        end = from;
    }
    if end < length {
        file.set_len(end)?;
    }
    file.seek(io::SeekFrom::Start(end))?;
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // A full disk: the next attempt begins after the last whole line.
        let _ = file.set_len(end);
    }
    written
}

fn progress(path: &Path) -> Result<Vec<Entry>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_PART).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.zip(1..).map(|(line, number)| parse(&format!("line {number} of {}", show::path(path)), line)).collect()
}

fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, StoreError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    let what = show::path(path);
    let damaged = |error: serde_json::Error| StoreError::Damaged { what: what.clone(), problem: error.to_string() };
    let value: Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    match value["format"].as_u64() {
        Some(1..=FORMAT) => serde_json::from_value(value).map_err(damaged),
        Some(format) => Err(StoreError::Later { what, format }),
        None => Err(StoreError::Damaged { what, problem: "it has no format".to_owned() }),
    }
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged { what: what.to_owned(), problem: error.to_string() })
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(value).expect("records are JSON");
    files::write_new(path, &bytes, 0o600).map_err(|error| StoreError::Io {
        verb: "write",
        what: show::path(path),
        problem: show::visible(&error_chain(&error)),
    })
}

fn sync(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| unwritable(directory, error))
}

fn unreadable(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { verb: "read", what: show::path(path), problem: error.to_string() }
}

fn unwritable(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { verb: "write", what: show::path(path), problem: error.to_string() }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(sources).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;

//! Files that api and sync exchange. Files of the api are opened without following links, must be regular files of the account
//! that owns the inbox, with a link count of one, and are read within limits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use packs_schema::agent::config::Config;
use packs_schema::agent::push::{FORMAT, MAX_RECORD, MAX_WAITING, OUTCOMES, PushOutcome, PushRequest, record_file};
use packs_schema::base::name::PushId;

use crate::sync::disk;
use crate::sync::store::Store;

/// Number of outcomes that are kept for callers.
const KEEP: usize = 64;

/// Directories of requests and outcomes.
pub(super) struct Inbox {
    directory: PathBuf,
    owner: u32,
    outcomes: PathBuf,
}

impl Inbox {
    /// Opens both; `None` if there is no inbox, because pushes are not allowed.
    pub(super) fn open(config: &Config, store: &Store) -> io::Result<Option<Inbox>> {
        let directory = config.paths.inbox();
        let meta = match directory.symlink_metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !meta.is_dir() || meta.mode() & 0o022 != 0 {
            return Err(io::Error::other(format!(
                "{} is not a directory that only its owner writes",
                directory.display()
            )));
        }
        let outcomes = store.directory().join(OUTCOMES);
        Ok(Some(Inbox { directory, owner: meta.uid(), outcomes }))
    }

    /// Returns the requests without an outcome, in the order of their creation.
    pub(super) fn waiting(&self) -> Vec<PushId> {
        let mut ids = ids(&self.directory);
        ids.retain(|id| self.outcomes.join(record_file(id)).symlink_metadata().is_err());
        ids.truncate(MAX_WAITING);
        ids
    }

    /// Reads a request. The error does not quote its content.
    pub(super) fn request(&self, id: &PushId) -> Result<PushRequest, &'static str> {
        let unusable = "the request cannot be read: push again";
        let file = self.archive(&record_file(id)).map_err(|_| unusable)?;
        let mut bytes = Vec::new();
        file.take(MAX_RECORD + 1).read_to_end(&mut bytes).map_err(|_| unusable)?;
        let request: PushRequest = serde_json::from_slice(&bytes).map_err(|_| unusable)?;
        if request.format != FORMAT || request.id != *id {
            return Err("the request is of another kind: restart api and launcher in the same version");
        }
        Ok(request)
    }

    /// Opens a file of the api.
    pub(super) fn archive(&self, name: &str) -> io::Result<File> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.directory.join(name))?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.uid() != self.owner || meta.nlink() != 1 {
            return Err(io::Error::other("what lies in the inbox is not a plain file of the api's"));
        }
        Ok(file)
    }

    /// Writes the outcome of a request, and prunes old outcomes.
    pub(super) fn answer(&self, outcome: &PushOutcome) -> io::Result<()> {
        disk::make_directory(&self.outcomes, 0o755)?;
        let bytes = serde_json::to_vec(outcome)?;
        disk::replace(&self.outcomes.join(record_file(&outcome.id)), &bytes, 0o644)?;
        // Never one whose request still exists: the request would be processed again.
        let mut old = ids(&self.outcomes);
        old.retain(|id| self.directory.join(record_file(id)).symlink_metadata().is_err());
        for id in old.iter().take(old.len().saturating_sub(KEEP)) {
            disk::remove_if_there(&self.outcomes.join(record_file(id)))?;
        }
        Ok(())
    }
}

/// Returns the ids of the records in a directory, the oldest first.
fn ids(directory: &Path) -> Vec<PushId> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut ids: Vec<PushId> =
        entries.filter_map(|entry| PushId::new(entry.file_name().to_str()?.strip_suffix(".json")?).ok()).collect();
    ids.sort();
    ids
}

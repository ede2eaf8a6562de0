//! Configuration in the audit log: which files were in effect at a start, and each change that is noticed, with their digests.
//!
//! Keys are not read. A file that cannot be used is recorded as well, as failed: the previous content stays in effect then, if there
//! is any. `agent.toml` is read at a start only, so that a change of it is not a `reload` but a `change`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use packs_schema::agent::audit::{Entry, Outcome};
use packs_schema::agent::config::Config;
use sha2::{Digest, Sha256};

use crate::api::App;
use crate::clock;
use crate::site_file::{self, Stamp};

/// Maximum size of a file that is hashed, in bytes; no file of the configuration is as large.
const MAX_FILE: u64 = 16 << 20;

/// Files of the configuration, with what is known of them.
pub(super) struct ConfigEvents {
    files: Vec<(PathBuf, Option<Stamp>)>,
    /// Places of files that have changed since they were recorded, with their stamps.
    changed: Vec<(usize, Option<Stamp>)>,
    /// `agent.toml`; absent in tests.
    agent: Option<PathBuf>,
}

impl ConfigEvents {
    /// Watches the files of a configuration, which has been read from `file`.
    pub(super) fn new(config: &Config, file: Option<&Path>) -> ConfigEvents {
        let callers = config.tls.caller_files().map(|(_, path)| path);
        let files = file.into_iter().chain([&*config.paths.grants, &*config.tls.certificate]).chain(callers);
        let files = files.map(|path| (path.to_owned(), Stamp::of(path))).collect();
        ConfigEvents { files, changed: Vec::new(), agent: file.map(Path::to_owned) }
    }

    /// Records the start of the agent, with the files that are in effect.
    pub(super) async fn record_start(&self, app: &App) {
        let version = Some(crate::VERSION.to_owned());
        record(app, Entry { version, ..Entry::new(clock::now_ms(), "start", Outcome::Done) }).await;
        for (path, _) in &self.files {
            record(app, entry("load", path, outcome(app, path))).await;
        }
    }

    /// Notes which files have changed. To be called before the agent reads them again: what changes later is for the next time, so
    /// that no content is recorded of which the agent does not know yet whether it can be used.
    pub(super) fn look(&mut self) {
        let now_ms = clock::now_ms();
        let changed = self.files.iter().enumerate().filter_map(|(place, (path, seen))| {
            let stamp = Stamp::of(path);
            (stamp != *seen && !site_file::is_being_written(stamp, *seen, now_ms)).then_some((place, stamp))
        });
        self.changed = changed.collect();
    }

    /// Records the files that had changed, after the agent has read them.
    pub(super) async fn record_changes(&mut self, app: &App) {
        for (place, stamp) in std::mem::take(&mut self.changed) {
            let (path, seen) = &mut self.files[place];
            *seen = stamp;
            let verb = if self.agent.as_ref() == Some(path) { "change" } else { "reload" };
            record(app, entry(verb, path, outcome(app, path))).await;
        }
    }
}

/// Returns whether the present content of a file is in effect.
fn outcome(app: &App, path: &Path) -> Outcome {
    let is_invalid = app.tls.invalid_files().iter().chain(&app.access.invalid_file()).any(|invalid| invalid == path);
    if is_invalid { Outcome::Failed } else { Outcome::Done }
}

fn entry(verb: &str, path: &Path, outcome: Outcome) -> Entry {
    let digest = digest(path).ok();
    Entry { digest, ..Entry::new(clock::now_ms(), verb, outcome).with_detail(&path.display().to_string()) }
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut hash, mut left) = (Sha256::new(), MAX_FILE);
    let mut file = site_file::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        left = left.saturating_sub(read as u64);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An event that has happened cannot be refused: where it cannot be recorded now, it is written later.
async fn record(app: &App, entry: Entry) {
    app.audit.record_urgent(entry).await;
}

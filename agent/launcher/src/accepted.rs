//! Records of accepted executions: which queued executions may still start after their version was replaced.
//!
//! The launcher starts the active version of a pack, and otherwise only what was accepted while its version was active. The
//! records are in the launcher's run-time directory, where the api cannot write: a compromised api can start what was queued,
//! once each and with the same parameters, but nothing else of a replaced version. No clock is involved.
//!
//! A record is a file with the name of the execution and a keyed hash (SipHash) of the whole request, because parameters may be
//! secret.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::agent::launch::Start;
use packs_schema::base::name::ExecutionId;

use crate::dir::Dir;

/// Name of the directory of records in the run-time directory.
const RECORDS: &str = "accepted";
/// Name of the file with the key of the hashes, in that directory.
const KEY: &str = "key";
/// Maximum size of a record or of the key file, in bytes.
const MAX_FILE: u64 = 64;

/// The records.
pub(crate) struct Accepted {
    records: Dir,
    key: (u64, u64),
}

impl Accepted {
    /// Opens the records in the run-time directory. Without a readable key, all records are removed and a new key is made.
    pub(crate) fn open(runtime: &Dir) -> nix::Result<Accepted> {
        let records = match runtime.make_dir(RECORDS, 0o700) {
            Err(Errno::EEXIST) => runtime.dir(RECORDS),
            made => made,
        }?;
        let known = records.read(KEY, MAX_FILE).ok().and_then(|(bytes, _)| parse_key(&bytes));
        let key = match known {
            Some(key) => key,
            None => {
                for name in records.names() {
                    let _ = records.remove_file(&name);
                }
                let key = (random(), random());
                write(records.make_file(KEY, 0o600, OFlag::O_WRONLY)?, &format!("{:016x}{:016x}", key.0, key.1))?;
                key
            }
        };
        Ok(Accepted { records, key })
    }

    /// Returns true if a request for the execution was recorded, whatever its content.
    pub(crate) fn has_record(&self, execution: &ExecutionId) -> bool {
        self.records.has(execution.as_str()).unwrap_or(false)
    }

    /// Returns true if this request, with the same content, was recorded.
    pub(crate) fn contains(&self, start: &Start) -> bool {
        let found = self.records.read(start.execution.as_str(), MAX_FILE);
        found.is_ok_and(|(bytes, _)| bytes == self.hash(start).as_bytes())
    }

    /// Returns the number of files in the directory.
    pub(crate) fn count(&self) -> usize {
        self.records.names().len()
    }

    /// Records a request.
    pub(crate) fn record(&self, start: &Start) -> nix::Result<()> {
        let made = self.records.make_file(start.execution.as_str(), 0o600, OFlag::O_WRONLY);
        let written = made.and_then(|file| write(file, &self.hash(start)));
        written.inspect_err(|_| self.remove(&start.execution))
    }

    /// Removes the record of an execution: it was started, killed, or has ended.
    pub(crate) fn remove(&self, execution: &ExecutionId) {
        let _ = self.records.remove_file(execution.as_str());
    }

    /// Removes the records of all executions for which `keep` returns false.
    pub(crate) fn retain(&self, keep: impl Fn(&ExecutionId) -> bool) {
        let executions = self.records.names().into_iter().filter_map(|name| ExecutionId::new(name).ok());
        executions.filter(|execution| !keep(execution)).for_each(|execution| self.remove(&execution));
    }

    fn hash(&self, start: &Start) -> String {
        let json = serde_json::to_vec(start).expect("a request serialises");
        format!("{:016x}", keyed_hash(self.key, &json))
    }
}

#[expect(deprecated, reason = "the only keyed hash of the standard library whose key can be kept across a restart")]
fn keyed_hash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::SipHasher::new_with_keys(key.0, key.1);
    hasher.write(bytes);
    hasher.finish()
}

/// Returns a random number. The standard library takes its hash keys from the random numbers of the kernel.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn parse_key(text: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let half = |range| u64::from_str_radix(text.get(range)?, 16).ok();
    Some((half(0..16)?, half(16..32)?))
}

fn write(mut file: File, text: &str) -> nix::Result<()> {
    file.write_all(text.as_bytes()).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)))
}

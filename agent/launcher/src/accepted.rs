//! Executions that were accepted and wait for their start: which of them may still start once their version is no longer the
//! active one.
//!
//! The api says so while the version is active, and the launcher keeps a record of it in its runtime directory, where the api
//! cannot write. So an api that was taken over later can start what waited, once each and as it was asked for, and nothing
//! else of a version that was replaced. No clock is asked.
//!
//! A record is the name of the execution and a keyed hash (SipHash) of the whole request: parameters may be secret.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::base::name::ExecutionId;

use crate::dir::Dir;
use crate::host::Host;
use crate::start::{self, Refused, refuse};

/// The directory of records, in the runtime directory.
const RECORDS: &str = "accepted";
/// In it: the key of the hashes.
const KEY: &str = "key";
/// Records beyond the most that may wait, for those whose executions ended without a start.
const SPARE: usize = 1024;
/// Bytes of a record or a key.
const LENGTH: u64 = 64;

/// The records.
pub(crate) struct Accepted {
    records: Dir,
    key: (u64, u64),
}

impl Accepted {
    /// Opens them in the runtime directory, with the key that they were made with.
    pub(crate) fn open(runtime: &Dir) -> nix::Result<Accepted> {
        let records = match runtime.make_dir(RECORDS, 0o700) {
            Err(Errno::EEXIST) => runtime.dir(RECORDS),
            made => made,
        }?;
        let known = records.read(KEY, LENGTH).ok().and_then(|(bytes, _)| parse_key(&bytes));
        let key = match known {
            Some(key) => key,
            None => {
                // Records under a key that is lost say nothing.
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

    /// Records a request whose version is active now.
    pub(crate) fn record(&self, host: &Host, start: &Start) -> Result<(), Refused> {
        let name = start.execution.as_str();
        if self.records.has(name).unwrap_or(false) {
            return Ok(());
        }
        start::check_active(host, start)?;
        let most = SPARE + host.config.execution.max_queued as usize;
        if self.records.names().len() > most {
            self.prune(host);
        }
        if self.records.names().len() > most {
            let message = format!("{most} executions wait already for a version that may be replaced");
            return refuse(Refusal::Resources, message);
        }
        let made = self.records.make_file(name, 0o600, OFlag::O_WRONLY);
        let written = made.and_then(|file| write(file, &self.hash(start)));
        written.or_else(|e| {
            self.forget(&start.execution);
            refuse(Refusal::Resources, format!("execution {name} cannot be recorded as accepted: {e}"))
        })
    }

    /// True if this very request was recorded.
    pub(crate) fn covers(&self, start: &Start) -> bool {
        let found = self.records.read(start.execution.as_str(), LENGTH);
        found.is_ok_and(|(bytes, _)| bytes == self.hash(start).as_bytes())
    }

    /// It has been started, or never will be.
    pub(crate) fn forget(&self, execution: &ExecutionId) {
        let _ = self.records.remove_file(execution.as_str());
    }

    /// Removes the records of executions that have ended or were started, as their directories say: the api may lie about
    /// that, and only takes away what it may start.
    pub(crate) fn prune(&self, host: &Host) {
        for name in self.records.names() {
            let Ok(execution) = ExecutionId::new(name) else { continue };
            let waits = match start::open_directory(host, &execution) {
                Ok(directory) => ![file::LOCK, file::EXIT].iter().any(|file| directory.has(file).unwrap_or(true)),
                Err(_) => false,
            };
            if !waits {
                self.forget(&execution);
            }
        }
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

/// From the kernel's random numbers, which the standard library takes its keys from.
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

//! Removed versions: unpublished, pruned, or dropped with their team.
//!
//! ```text
//!  targets (or a team's role)
//!     └── log/removed-000001.json      {"packs/demo/1.0.0.tar.gz": "<SHA-256>", …}
//! ```
//!
//! A version keeps its meaning for ever: an instance or a history that names `demo 1.0.0` names one archive. So the digest of a
//! version that leaves the metadata stays in an index, a target of its owner's that agents never fetch. [`State::removed_digest`]
//! finds it, and a publication with other content is refused; the same archive may be published again. Versions that were removed by
//! earlier releases are not in it.

use std::collections::{BTreeMap, HashMap};

use packs_schema::base::name::{PackName, PackVersion};
use packs_schema::delivery::channel::pack_target;
use serde::{Deserialize, Serialize};

use super::super::RepoError;
use super::super::owner::Owner;
use super::State;

/// Version of index files that this code reads and writes.
const FORMAT: u32 = 1;
/// Maximum number of versions in an index file.
const MAX_ENTRIES: usize = 1024;
/// Maximum size of an index file that is read, in bytes.
const MAX_READ: u64 = 1 << 20;

/// Index file: digests of archives by target name.
#[derive(Serialize, Deserialize)]
struct Index {
    format: u32,
    digests: BTreeMap<String, String>,
}

fn index_name(owner: &Owner, number: u32) -> String {
    match owner {
        Owner::Top => format!("log/removed-{number:06}.json"),
        Owner::Team(_) => format!("log/{}/removed-{number:06}.json", owner.role()),
    }
}

/// True for the name of an index file of any owner.
fn is_index(name: &str) -> bool {
    name.starts_with("log/") && name.rsplit('/').next().is_some_and(|file| file.starts_with("removed-"))
}

impl<T> State<T> {
    /// Remembers the digests of versions that were removed, by target name, in an index that `owner` signs.
    pub(in crate::repo) async fn remember_removed(
        &mut self,
        owner: &Owner,
        removed: BTreeMap<String, String>,
    ) -> Result<(), RepoError> {
        if removed.is_empty() {
            return Ok(());
        }
        let mut number = 1;
        while self.find(&index_name(owner, number + 1)).is_some() {
            number += 1;
        }
        let mut digests = self.read_index(&index_name(owner, number)).await?;
        for (name, digest) in removed {
            if digests.len() >= MAX_ENTRIES {
                self.write_removed(owner, number, std::mem::take(&mut digests))?;
                number += 1;
            }
            digests.insert(name, digest);
        }
        self.write_removed(owner, number, digests)
    }

    /// Returns the digest of the archive that this version had before it was removed. Only the targets role and the owner of the
    /// pack can say so.
    pub(in crate::repo) async fn removed_digest(
        &self,
        pack: &PackName,
        version: &PackVersion,
    ) -> Result<Option<String>, RepoError> {
        let (name, owner) = (pack_target(pack, version), self.owner(pack, None)?);
        let says = |by: &Owner| *by == Owner::Top || *by == owner;
        let all = self.all().into_iter().filter(|(name, by, _)| is_index(name) && says(by));
        let indexes: Vec<String> = all.map(|(name, ..)| name.to_owned()).collect();
        for index in indexes {
            if let Some(digest) = self.read_index(&index).await?.remove(&name) {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// Reads an index file; one that does not exist is empty.
    async fn read_index(&self, name: &str) -> Result<BTreeMap<String, String>, RepoError> {
        let Some(bytes) = self.bytes(name, MAX_READ).await? else { return Ok(BTreeMap::new()) };
        let wrong = |problem: String| RepoError::Unreadable { name: name.to_owned(), problem };
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        match index.format {
            FORMAT => Ok(index.digests),
            other => Err(wrong(format!("format {other} is not one that this version reads, which is {FORMAT}"))),
        }
    }

    fn write_removed(
        &mut self,
        owner: &Owner,
        number: u32,
        digests: BTreeMap<String, String>,
    ) -> Result<(), RepoError> {
        let bytes = serde_json::to_vec(&Index { format: FORMAT, digests }).expect("an index serialises");
        self.set(owner, &index_name(owner, number), bytes, HashMap::new())
    }
}

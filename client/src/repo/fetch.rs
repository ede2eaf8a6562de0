//! Archives of published versions, verified against what is signed of them, for comparisons.

use std::io::Seek as _;

use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::delivery::channel::{Channel, Rule, pack_target};

use super::change::with_view;
use super::state::{State, Viewed};
use super::storage::{Storage, StoredFile};
use super::trust::View;
use super::{RepoError, hex};
use crate::pack::{ArchiveFile, PackError};
use crate::repo::ReleaseError;

/// Version of a pack to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This version.
    Version(PackVersion),
    /// The newest version that a channel holds.
    Channel(ChannelName),
}

/// Archive of a published version.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The version.
    pub version: PackVersion,
    /// Rules of the channel that it is the newest version of, highest version first.
    pub rules: Vec<Rule>,
    /// The archive.
    pub archive: ArchiveFile,
}

/// Fetches and verifies the archives of some versions of a pack, all from the same state of the repository.
pub fn fetch(view: &View, pack: &PackName, wanted: &[Wanted]) -> Result<Vec<Fetched>, RepoError> {
    with_view(view, async |state, storage| {
        let mut fetched = Vec::new();
        for wanted in wanted {
            let (version, rules) = match wanted {
                Wanted::Version(version) => (version.clone(), Vec::new()),
                Wanted::Channel(channel) => {
                    let held = held(state, pack, channel).await?;
                    (held.newest().version.clone(), held.rules)
                }
            };
            let archive = archive(state, storage, pack, &version)?;
            fetched.push(Fetched { version, rules, archive });
        }
        Ok(fetched)
    })
}

async fn held(state: &State<Viewed>, pack: &PackName, channel: &ChannelName) -> Result<Channel, RepoError> {
    let (channel, pack) = (channel.clone(), pack.clone());
    match state.channel(&channel, &pack).await? {
        Some(held) if held.holds_nothing() => Err(RepoError::Release(ReleaseError::HoldsNothing { channel, pack })),
        Some(held) => Ok(held),
        None => Err(RepoError::Release(ReleaseError::NotHeld { channel, pack })),
    }
}

fn archive(
    state: &State<Viewed>,
    storage: &Storage,
    pack: &PackName,
    version: &PackVersion,
) -> Result<ArchiveFile, RepoError> {
    let name = pack_target(pack, version);
    let Some((_, target)) = state.find(&name) else {
        return Err(RepoError::Release(ReleaseError::NotPublished { pack: pack.clone(), version: version.clone() }));
    };
    let bad = |problem: &str| {
        let (pack, version, problem) = (pack.clone(), version.clone(), problem.to_owned());
        Err(RepoError::Release(ReleaseError::BadArchive { pack, version, problem }))
    };
    let digest = hex(&target.hashes.sha256);
    let mut temporary = tempfile::tempfile().map_err(RepoError::file("write", std::env::temp_dir()))?;
    match storage.copy_target(&name, &digest, target.length, &mut temporary)? {
        StoredFile::Missing => return bad("it is missing"),
        StoredFile::Longer => return bad("it has more bytes than are signed"),
        StoredFile::File(found) if found.bytes != target.length || found.sha256 != digest => {
            return bad("its bytes are not those that were signed");
        }
        StoredFile::File(_) => {}
    }
    temporary.rewind().map_err(RepoError::file("read", std::env::temp_dir()))?;
    let archive = ArchiveFile::copy_of(temporary, PackError::file("read", std::env::temp_dir()))?;
    if archive.digest().as_str() == digest { Ok(archive) } else { bad("it changed while it was copied") }
}

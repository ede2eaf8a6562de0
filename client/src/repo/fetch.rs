//! Archives of published versions, verified against what is signed of them, for comparisons.

use std::io::{Seek as _, Write as _};

use futures_util::StreamExt as _;
use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::delivery::channel::{Channel, Rule, pack_target};

use super::change::with_view;
use super::state::{State, Viewed, target_name};
use super::storage::Storage;
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
            let archive = archive(state, storage, pack, &version).await?;
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

async fn archive(
    state: &State<Viewed>,
    storage: &Storage,
    pack: &PackName,
    version: &PackVersion,
) -> Result<ArchiveFile, RepoError> {
    let name = pack_target(pack, version);
    let Some((_, target)) = state.find(&name) else {
        return Err(RepoError::Release(ReleaseError::NotPublished { pack: pack.clone(), version: version.clone() }));
    };
    let bad = |problem: String| {
        RepoError::Release(ReleaseError::BadArchive { pack: pack.clone(), version: version.clone(), problem })
    };
    let file = format!("targets/{}.{name}", hex(&target.hashes.sha256));
    let archive = match state.repository().read_target(&target_name(&name)?).await {
        Ok(Some(stream)) => {
            let mut stream = std::pin::pin!(stream);
            let failed = RepoError::file("write", std::env::temp_dir());
            let mut temporary = tempfile::tempfile().map_err(failed)?;
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| bad(error.to_string()))?;
                temporary.write_all(&piece).map_err(RepoError::file("write", std::env::temp_dir()))?;
            }
            temporary.rewind().map_err(RepoError::file("read", std::env::temp_dir()))?;
            ArchiveFile::copy_of(temporary, PackError::file("read", std::env::temp_dir()))?
        }
        // Retired versions are in an index of the publisher's, which the library does not read.
        Ok(None) => {
            let bytes = storage.read(&file)?.ok_or_else(|| bad("it is missing".to_owned()))?;
            ArchiveFile::copy_of(bytes.as_slice(), PackError::file("read", "the archive"))?
        }
        Err(error) => return Err(bad(error.to_string())),
    };
    if archive.size_bytes() != target.length || archive.digest().as_str() != hex(&target.hashes.sha256) {
        return Err(bad("its bytes are not those that were signed".to_owned()));
    }
    Ok(archive)
}

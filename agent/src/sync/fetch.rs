//! Download of the archive, hashed while it is written, then compared with the signed digest and length.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use futures_util::StreamExt;
use packs_schema::base::name::Digest;
use packs_schema::base::quantity::Bytes;
use sha2::{Digest as _, Sha256};

use super::choose::Chosen;
use super::disk;
use super::error::{PackFailure, Step, root_cause};
use super::metadata::Metadata;
use super::store::Store;

/// Downloaded archive, not verified.
#[derive(Debug)]
pub(super) struct Fetched {
    chosen: Chosen,
    path: PathBuf,
    digest: Digest,
    length: u64,
}

/// Archive whose digest and length are the signed ones.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) chosen: Chosen,
    pub(super) path: PathBuf,
}

/// Downloads the archive into staging; never writes more than the signed length, nor more than `cap`.
pub(super) async fn fetch(
    metadata: &Metadata,
    store: &Store,
    chosen: Chosen,
    cap: Bytes,
) -> Result<Fetched, PackFailure> {
    let fail = |message: String| PackFailure::new(Step::Fetch, message);
    if chosen.length > cap.0 {
        let message = format!("the archive has {} bytes; repository.max_pack allows {}", chosen.length, cap.0);
        return Err(fail(message));
    }
    let path = store.staging().join(format!("{}-{}.tar.gz", chosen.pack, chosen.digest.short()));
    let mut file: File = disk::create(&path, 0o600).map_err(PackFailure::file(Step::Fetch, "create", &path))?;
    let broken = |e: &tough::error::Error| fail(format!("cannot fetch {}: {}", chosen.target.raw(), root_cause(e)));
    let stream = metadata.repository().read_target(&chosen.target).await.map_err(|e| broken(&e))?;
    let mut stream = stream.ok_or_else(|| fail(format!("the repository has no target {}", chosen.target.raw())))?;
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| broken(&e))?;
        length = length.saturating_add(chunk.len() as u64);
        if length > chosen.length {
            return Err(fail(format!("received more than the {} bytes that were signed", chosen.length)));
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(PackFailure::file(Step::Fetch, "write", &path))?;
    }
    let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digest = Digest::new(digest).map_err(|e| fail(e.to_string()))?;
    Ok(Fetched { chosen, path, digest, length })
}

/// Copies a pushed archive into staging; never more than the announced length.
pub(super) fn receive(store: &Store, chosen: Chosen, archive: File) -> Result<Fetched, PackFailure> {
    let path = store.staging().join(format!("{}-{}.tar.gz", chosen.pack, chosen.digest.short()));
    let mut file: File = disk::create(&path, 0o600).map_err(PackFailure::file(Step::Fetch, "create", &path))?;
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    let mut archive = archive.take(chosen.length.saturating_add(1));
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = archive.read(&mut buffer).map_err(PackFailure::file(Step::Fetch, "read", "the pushed archive"))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(PackFailure::file(Step::Fetch, "write", &path))?;
        length += count as u64;
    }
    let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digest = Digest::new(digest).map_err(|e| PackFailure::new(Step::Fetch, e.to_string()))?;
    Ok(Fetched { chosen, path, digest, length })
}

impl Fetched {
    /// Holds what came against what was signed.
    pub(super) fn verify(self) -> Result<Verified, PackFailure> {
        let Fetched { chosen, path, digest, length } = self;
        if length != chosen.length || digest != chosen.digest {
            let message = format!(
                "{length} bytes with digest {} came, but {} bytes with digest {} were signed",
                digest.short(),
                chosen.length,
                chosen.digest.short()
            );
            return Err(PackFailure::new(Step::Fetch, message));
        }
        Ok(Verified { chosen, path })
    }
}

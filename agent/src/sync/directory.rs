//! Repository in a directory: its address, whether it is there and can be read, and the transport that reads it. Nothing here
//! needs the AWS SDK, so that `bolt-agent check-config` does not carry it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use async_trait::async_trait;
use nix::fcntl::OFlag;
use tough::{FilesystemTransport, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::SyncError;
use super::cache::TIMESTAMP;

/// Returns the address of a repository in a directory, with `/` at its end.
pub(super) fn directory_url(address: &str) -> Result<Url, SyncError> {
    let wrong = || SyncError::Url(address.chars().take(200).collect());
    let mut url = Url::parse(address).map_err(|_| wrong())?;
    if url.scheme() != "file" || url.host().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Returns the addresses of metadata and of targets.
pub(super) fn addresses(url: &Url) -> Result<(Url, Url), SyncError> {
    let join = |part: &str| url.join(part).map_err(|_| SyncError::Url(url.to_string()));
    Ok((join("metadata/")?, join("targets/")?))
}

/// Returns an error if the repository in the directory `url` cannot be there, or cannot be read: neither is a matter of signatures.
pub(super) fn examine(url: &Url) -> Result<(), SyncError> {
    let Ok(directory) = url.to_file_path() else { return Err(SyncError::Url(url.to_string())) };
    let unreadable =
        |path: &Path, source| SyncError::Unreadable { directory: directory.clone(), path: path.into(), source };
    let timestamp = directory.join("metadata").join(TIMESTAMP);
    match File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&timestamp) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match directory.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SyncError::NoDirectory(directory)),
            Err(error) => Err(unreadable(&directory, error)),
            Ok(_) => Err(SyncError::NoRepository(url.to_string())),
        },
        Err(error) => Err(unreadable(&timestamp, error)),
    }
}

/// Transport that reads regular files only.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryTransport;

#[async_trait]
impl Transport for DirectoryTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        check_regular(&url)?;
        FilesystemTransport.fetch(url).await
    }
}

/// Refuses anything but a regular file: opening a FIFO would block until the owner of the storage writes to it.
fn check_regular(url: &Url) -> Result<(), TransportError> {
    let failed = |error| TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error);
    let Ok(path) = url.to_file_path() else { return Ok(()) };
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(failed(std::io::Error::other("it is not a regular file"))),
        // A missing or unreadable file is reported when it is opened.
        _ => Ok(()),
    }
}

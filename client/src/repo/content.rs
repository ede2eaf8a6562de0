//! Content of a target that a change writes.

use std::io;

use packs_schema::base::name::Digest;
use sha2::{Digest as _, Sha256};
use tough::schema::decoded::{Decoded, Hex};

use super::hex;
use crate::pack::ArchiveFile;

/// Bytes of a channel or journal file, or the archive of a pack, which is never in memory as a whole.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Archive(ArchiveFile),
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Archive(archive) => archive.size_bytes(),
        }
    }

    /// Returns the SHA-256 in hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        match self {
            Content::Bytes(bytes) => hex(&Sha256::digest(bytes)),
            Content::Archive(archive) => archive.digest().to_string(),
        }
    }

    /// Returns the SHA-256 as metadata hold it.
    pub(super) fn hash(&self) -> Decoded<Hex> {
        match self {
            Content::Bytes(bytes) => Sha256::digest(bytes).to_vec().into(),
            Content::Archive(archive) => decode(archive.digest()).into(),
        }
    }

    /// Returns the bytes.
    pub(super) fn to_vec(&self) -> io::Result<Vec<u8>> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Archive(archive) => archive.to_vec(),
        }
    }

    /// Returns a reader from the start.
    pub(super) fn reader(&self) -> Box<dyn io::Read + '_> {
        match self {
            Content::Bytes(bytes) => Box::new(bytes.as_slice()),
            Content::Archive(archive) => Box::new(archive.reader()),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::Bytes(bytes)
    }
}

impl From<ArchiveFile> for Content {
    fn from(archive: ArchiveFile) -> Content {
        Content::Archive(archive)
    }
}

fn decode(digest: &Digest) -> Vec<u8> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default();
    digest.as_str().as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, next| byte << 4 | digit(next))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_length_and_digest_of_its_bytes() {
        let bytes = b"an archive".to_vec();
        let archive = ArchiveFile::copy_of(bytes.as_slice(), |error| panic!("{error}")).unwrap();
        let (of_bytes, of_archive) = (Content::from(bytes), Content::from(archive));
        assert_eq!(of_bytes.length(), of_archive.length());
        assert_eq!(of_bytes.sha256(), of_archive.sha256());
        assert_eq!(of_bytes.hash(), of_archive.hash());
        assert_eq!(of_bytes.to_vec().unwrap(), of_archive.to_vec().unwrap());
    }
}

//! The repository's private keys: Ed25519, PKCS #8 PEM files that only their owner may read.

use std::error::Error;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use tough::key_source::KeySource;
use tough::schema::RoleType;
use tough::sign::Sign;

use super::RepoError;
use crate::files;

/// The largest key file, in bytes.
const MAX_KEY_FILE: u64 = 16 << 10;

/// The file of a role's nth key, counted from 1.
pub(super) fn path(directory: &Path, role: RoleType, n: u8) -> PathBuf {
    directory.join(if n == 1 { format!("{role}.pem") } else { format!("{role}-{n}.pem") })
}

/// Makes a key and writes it; refuses to write over one.
pub(super) fn generate(path: &Path) -> Result<(), RepoError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(RepoError::Generate)?;
    Ok(files::write_new(path, key.serialize_pem().as_bytes(), 0o600)?)
}

/// The keys that a publish needs, each seen to be a key that nobody else can read.
pub(super) fn for_publish(directory: &Path) -> Result<Vec<Box<dyn KeySource>>, RepoError> {
    let roles = [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
    roles.into_iter().map(|role| source(path(directory, role, 1))).collect()
}

/// A key file as tough wants it.
pub(super) fn source(path: PathBuf) -> Result<Box<dyn KeySource>, RepoError> {
    read(&path)?;
    Ok(Box::new(PemFile { path }))
}

/// The public half and the signing half of a key file.
pub(super) fn read(path: &Path) -> Result<Ed25519KeyPair, RepoError> {
    let text = files::read_private_text(path, MAX_KEY_FILE)?;
    let not_a_key = || RepoError::NotAKey(path.to_owned());
    let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| not_a_key())?;
    Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| not_a_key())
}

#[derive(Debug)]
struct PemFile {
    path: PathBuf,
}

#[async_trait]
impl KeySource for PemFile {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn Error + Send + Sync + 'static>> {
        Ok(Box::new(read(&self.path)?))
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Err("a key file is written once, when it is made".into())
    }
}

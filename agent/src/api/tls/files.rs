//! Reads certificates and keys. No error quotes a file: problems are described in fixed words ([`packs_schema::base::pem`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packs_schema::agent::config::TlsConfig;
use packs_schema::base::certificate::CertificateInfo;
use packs_schema::base::pem::{Expected, PemError, PemProblem};
use packs_schema::base::trust::{Purpose, TrustError};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::{site_file, trust};

/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Maximum number of authorities in one file: each of them is tried for a chain that a peer sends.
const MAX_AUTHORITIES: usize = 32;

/// Error returned when the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {0:?}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0:?} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Trust(#[from] TrustError<io::Error>),
    #[error(
        "certificate {1} in {0:?} is not an authority: copy the certificate of the authority that issues callers' certificates, \
         such as ca.pem of `bolt pki init`"
    )]
    NotAnAuthority(PathBuf, usize),
    #[error("{0:?} cannot be the authorities of callers: {1}")]
    Authority(Vec<PathBuf>, String),
    #[error(
        "the key {key:?} does not belong to the first certificate in {certificate:?}: use the two files of one issue, the \
         instance's own certificate first"
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate {0:?} cannot be used: {1}")]
    Certificate(PathBuf, String),
    #[error("the revocation list {0:?} cannot be used: {1}")]
    Crl(PathBuf, String),
    #[error("the certificate {0:?} {1}; the certificate in use is kept")]
    Worse(PathBuf, String),
}

/// Reads every certificate in a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(PemError::diagnose(path, Expected::Certificates, &bytes).into()),
    }
}

/// Reads the authorities of callers, after a check of owner and mode.
///
/// A caller's own certificate in this file would lock every caller out, so a certificate that is not an authority is an error.
pub(super) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    trust::check(path, Purpose::Anchor)?;
    let found = certificates(path)?;
    if found.len() > MAX_AUTHORITIES {
        let problem = format!("it has {} certificates; the maximum is {MAX_AUTHORITIES}", found.len());
        return Err(TlsError::Authority(vec![path.to_owned()], problem));
    }
    for (index, certificate) in found.iter().enumerate() {
        let is_usable = webpki::anchor_from_trusted_cert(certificate).is_ok();
        if !is_usable || CertificateInfo::parse(certificate).is_none_or(|info| !info.is_authority) {
            return Err(TlsError::NotAnAuthority(path.to_owned(), index + 1));
        }
    }
    Ok(found)
}

/// Reads the agent's own certificate with its key, and checks that they belong together.
pub(super) fn own(files: &TlsConfig, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| PemError::new(&files.key, Expected::Key, PemProblem::Unsupported))?;
    let own = CertifiedKey::new(chain, key);
    match own.keys_match() {
        Ok(()) => Ok(Arc::new(own)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() })
        }
        Err(rustls::Error::InvalidCertificate(error)) => {
            Err(TlsError::Certificate(files.certificate.clone(), error.to_string()))
        }
        // Any other error might quote the key.
        Err(_) => Err(PemError::new(&files.certificate, Expected::Certificates, PemProblem::Unsupported).into()),
    }
}

/// Reads the key, after a check of its owner and mode.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    trust::check(path, Purpose::Secret)?;
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| PemError::diagnose(path, Expected::Key, &bytes).into())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let failed = |e: io::Error| TlsError::Read(path.to_owned(), e);
    let mut bytes = Vec::new();
    site_file::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

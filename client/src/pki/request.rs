//! Certificate signing requests (PKCS #10): a key that never leaves its host, and the names that it asks for.

use std::path::{Path, PathBuf};

use rcgen::{CertificateSigningRequestParams, KeyPair, PublicKey, PublicKeyData as _};

use super::subject::{Subject, SubjectProblem};
use super::{MAX_FILE, PkiError, fingerprint, params_of};
use crate::files;

/// Error returned for a file that is not a request which can be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestProblem {
    /// Not a request in PEM form.
    #[error("it is not a certificate signing request in PEM form; `bolt pki csr` makes one")]
    NotARequest,
    /// Not PEM, but what may be DER.
    #[error(
        "it is not PEM; if it is a request in DER, convert it with `openssl req -inform DER -in FILE -out FILE.csr` and give \
         FILE.csr"
    )]
    Der,
    /// Its signature is not by the key that it names, or that key is of a kind that cannot be verified.
    #[error(
        "its signature does not verify, or its key is of a kind that is not accepted: RSA of 2048 to 8192 bits, ECDSA P-256 or \
         P-384, or Ed25519"
    )]
    Signature,
    /// An extension that is not known.
    #[error("it asks for an extension other than names and usages")]
    Extension,
    /// Its names or usages cannot be signed.
    #[error(transparent)]
    Subject(#[from] SubjectProblem),
}

/// A new key and the request for its certificate, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// The request.
    pub request_pem: String,
    /// The private key.
    key_pem: String,
    /// SHA-256 of the public key, to compare when the request is handed over.
    pub fingerprint: String,
}

impl std::fmt::Debug for NewRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRequest").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl NewRequest {
    /// Makes a key and a request for `subject`.
    pub fn create(subject: &Subject) -> Result<NewRequest, PkiError> {
        let failed = |source| PkiError::Issue { subject: subject.uri(), source };
        let mut params = params_of(subject).map_err(failed)?;
        // The signer sets these; a request that names them is harder to read for other authorities.
        params.is_ca = rcgen::IsCa::NoCa;
        params.use_authority_key_identifier_extension = false;
        let key = KeyPair::generate().map_err(failed)?;
        let request_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
        let fingerprint = fingerprint(&key.subject_public_key_info());
        Ok(NewRequest { request_pem, key_pem: key.serialize_pem(), fingerprint })
    }

    /// Writes `<stem>.key` (mode 0600) and `<stem>.csr` into `dir`, which is made when it is missing. Returns request and key.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<(PathBuf, PathBuf), PkiError> {
        let (request, key) = (dir.join(format!("{stem}.csr")), dir.join(format!("{stem}.key")));
        files::create_dir(dir)?;
        files::refuse_existing(&[&request, &key])?;
        files::write_new(&key, self.key_pem.as_bytes(), 0o600)?;
        files::write_new(&request, self.request_pem.as_bytes(), 0o644)?;
        Ok((request, key))
    }
}

/// A request whose signature was verified: whoever made it has the key.
#[derive(Debug, Clone)]
pub struct Request {
    /// The names that it asks for.
    pub subject: Subject,
    /// SHA-256 of its public key.
    pub fingerprint: String,
    pub(super) key: PublicKey,
}

impl Request {
    /// Reads and verifies the request in the file at `path`.
    pub fn read(path: &Path) -> Result<Request, PkiError> {
        Request::of_bytes(&files::read_bytes(path, MAX_FILE)?)
            .map_err(|source| PkiError::Request { path: path.to_owned(), source })
    }

    fn of_bytes(bytes: &[u8]) -> Result<Request, RequestProblem> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Request::parse(text),
            // A DER structure begins with a SEQUENCE.
            Err(_) if bytes.first() == Some(&0x30) => Err(RequestProblem::Der),
            Err(_) => Err(RequestProblem::NotARequest),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Request, RequestProblem> {
        let parsed = CertificateSigningRequestParams::from_pem(text).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => RequestProblem::Signature,
            rcgen::Error::UnsupportedExtension => RequestProblem::Extension,
            _ => RequestProblem::NotARequest,
        })?;
        let subject = Subject::of_request(&parsed.params)?;
        let fingerprint = fingerprint(&parsed.public_key.subject_public_key_info());
        Ok(Request { subject, fingerprint, key: parsed.public_key })
    }
}

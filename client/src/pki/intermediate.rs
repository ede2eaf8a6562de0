//! Intermediate authorities: a root that is kept offline signs an authority that issues certificates of instances and callers,
//! and may sign no further authority.
//!
//! Agents and clients trust the root. What an intermediate issues is followed by its own certificate, in one file, so that
//! a peer that knows the root alone accepts it.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::{authority_params, path_length};
use super::check::AuthorityProblem;
use super::{Authority, Issued, PkiError, Validity};
use crate::files;

/// File name of the root's certificate beside that of an intermediate.
pub const ROOT_CERTIFICATE: &str = "root.pem";

/// Intermediate authority that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intermediate {
    issued: Issued,
    root_pem: String,
}

impl Authority {
    /// Makes an intermediate authority called `name`, with a key of its own, that may sign no further authority.
    pub fn issue_intermediate(&self, name: &str, validity: Validity) -> Result<Intermediate, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Issue { subject: name.to_owned(), source })?;
        let cert_pem = self.sign_intermediate(name, &key, validity)?;
        let root_pem = self.cert_pem().to_owned();
        Ok(Intermediate { issued: Issued { cert_pem, key_pem: key.serialize_pem() }, root_pem })
    }

    /// Signs the certificate of an intermediate authority for `key`.
    pub(super) fn sign_intermediate(
        &self,
        name: &str,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Intermediate { name: name.to_owned(), source };
        let own = self.certificate();
        let (_, own) = X509Certificate::from_der(&own).map_err(|_| failed(AuthorityProblem::NoCertificate))?;
        if path_length(&own) == Some(0) {
            return Err(failed(AuthorityProblem::NoIntermediates));
        }
        // Lists are attributed to authorities by name: two keys under one name would be confused.
        if own.subject().iter_common_name().any(|own| own.as_str() == Ok(name)) {
            return Err(failed(AuthorityProblem::SameName));
        }
        let mut params: CertificateParams = authority_params(name, validity, Some(0))?;
        params.use_authority_key_identifier_extension = true;
        self.sign_params(name, params, key, validity)
    }
}

impl Intermediate {
    /// Writes `ca.pem`, `ca.key` (mode 0600) and `root.pem` into `dir`, which is made when it is missing.
    pub fn write(&self, dir: &Path) -> Result<(), PkiError> {
        let root = dir.join(ROOT_CERTIFICATE);
        files::create_dir(dir)?;
        files::refuse_existing(&[&root])?;
        self.issued.write(dir, "ca")?;
        Ok(files::write_new(&root, self.root_pem.as_bytes(), 0o644)?)
    }
}

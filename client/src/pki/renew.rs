//! Renewal: a new certificate for the names of an old one that the same authority signed, or of the authority itself.

use std::path::Path;

use rcgen::{KeyPair, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::path_length;
use super::journal::JournalContent;
use super::subject::{Subject, SubjectProblem};
use super::{Authority, MAX_FILE, PkiError, Serial, Validity, fingerprint, pem};
use crate::files;
use crate::tls;

/// Error returned for a certificate that cannot be renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewProblem {
    /// Another authority signed it.
    #[error(
        "this authority did not sign it; give the authority that did, or issue a new certificate with `bolt pki issue`"
    )]
    OtherAuthority,
    /// Its names or usages cannot be signed again.
    #[error(transparent)]
    Subject(#[from] SubjectProblem),
    /// Its key is of an unsupported kind.
    #[error("its key is of a kind that cannot be signed here; make a new one with --new-key")]
    Key,
    /// An authority that `bolt pki init` or `bolt pki intermediate` did not make.
    #[error(
        "it is an authority that `bolt pki` did not make, or --new-key was given: renew it with the program that made it"
    )]
    ForeignAuthority,
    /// The journal says that it is revoked.
    #[error("it is revoked ({0}); issue a new certificate, with a new key, with `bolt pki issue`")]
    Revoked(&'static str),
}

/// Owner of a renewed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// A certificate of an instance or a caller.
    Leaf(Subject),
    /// The authority's own, with the same name and key: certificates that it signed stay valid.
    Authority,
    /// An intermediate authority of this name, which this authority signed before.
    Intermediate(String),
}

/// A renewed certificate.
#[derive(Clone)]
pub struct Renewal {
    /// Its owner.
    pub renewed: Renewed,
    /// The new certificate, followed by those that followed the old one.
    pub cert_pem: String,
    /// The new private key, when one was asked for.
    key_pem: Option<String>,
    /// SHA-256 of the public key.
    pub fingerprint: String,
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("renewed", &self.renewed).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new certificate for the names of the one in the file at `path`, which this authority must have signed; also
    /// after that has expired. The key stays the same, unless `new_key` asks for another. Without `validity` the new one is
    /// valid from now for as long as the old one was.
    pub fn renew(&self, path: &Path, validity: Option<Validity>, new_key: bool) -> Result<Renewal, PkiError> {
        let chain = tls::parse_certificates(path, &files::read_bytes(path, MAX_FILE)?)?;
        let (first, rest) = chain.split_first().expect("at least one certificate");
        let failed = |source| PkiError::Renew { path: path.to_owned(), source };
        let mut renewal = self.renew_first(first, validity, new_key, &failed)?;
        // An intermediate adds its own, which may have been renewed as well.
        if self.chain().is_empty() {
            for certificate in rest {
                renewal.cert_pem.push_str(&pem(certificate));
            }
        }
        Ok(renewal)
    }

    fn renew_first(
        &self,
        old: &CertificateDer<'_>,
        validity: Option<Validity>,
        new_key: bool,
        failed: &dyn Fn(RenewProblem) -> PkiError,
    ) -> Result<Renewal, PkiError> {
        let (_, certificate) = X509Certificate::from_der(old).map_err(|_| failed(RenewProblem::OtherAuthority))?;
        let own = self.certificate();
        let (_, authority) = X509Certificate::from_der(&own).map_err(|_| failed(RenewProblem::OtherAuthority))?;
        if !self.has_signed(&certificate) {
            return Err(failed(RenewProblem::OtherAuthority));
        }
        if let Some(path) = self.journal().filter(|path| path.exists())
            && let Some(revoked) = JournalContent::read(path)?.revocation(&Serial::of_bytes(certificate.raw_serial()))
        {
            return Err(failed(RenewProblem::Revoked(revoked.reason.name())));
        }
        let validity = validity.unwrap_or_else(|| {
            let old = certificate.validity();
            Validity::lasting(old.not_after.to_datetime() - old.not_before.to_datetime())
        });
        if certificate.is_ca() {
            // `bolt pki` gives an authority nothing but a common name.
            let names = certificate.subject().iter_attributes().count();
            let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
            let (1, Some(name), false) = (names, name, new_key) else {
                return Err(failed(RenewProblem::ForeignAuthority));
            };
            let raw = certificate.public_key().raw;
            let fingerprint = fingerprint(raw);
            let (renewed, cert_pem) = if raw == authority.public_key().raw {
                (Renewed::Authority, self.renewed(name, validity)?)
            } else if path_length(&certificate) == Some(0) {
                let key = SubjectPublicKeyInfo::from_der(raw).map_err(|_| failed(RenewProblem::Key))?;
                (Renewed::Intermediate(name.to_owned()), self.sign_intermediate(name, &key, validity)?)
            } else {
                return Err(failed(RenewProblem::ForeignAuthority));
            };
            return Ok(Renewal { renewed, cert_pem, key_pem: None, fingerprint });
        }
        let subject = Subject::of_certificate(old).map_err(|problem| failed(problem.into()))?;
        let (cert_pem, key_pem, fingerprint) = if new_key {
            let key = KeyPair::generate().map_err(|source| PkiError::Issue { subject: subject.uri(), source })?;
            let fingerprint = fingerprint(&rcgen::PublicKeyData::subject_public_key_info(&key));
            (self.sign(&subject, &key, validity)?, Some(key.serialize_pem()), fingerprint)
        } else {
            let raw = certificate.public_key().raw;
            let key = SubjectPublicKeyInfo::from_der(raw).map_err(|_| failed(RenewProblem::Key))?;
            (self.sign(&subject, &key, validity)?, None, fingerprint(raw))
        };
        Ok(Renewal { renewed: Renewed::Leaf(subject), cert_pem, key_pem, fingerprint })
    }
}

impl Renewal {
    /// Replaces the certificate, and the key when there is a new one, with the owner and mode of the old files. Both are
    /// complete on disk before either is renamed; the old key is `<key>.old` meanwhile, and is put back when the certificate
    /// cannot be replaced. A program that reads the two in between finds that they do not belong together, and an agent then
    /// keeps what it has until the second change.
    pub fn replace(&self, certificate: &Path, key: Option<&Path>) -> Result<(), PkiError> {
        let new_certificate = files::stage(certificate, self.cert_pem.as_bytes())?;
        let (Some(pem), Some(path)) = (&self.key_pem, key) else { return Ok(new_certificate.commit()?) };
        let new_key = files::stage_private(path, pem.as_bytes())?;
        let old_key = new_key.keep_old()?;
        let replaced = new_key.commit().and_then(|()| new_certificate.commit());
        match (replaced, old_key) {
            (Ok(()), Some(old_key)) => Ok(old_key.remove()?),
            (Ok(()), None) => Ok(()),
            (Err(error), old_key) => {
                old_key.map_or(Ok(()), files::KeptOld::restore)?;
                Err(error.into())
            }
        }
    }

    /// Writes the certificate to a new file, when there is no new key.
    pub fn write_new(&self, certificate: &Path) -> Result<(), PkiError> {
        Ok(files::write_new(certificate, self.cert_pem.as_bytes(), 0o644)?)
    }
}
